"""What may enter the catalog: pictures that decode, paths that stay inside, records that make sense."""

import errno
import io
import os
import struct
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Literal

import simplejpeg
from PIL import Image, UnidentifiedImageError

from catalog.record import ImageRef, Record
from pipeline.containers import read_member
from pipeline.limits import MAX_BYTES, MAX_PIXELS, Refused

Check = Literal["decode", "markers"]
"""How far pictures are looked into: each decoded to its last byte, or JPEGs by their markers alone."""
EXIF_ORIENTATION = 0x0112
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
SEGMENT = struct.Struct(">BBH")
"""Of a JPEG: 0xFF, its kind, and its size without these two bytes."""
_UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    MemoryError,
    Image.DecompressionBombError,
)

# Our own limit stands before Pillow's, which would warn on pictures that official sets hold.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a picture's bytes say of it."""

    format: str
    """Pillow's name of the format found in the bytes: JPEG, PNG, ..."""
    width: int
    height: int
    """As stored, before the EXIF orientation."""
    orientation: int
    """EXIF orientation, 1 to 8."""

    @property
    def displayed(self) -> tuple[int, int]:
        """Width and height after the EXIF orientation."""
        turned = self.orientation >= 5
        return (self.height, self.width) if turned else (self.width, self.height)


def inside(root: Path, path: str) -> Path:
    """Return `root / path`.

    Links inside the root may lead elsewhere: picture folders are often linked.

    Raises:
        Refused: `unsafe_path`, the path is absolute or climbs out of the root.
    """
    parts = path.replace("\\", "/")
    if not path or parts[0] == "/" or ".." in parts.split("/") or "\0" in path:
        raise Refused("unsafe_path", f"{path!r} does not stay inside the dataset folder")
    return root / parts


def read_picture(root: Path, ref: ImageRef) -> bytes:
    """Return the bytes of a picture file, or of a picture inside a container.

    Raises:
        Refused: `unsafe_path`, `missing_file`, `symlink_loop`, `unreadable_file`, `too_large`,
            `zip_bomb`, and what the container says.
    """
    path = inside(root, ref.path)
    try:
        if ref.member is not None:
            return read_member(path, ref.member)
        _check_size(path.stat().st_size, ref)
        return path.read_bytes()
    except (OSError, RuntimeError) as error:
        raise _unreadable(ref, error) from error


def read_into(memory: memoryview, root: Path, ref: ImageRef) -> int:
    """Read a picture to the beginning of memory for `MAX_BYTES`; return its size.

    Raises:
        Refused: as `read_picture`.
    """
    if ref.member is not None:
        data = read_picture(root, ref)
        _check_size(len(data), ref)
        memory[: len(data)] = data
        return len(data)
    try:
        with FileIO(inside(root, ref.path)) as file:
            size = os.fstat(file.fileno()).st_size
            _check_size(size, ref)
            return file.readinto(memory[:size])
    except (OSError, RuntimeError) as error:
        raise _unreadable(ref, error) from error


def _check_size(size: int, ref: ImageRef) -> None:
    if size > MAX_BYTES:
        name = ref.path if ref.member is None else f"{ref.path}:{ref.member}"
        raise Refused("too_large", f"{name} has {size:,} bytes, the limit is {MAX_BYTES:,}")


