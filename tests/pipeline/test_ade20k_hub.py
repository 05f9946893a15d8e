"""ADE20K's Parquet form says what its files say; masks that do not fit are kept, not assigned."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog import Catalog
from catalog.record import Record, Refusal
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.sources import find
from pipeline.sources.ade20k import _several, _truth

DATA = Path(__file__).parent.parent / "data/ade20k"
FOLDER = DATA / "images/ADE/training/urban/street"
STEM = "ADE_train_00000001"


def hub_row(**changes: Any) -> dict[str, Any]:
    """Return the fixture's picture as a row of the hub's form, some fields changed."""
    said = json.loads((FOLDER / f"{STEM}.json").read_text("latin-1"))["annotation"]
    png = sorted((FOLDER / STEM).glob("instance_*.png"))
    objects = []
    for entry in said["object"]:
        parts = entry["parts"]
        has, of = _several(parts["hasparts"]), _several(parts["ispartof"])
        objects.append(
            {
                "id": entry["id"],
                "name": entry["name"],
                "name_ndx": entry["name_ndx"],
                "hypernym": _several(entry["hypernym"]),
                "raw_name": entry["raw_name"],
                "attributes": ", ".join(_several(entry["attributes"])),
                "depth_ordering_rank": None,
                "occluded": _truth(entry["occluded"]),
                "crop": _truth(entry["crop"]),
                "parts": {
                    "is_part_of": of[0] if of else None,
                    "part_level": int(parts["part_level"]),
                    "has_parts": has,
                },
                "polygon": {**entry["polygon"], "click_date": ["2010-01-02"]},
            }
        )

    def bytes_of(file: Path) -> dict[str, Any]:
        return {"bytes": file.read_bytes(), "path": None}

    masks = [bytes_of(png[min(n, len(png) - 1)]) for n in range(len(objects))]
    pngs = [FOLDER / f"{STEM}_seg.png", FOLDER / f"{STEM}_parts_1.png"]
    return {
        "image": bytes_of(FOLDER / f"{STEM}.jpg"),
        "segmentations": [bytes_of(file) for file in pngs],
        "instances": masks,
        "filename": f"{STEM}.jpg",
        "folder": said["folder"],
        "source": {"folder": "f", "filename": "g", "origin": "h"},
        "scene": _several(said["scene"]),
        "objects": objects,
    } | changes


def write(root: Path, *rows: dict[str, Any]) -> Path:
    (root / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), root / "data/train-00000-of-00001.parquet")
    return root


def read(root: Path) -> list[Record | Refusal]:
    return list(find("ade20k").read(root, "train"))


def test_the_hubs_form_says_what_the_files_say(tmp_path: Path) -> None:
    [files] = [r for r in find("ade20k").read(DATA, "train") if isinstance(r, Record)]
    [hub] = read(write(tmp_path, hub_row()))
    assert isinstance(hub, Record)
    assert hub.native_id == files.native_id
    assert hub.messages == files.messages
    assert hub.extra["masks"] == files.extra["masks"]
    assert hub.extra["scene"] == files.extra["scene"]
    for ours, theirs in zip(hub.regions, files.regions, strict=True):
        assert (ours.label, ours.box, ours.polygons) == (theirs.label, theirs.box, theirs.polygons)
        for key in ("id", "name_ndx", "occluded", "crop", "hasparts", "ispartof", "part_level"):
            assert ours.extra[key] == theirs.extra[key]
        assert ours.extra["click_date"] == ["2010-01-02"]
    assert hub.regions[0].rle == files.regions[0].rle
    ingest(Job(source="ade20k", root=tmp_path), tmp_path / "catalog")
    [row] = Catalog.open(tmp_path / "catalog").samples().collect().to_dicts()
    assert (row["widths"], row["heights"]) == ([40], [30])


@pytest.mark.parametrize("wrong", ["fewer", "elsewhere"])
def test_masks_that_do_not_fit_their_objects_stand_beside_them(wrong: str, tmp_path: Path) -> None:
    given = hub_row()
    if wrong == "fewer":
        given["instances"] = given["instances"][:1]
    else:
        given["objects"][0]["polygon"] = {"x": [390, 399, 399], "y": [9, 9, 20], "click_date": []}
    [record] = read(write(tmp_path, given))
    assert isinstance(record, Record)
    assert all(region.rle is None for region in record.regions)
    assert len(record.extra["instances"]) == len(given["instances"])


def test_a_row_that_lacks_something_is_refused_alone(tmp_path: Path) -> None:
    broken = hub_row(instances=[{"bytes": b"no picture", "path": None}])
    items = read(write(tmp_path, hub_row(), broken, hub_row(filename=None)))
    assert [getattr(item, "reason", "") for item in items] == ["", "damaged_mask", "wrong_type"]
