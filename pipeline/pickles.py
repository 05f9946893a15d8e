"""Pickles read without running what they name: plain values, and numpy arrays where allowed."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from catalog.errors import DataError

_ARRAY_MODULES = (
    "numpy",
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "numpy.core.numeric",
    "numpy._core.numeric",
)


class _Restricted(pickle.Unpickler):
    """Lists, dicts, numbers and text need no name; a pickle that names anything else is hostile."""

    arrays = False

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if self.arrays and module in _ARRAY_MODULES and name in _ARRAY_NAMES:
            return _ARRAY_NAMES[name]
        raise pickle.UnpicklingError(f"it asks to load {module}.{name}")


class _WithArrays(_Restricted):
    arrays = True


class _Array:
    """Stands for `numpy.ndarray`: as a name it is needed, called it would take memory at will."""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes the bytes of Python 3."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _empty(kind: type, shape: tuple[int, ...], code: object) -> Any:
    """Make the empty array that a pickled array is filled into; its size comes with its bytes."""
    if kind is not _Array or tuple(shape) != (0,):
        raise pickle.UnpicklingError(f"it asks for an array of shape {shape!r}")
    return np.ndarray((0,), np.uint8)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("it asks for an array of objects")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any = None) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(data, bytes | str):
        raise pickle.UnpicklingError("it asks for a scalar that is no number")
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype)[0]


_ARRAY_NAMES: dict[str, Callable[..., Any]] = {
    "_reconstruct": _empty,
    "_frombuffer": _from_buffer,
    "ndarray": _Array,
    "dtype": np.dtype,
    "scalar": _scalar,
}


def load_pickle(
    file: Path, *, arrays: bool = False, encodings: tuple[str, ...] = ("ASCII",)
) -> Any:
    """Return what a pickle holds; `encodings` are tried in turn for the text of Python 2.

    Raises:
        DataError: the pickle is broken, or asks for code.
    """
    data = file.read_bytes()
    reader = _WithArrays if arrays else _Restricted
    for encoding in encodings[:-1]:
        try:
            return _load(reader, data, encoding, file)
        except UnicodeDecodeError:
            continue
    try:
        return _load(reader, data, encodings[-1], file)
    except UnicodeDecodeError as error:
        raise _broken(file, error) from error


def _load(reader: type[_Restricted], data: bytes, encoding: str, file: Path) -> Any:
    try:
        return reader(io.BytesIO(data), encoding=encoding).load()
    except UnicodeDecodeError:
        raise
    except Exception as error:  # a broken pickle raises whatever its opcodes run into
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception) -> DataError:
    return DataError(
        f"not a readable pickle: {error}",
        file=file,
        fix="take the file from the official release; never load one from elsewhere",
    )