def _unreadable(ref: ImageRef, error: OSError | RuntimeError) -> Refused:
    """Return the reason to refuse a picture for what the system says about its file."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Refused("missing_file", f"{ref.path} is not there")
    if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:
        return Refused("symlink_loop", f"{ref.path} is a link to itself")
    return Refused("unreadable_file", f"{ref.path}: {error.strerror or error}")


def measure(data: bytes | memoryview, check: Check = "decode") -> Picture:
    """Check a picture and return its format and size.

    By its markers, a JPEG that was cut off is noticed as well; bytes that are wrong in its midst are not.

    Raises:
        Refused: `empty_file`, `not_a_picture`, `decompression_bomb`, `damaged_picture`.
    """
    if not data:
        raise Refused("empty_file", "the file has no bytes")
    if (plain := _plain_jpeg(data, check)) is not None:
        return plain
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise Refused("decompression_bomb", str(error)) from error
    except UnidentifiedImageError as error:
        # Pillow's words hold an address, other ones in every run.
        raise Refused("not_a_picture", "no known picture format") from error
    except _UNREADABLE as error:
        raise Refused("not_a_picture", f"no known picture format: {error}") from error
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise Refused(
                "decompression_bomb", f"{width} x {height} pixels, the limit is {MAX_PIXELS:,}"
            )
        try:
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
            _decode(image, data, check)
        except _UNREADABLE as error:
            raise Refused("damaged_picture", f"does not decode to its end: {error}") from error
        return Picture(
            format=image.format or "unknown",
            width=width,
            height=height,
            orientation=orientation if orientation in range(1, 9) else 1,
        )


def _plain_jpeg(data: bytes | memoryview, check: Check) -> Picture | None:
    """Measure a JPEG without EXIF, XMP or further pictures; None for any other, and any that is not whole.

    Pillow would take as long to open it as it takes to decode.
    """
    if _tells_more(data):
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        if width * height > MAX_PIXELS or space not in ("Gray", "YCbCr", "RGB"):
            return None
        _read_jpeg(data, check)
    except ValueError:
        return None  # Pillow says what is wrong
    return Picture(format="JPEG", width=width, height=height, orientation=1)


def _tells_more(data: bytes | memoryview) -> bool:
    """Tell whether a segment before the first scan holds EXIF, XMP or further pictures, or is none.

    Format: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B.
    """
    if data[:2] != b"\xff\xd8":
        return True
    place = 2
    while place + SEGMENT.size <= len(data):
        mark, kind, size = SEGMENT.unpack_from(data, place)
        if mark != 0xFF or kind == 0xDA:
            return bool(mark != 0xFF)
        # EXIF, and XMP, which may tell the orientation too; or further pictures.
        if kind == 0xE1 or (kind == 0xE2 and bytes(data[place + 4 : place + 8]) == b"MPF\0"):
            return True
        place += 2 + size
    return True


def _read_jpeg(data: bytes | memoryview, check: Check) -> None:
    """Decode a JPEG, unless its markers are enough.

    Raises:
        ValueError: it is not whole.
    """
    if check == "markers" and _ends(data):
        return
    # strict: a warning, such as a premature end, is an error.
    simplejpeg.decode_jpeg(
        data,
        colorspace="GRAY",
        min_height=1,
        min_width=1,
        min_factor=8,
        fastdct=True,
        strict=True,
    )


def _ends(data: bytes | memoryview) -> bool:
    """Tell whether a JPEG's last scan is followed by the end of the picture."""
    if data[-2:] == END_OF_IMAGE:
        return True
    found = bytes(data)
    return found.rfind(END_OF_IMAGE) > found.rfind(START_OF_SCAN)


def _decode(image: Image.Image, data: bytes | memoryview, check: Check) -> None:
    """Read the picture to its last byte; JPEGs at an eighth of the size, which reads all of it."""
    if image.format == "JPEG" and image.mode in ("L", "RGB"):
        _read_jpeg(data, check)
    else:
        image.load()


def check_record(record: Record) -> None:
    """Check what holds for every record; where its boxes lie is `pipeline.outside`' business.

    Raises:
        Refused: `no_answer`, `empty_answer`, `broken_text`, `wrong_image_index`.
    """
    if record.answers is not None and not record.answers and not record.regions:
        raise Refused("no_answer", "the list of answers is empty")
    last = record.messages[-1] if record.messages else None
    if last is not None and last.role == "assistant" and not last.content.strip():
        raise Refused("empty_answer", "the last assistant turn is blank")
    for message in record.messages:
        try:
            message.content.encode()
        except UnicodeEncodeError as error:
            raise Refused("broken_text", f"not valid Unicode: {error.reason}") from error
    for region in record.regions:
        if not 0 <= region.image < len(record.images):
            raise Refused(
                "wrong_image_index",
                f"region {region.label!r} is on picture {region.image} of {len(record.images)}",
            )


def sound(record: Record) -> bool:
    """Tell whether a record passes every check, whatever the sizes of its pictures."""
    if record.regions:
        return False
    try:
        check_record(record)
    except Refused:
        return False
    return True


__all__ = [
    "Check",
    "Picture",
    "Refused",
    "check_record",
    "inside",
    "measure",
    "read_into",
    "read_picture",
    "sound",
]
