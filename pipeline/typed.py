"""What people type: a field that is not known is refused, and so is `yes` where a number is meant."""

from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import CoreSchema, no_info_before_validator_function


def _no_boolean(problem: Literal["int_type", "float_type"], value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticKnownError(problem)
    return value


WHOLE, NUMBER = partial(_no_boolean, "int_type"), partial(_no_boolean, "float_type")


def _guarded(schema: Any) -> Any:
    """Return a schema whose numbers refuse booleans: pydantic reads them as 0 and 1."""
    match schema:
        case {"type": "int" | "float" as kind}:
            return no_info_before_validator_function(WHOLE if kind == "int" else NUMBER, schema)
        case {"type": "function-before", "function": {"function": check}} if check in (
            WHOLE,
            NUMBER,
        ):
            return schema
        case dict():
            return {key: _guarded(part) for key, part in schema.items()}
        case list() | tuple():
            return type(schema)(map(_guarded, schema))
    return schema


class Typed(BaseModel):
    """A model of a file, or of a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema: CoreSchema = _guarded(handler(source))
        return schema
