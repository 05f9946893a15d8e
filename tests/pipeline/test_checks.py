"""What may enter: good pictures pass, every kind of bad one has its own reason."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from catalog.record import ImageRef, Message, Record, Region
from pipeline.checks import Check, Refused, check_record, inside, measure, read_picture
from tests.official import write_picture


def encoded(format: str, size: tuple[int, int] = (64, 48), exif: int | None = None) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    options = {}
    if exif is not None:
        tags = Image.Exif()
        tags[0x0112] = exif
        options["exif"] = tags
    Image.fromarray(noise).save(buffer, format, **options)
    return buffer.getvalue()


CHECKS: tuple[Check, ...] = ("decode", "markers")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_whole_picture_is_measured(format: str, check: Check) -> None:
    picture = measure(encoded(format), check)
    assert (picture.format, picture.width, picture.height) == (format, 64, 48)


@given(cut=st.floats(0.2, 0.95), exif=st.sampled_from([None, 6]))
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_truncated_picture_is_refused_wherever_it_ends(
    format: str, check: Check, cut: float, exif: int | None
) -> None:
    data = encoded(format, exif=exif)
    with pytest.raises(Refused) as refused:
        measure(data[: int(len(data) * cut)], check)
    assert refused.value.reason in {"damaged_picture", "not_a_picture"}


def test_bytes_after_a_jpegs_end_and_a_thumbnail_before_it_do_not_deceive_its_markers() -> None:
    data, thumbnail = encoded("JPEG"), encoded("JPEG", (8, 8))
    assert measure(data + b"camera's own", "markers") == measure(data)
    shown = b"\xff\xe2" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
    whole = data[:2] + shown + data[2:]
    assert measure(whole, "markers") == measure(data)
    with pytest.raises(Refused):
        measure(whole[:-2], "markers")


def test_wrong_bytes_within_a_jpeg_are_seen_by_decoding_it() -> None:
    data = bytearray(encoded("JPEG"))
    middle = len(data) * 3 // 4
    data[middle : middle + 200] = bytes(200)
    assert measure(bytes(data), "markers").format == "JPEG"
    with pytest.raises(Refused) as refused:
        measure(bytes(data), "decode")
    assert refused.value.reason == "damaged_picture"


def test_exif_orientation_turns_the_displayed_size() -> None:
    picture = measure(encoded("JPEG", exif=6))
    assert (picture.width, picture.height, picture.displayed) == (64, 48, (48, 64))


def test_an_orientation_in_xmp_alone_turns_it_too() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (50, 20)).save(buffer, "JPEG", xmp=b'<x tiff:Orientation="6"/>')
    assert measure(buffer.getvalue()).displayed == (20, 50)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_measures_the_same_with_and_without_pillow(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (50, 20)).save(buffer, "JPEG")
    data = buffer.getvalue()
    quick = measure(data)
    slow = measure(data[:2] + b"\xff\xfe\x00\x06MPF\0" + data[2:])
    assert quick == slow
    assert (quick.width, quick.height, quick.format) == (50, 20, "JPEG")


def test_exif_counts_behind_other_segments_however_long() -> None:
    data = encoded("JPEG", exif=6)
    filler = b"\xff\xe2" + (65_000).to_bytes(2) + b"\xff\xda" * 32_499
    assert measure(data[:2] + filler * 2 + data[2:]).displayed == (48, 64)


def test_text_and_nothing_are_not_pictures() -> None:
    for data, reason in ((b"<html>not found</html>", "not_a_picture"), (b"", "empty_file")):
        with pytest.raises(Refused) as refused:
            measure(data)
        assert refused.value.reason == reason


def test_a_decompression_bomb_is_refused_before_it_unfolds() -> None:
    buffer = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(buffer, "PNG")
    with pytest.raises(Refused) as refused:
        measure(buffer.getvalue())
    assert refused.value.reason == "decompression_bomb"


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/passwd", "a/../../b.jpg", "", "a\\..\\..\\b"]
)
def test_paths_that_climb_out_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(Refused) as refused:
        inside(tmp_path, path)
    assert refused.value.reason == "unsafe_path"


def test_missing_files_loops_and_zip_bombs_have_their_own_reasons(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(50_000_000))
    for ref, reason in (
        (ImageRef(path="none.jpg"), "missing_file"),
        (ImageRef(path="loop.jpg"), "symlink_loop"),
        (ImageRef(path="bomb.zip", member="a.jpg"), "zip_bomb"),
        (ImageRef(path="bomb.zip", member="b.jpg"), "missing_file"),
    ):
        with pytest.raises(Refused) as refused:
            read_picture(tmp_path, ref)
        assert refused.value.reason == reason


def test_a_member_of_a_zip_is_read_in_place(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 1)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "folder/a.png")
    found = read_picture(tmp_path, ImageRef(path="all.zip", member="folder/a.png"))
    assert found == (tmp_path / "a.png").read_bytes()


def record(**fields: object) -> Record:
    values = {"source": "s", "split": "train", "native_id": "1", "task": "vqa"} | fields
    return Record(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"answers": ()}, "no_answer"),
        ({"messages": (Message(role="assistant", content=" "),)}, "empty_answer"),
        ({"messages": (Message(role="user", content="\ud83d"),)}, "broken_text"),
        ({"regions": (Region(label="a", box=(0, 0, 1, 1)),)}, "wrong_image_index"),
    ],
)
def test_each_senseless_record_has_its_reason(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        check_record(record(**fields))
    assert refused.value.reason == reason
