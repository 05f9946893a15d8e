"""What people type: no boolean is a number, wherever in a model it stands."""

from typing import Any, Literal

import pytest
from pydantic import ValidationError

from model.config import RunConfig
from pipeline.typed import Typed
from tests.model.models import values


class Inner(Typed):
    whole: int = 1


class Outer(Typed):
    number: float | None = None
    pairs: tuple[tuple[int, float], ...] = ()
    named: dict[str, float] | None = None
    inner: Inner | Literal["none"] = "none"
    switch: bool = False
    either: bool | int = 0


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"number": True}, ("number",)),
        ({"pairs": [[1, 2], [False, 2]]}, ("pairs", 1, 0)),
        ({"pairs": [[1, True]]}, ("pairs", 0, 1)),
        ({"named": {"a": False}}, ("named", "a")),
        ({"inner": {"whole": True}}, ("inner", "Inner", "whole")),
    ],
)
def test_a_boolean_is_no_number(given: dict[str, Any], place: tuple[object, ...]) -> None:
    with pytest.raises(ValidationError) as error:
        Outer.model_validate(given)
    first = error.value.errors()[0]
    assert (first["loc"], first["type"] in ("int_type", "float_type")) == (place, True)


def test_numbers_and_switches_are_read_as_before() -> None:
    read = Outer.model_validate(
        {
            "number": "1e-4",
            "pairs": [["3", 2]],
            "inner": {"whole": 2.0},
            "switch": True,
            "either": True,
        }
    )
    assert (read.number, read.pairs, read.inner) == (1e-4, ((3, 2.0),), Inner(whole=2))
    assert read.switch is True
    assert read.either is True


@pytest.mark.parametrize(
    "changed",
    [
        {"optim": {"lr": True}},
        {"micro_batch": True},
        {"stages": [{"name": "a", "micro_batch": True}]},
    ],
)
def test_a_run_takes_no_boolean_for_a_number(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"should be a valid (number|integer)"):
        RunConfig.model_validate(values(**changed))
