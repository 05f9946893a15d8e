"""Values of other containers than JSON -> values that JSON can hold: of pickles, Parquet, Python lists."""

from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from pipeline.sources.base import Bad

SMALLEST, LARGEST = -(2**63), 2**64 - 1
"""Whole numbers that a record's JSON can hold."""


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: arrays as lists, bytes and dates as text.

    >>> plain({1: np.float64(0.5), "a": (np.array([1, 2]), b"x")})
    {'1': 0.5, 'a': [[1, 2], 'x']}

    Raises:
        Bad: it has no such form, or is a text that is not valid Unicode.
    """
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, date | time | timedelta | Decimal):
        return str(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Bad("broken_text", f"not valid Unicode: {error.reason}") from error
    elif not isinstance(value, bool | float | None) and not (
        isinstance(value, int) and SMALLEST <= value <= LARGEST
    ):
        raise Bad("wrong_type", f"{value!r:.80} is no value of JSON")
    return value
