"""What a model refuses, in plain words: where it stands, what is wrong with it, and the fix."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from rapidfuzz import fuzz, process

LISTS = ("tuple_type", "list_type", "set_type")
MAPPINGS = ("dict_type", "model_type", "model_attributes_type", "mapping_type")
NUMBERS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number that is not infinite",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing that a model refuses."""

    place: tuple[int | str, ...]
    """Keys and positions that lead there in what was given; of a missing field, where it belongs."""
    problem: str
    fix: str

    @property
    def field(self) -> str:
        return ".".join(map(str, self.place)) or "(the whole file)"


def mistakes(error: ValidationError, model: type[BaseModel], values: Any) -> list[Mistake]:
    """Return what a model refuses in values, in the order of its fields, each place once."""
    found: dict[tuple[int | str, ...], Mistake] = {}
    problems = error.errors(include_url=False)
    for problem in problems:
        loc = problem["loc"]
        # A list whose entries are refused counts as too short: the entries are what is wrong.
        if problem["type"] == "too_short" and any(
            other["loc"][: len(loc)] == loc and len(other["loc"]) > len(loc) for other in problems
        ):
            continue
        place = _place(values, loc, missing=problem["type"] == "missing")
        # The members of a union each have their complaint: the first says enough.
        found.setdefault(place, _mistake(place, problem, _models_at(model, loc)))
    return list(found.values())


def _place(values: Any, loc: tuple[int | str, ...], *, missing: bool) -> tuple[int | str, ...]:
    """Return a place without what stands in the model alone, such as a union's members."""
    place: list[int | str] = []
    for number, key in enumerate(loc):
        there = (isinstance(values, dict) and key in values) or (
            isinstance(values, list | tuple) and isinstance(key, int) and key < len(values)
        )
        if there:
            values = values[key]
        if there or (missing and number == len(loc) - 1):
            place.append(key)
    return tuple(place)


def _mistake(
    place: tuple[int | str, ...], problem: ErrorDetails, models: list[type[BaseModel]]
) -> Mistake:
    kind, given, context = problem["type"], problem["input"], problem.get("ctx", {})
    name = place[-1] if place else ""
    known = list(dict.fromkeys(field for model in models for field in model.model_fields))
    match kind:
        case "extra_forbidden":
            what, fix = "no such field", f"{_near(str(name), known)}it takes {', '.join(known)}"
        case "missing":
            what, fix = "is missing", f"add `{name}: …`"
        case "value_error" | "assertion_error":
            what, fix = problem["msg"].partition(", ")[2], "correct this field"
        case "literal_error":
            values = context["expected"].replace("'", "").replace(" or ", ", ")
            what = f"is {_said(given)}, and wants one of {values}"
            fix = f"{_near(str(given), values.split(', '))}write one of these"
        case "union_tag_invalid" | "union_tag_not_found":
            told = context["discriminator"].strip("'_()")  # a function's name where it is one
            tags = context.get("expected_tags", "").replace("'", "")
            tag = context.get("tag")
            what = f"has no `{told}`" if tag is None else f"has the {told} {tag!r}, which is none"
            fix = (
                f"{_near(str(tag), tags.split(', '))}one of {tags}" if tags else f"add `{told}: …`"
            )
        case "too_short" | "too_long":
            limit = "at least" if kind == "too_short" else "at most"
            most = context["min_length" if kind == "too_short" else "max_length"]
            what = f"has {context['actual_length']} entries, and wants {limit} {most}"
            fix = "add to the list" if kind == "too_short" else "take some out of the list"
        case _ if kind in LISTS:
            what = f"is {_said(given)}, and wants a list"
            held = given if isinstance(given, str | int | float) else "…"
            fix = f"write `{name}: [{held}]`, or a line `- …` for each"
        case _ if kind in MAPPINGS:
            needed = [
                n for m in models for n, field in m.model_fields.items() if field.is_required()
            ]
            wanted = [] if kind == "dict_type" else needed or known[:1]
            what = f"is {_said(given)}, and wants names with values"
            names = ", ".join(f"{each}: …" for each in wanted) or "NAME: …"
            mark = "-" if isinstance(name, int) else f"{name}:"
            fix = f"write `{mark} {{{names}}}`, or a line for each" if place else f"write {names}"
        case _ if kind in BOUNDS:
            key, words = BOUNDS[kind]
            bound = f"{words} {context[key]:g}"
            what, fix = f"is {given}, and wants {bound}", f"write a number of {bound}"
        case _ if kind in NUMBERS:
            what, fix = f"is {_said(given)}, and wants {NUMBERS[kind]}", f"write {NUMBERS[kind]}"
        case "string_type" | "path_type":
            such = f", such as '{given}'" if isinstance(given, int | float) else ""
            what, fix = f"is {_said(given)}, and wants text", f"write text{such}"
        case "string_too_short":
            what, fix = "is empty", "write text"
        case _:
            what, fix = problem["msg"], "change this value"
    return Mistake(place=place, problem=what, fix=fix)


def _said(value: Any) -> str:
    """
    >>> [_said(value) for value in ("hi", 3, None, True, [1], {"a": 1})]
    ["the text 'hi'", 'the number 3', 'empty', 'true', 'a list', 'names with values']
    """
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {value!r}" if len(value) < 60 else f"the text {value[:50]!r}…"
        case list() | tuple():
            return "a list"
        case dict():
            return "names with values"
    return f"a {type(value).__name__}"


def _near(word: str, known: list[str]) -> str:
    near = process.extractOne(word, known, scorer=fuzz.ratio, score_cutoff=60)
    return f"did you mean {near[0]!r}? " if near else ""


def _models_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """Return the models at a place of a model; around it, where it is a field without its own."""
    models, around = [model], [model]
    for key in loc:
        fields = [m.model_fields[key] for m in models if key in m.model_fields]
        if fields:
            around, models = models, [m for field in fields for m in _models(field.annotation)]
        else:
            models = [m for m in models if key in _kinds(m)] or models
    return models or around


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _kinds(model: type[BaseModel]) -> Iterable[object]:
    """Return the values by which a union tells this model from its others."""
    annotations = [field.annotation for field in model.model_fields.values()]
    return [value for a in annotations if get_origin(a) is Literal for value in get_args(a)]
