"""A YAML file becomes one validated model; a mistake becomes file, line, field and allowed values."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from catalog.errors import UserError

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
    try:
        return model.model_validate(values, context={"folder": path.parent})
    except ValidationError as error:
        first = [_line(path, root, problem) for problem in error.errors()]
        raise UserError("\n".join(first), fix="correct the fields named above") from error


def _line(path: Path, root: yaml.Node | None, problem: object) -> str:
    assert isinstance(problem, dict)
    place = tuple(problem["loc"])
    field = ".".join(str(key) for key in place) or "(the whole file)"
    message = problem["msg"]
    if problem["type"] == "extra_forbidden":
        message = "no such field"
    return f"{path}, line {_find(root, place)}, field {field}: {message}"


def _find(node: yaml.Node | None, place: tuple[object, ...]) -> int:
    """Return the line, counted from 1, of the deepest part of `place` that the file has."""
    line = node.start_mark.line + 1 if node else 1
    for key in place:
        if isinstance(node, yaml.MappingNode):
            pairs = [(k, v) for k, v in node.value if k.value == str(key)]
            if not pairs:
                # Names of union members stand in `loc` but not in the file.
                continue
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
            if key >= len(node.value):
                break
            node = node.value[key]
            line = node.start_mark.line + 1
    return line
