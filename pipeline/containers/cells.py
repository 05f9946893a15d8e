"""The bytes of a picture out of a decoded cell: raw, in an HF Image struct, as text, as an array."""

import base64
import binascii
import io
from typing import Any

import numpy as np
from PIL import Image

from pipeline.limits import MAX_BYTES, MAX_PIXELS, Refused


def step_into(value: Any, path: str) -> Any:
    """Follow a dotted path: names into objects, whole numbers into lists.

    >>> step_into({"images": [{"bytes": b"a"}]}, "images.0.bytes")
    b'a'

    Raises:
        Refused: `missing_file`, the path leads nowhere.
    """
    if not path:
        return value
    if isinstance(value, dict):
        if path in value:  # a name may hold dots itself
            return value[path]
        head, _, tail = path.partition(".")
        while tail or head in value:
            if head in value:
                return step_into(value[head], tail)
            more, _, tail = tail.partition(".")
            head = f"{head}.{more}"
    elif isinstance(value, list | tuple):
        head, _, tail = path.partition(".")
        if head.isdecimal() and int(head) < len(value):
            return step_into(value[int(head)], tail)
    raise Refused("missing_file", f"nothing at {path!r}")


def picture_bytes(value: Any, name: str) -> bytes:
    """Return the bytes of a picture that a cell holds; `name` is for the message.

    Raises:
        Refused: `missing_file`, `wrong_type`, `bad_base64`, `too_large`, `decompression_bomb`.
    """
    if isinstance(value, dict):
        if value.get("bytes") is None:
            raise Refused("missing_file", f"{name} holds no bytes")
        value = value["bytes"]
    if value is None:
        raise Refused("missing_file", f"{name} is empty")
    if isinstance(value, bytes | bytearray | memoryview):
        if len(value) > MAX_BYTES:
            raise Refused(
                "too_large", f"{name} has {len(value):,} bytes, the limit is {MAX_BYTES:,}"
            )
        return bytes(value)
    if isinstance(value, str):
        return decode_text(value, name)
    if isinstance(value, np.ndarray):
        return encode_array(value, name)
    raise Refused("wrong_type", f"{name} is {type(value).__name__}, not a picture")


def decode_text(text: str, name: str) -> bytes:
    """Return the bytes of base64 text, with or without the head of a data URL.

    >>> decode_text("data:image/png;base64,aGk=", "x"), decode_text("aG\\nk=", "x")
    (b'hi', b'hi')
    """
    if len(text) > MAX_BYTES * 4 // 3 + 1024:
        raise Refused("too_large", f"{name} has {len(text):,} characters of base64")
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise Refused("bad_base64", f"{name} is a data URL without base64: {head!r:.60}")
    packed = "".join(text.split()) if any(c in text for c in "\n\r \t") else text
    try:
        return base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("bad_base64", f"{name} is not base64: {error}") from error


def encode_array(array: Any, name: str) -> bytes:
    """Return an array of pixels, (H, W), (H, W, C) or (C, H, W) uint8 or bool, as PNG."""
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shaped or 0 in array.shape:
        raise Refused("wrong_type", f"{name} is an array {array.dtype} {array.shape}, not pixels")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise Refused("decompression_bomb", f"{name} has {array.shape} pixels")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
