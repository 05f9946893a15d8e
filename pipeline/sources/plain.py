"""Values of other containers than JSON -> values that JSON can hold: of pickles, Parquet, Python lists."""

from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: arrays and sets as lists, bytes and dates as text.

    >>> plain({1: np.float64(0.5), "a": (np.array([1, 2]), b"x")})
    {'1': 0.5, 'a': [[1, 2], 'x']}
    """
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, date | time | timedelta | Decimal):
        return str(value)
    return value
