"""A YAML file becomes one validated model; a mistake becomes file, line, field and allowed values."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from catalog.errors import UserError
from pipeline.explain import mistakes

Model = TypeVar("Model", bound=BaseModel)


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Return the validated content of a YAML file.

    Validators find the file's folder as `info.context["folder"]`.

    Raises:
        UserError: the file is missing, is not YAML, or breaks the model.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{path}: no such file", fix="check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 at byte {error.start}", fix="save it as UTF-8"
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise UserError(f"{path}{line}: not YAML: {problem}", fix="correct this line") from error
    for key in _twice(root):
        raise UserError(
            f"{path}, line {key.start_mark.line + 1}: {key.value!r} stands twice here, and only the "
            "last would count",
            fix="keep one of them",
        )
    try:
        return model.model_validate(values, context={"folder": path.parent})
    except ValidationError as error:
        found = mistakes(error, model, values)
        lines = [f"{_at(path, root, each.place)}: {each.problem}" for each in found]
        fixes = [each.fix if len(found) == 1 else f"{each.field}: {each.fix}" for each in found]
        raise UserError("\n".join(lines), fix="\n".join(fixes)) from error


def _twice(root: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Yield the names that a mapping of the file has had before."""
    waiting: list[yaml.Node | None] = [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        # An alias is the node it stands for, and may stand inside it.
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in names:
                        yield key
                    names.add(key.value)
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def place_of(path: Path, *place: int | str) -> str:
    """Return a place in a YAML file as messages name it: file, line and field; the file, if it is gone."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return str(path)
    return _at(path, root, place)


def _at(path: Path, root: yaml.Node | None, place: tuple[int | str, ...]) -> str:
    field = ".".join(map(str, place)) or "(the whole file)"
    return f"{path}, line {_find(root, place)}, field {field}"


def _find(node: yaml.Node | None, place: tuple[object, ...]) -> int:
    """Return the line, counted from 1, of the deepest part of `place` that the file has."""
    line = node.start_mark.line + 1 if node else 1
    for key in place:
        if isinstance(node, yaml.MappingNode):
            pairs = [(k, v) for k, v in node.value if k.value == str(key)]
            if not pairs:
                break
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            if key >= len(node.value):
                break
            node = node.value[key]
            line = node.start_mark.line + 1
    return line
