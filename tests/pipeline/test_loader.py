"""The loader: the same global batches for any ranks and workers, and from any step on."""

import gc
import io
import json
import tracemalloc
from contextlib import suppress
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from PIL import Image

from catalog import Catalog
from catalog.errors import CuveeError, UserError
from catalog.images import Damaged
from catalog.repair import take_out
from pipeline.batch import IGNORE, IMAGE_TOKEN, Batch
from pipeline.buffers import Buffers
from pipeline.collate import Collator, Draft
from pipeline.encode import encode
from pipeline.image import decode, normalise
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.loader import PlanLoader
from pipeline.mixture import Mixture
from pipeline.plan import Plan
from pipeline.policy import ImagePolicy
from tests.benchmarks.photos import photos
from tests.official import write_alpaca, write_vqav2
from tests.pipeline.conftest import Build
from tests.tokenizer import make_tokenizer

TENSORS = ("tokens", "labels", "positions", "segments", "pixels")


def make_plan(folder: Path) -> Plan:
    ingest(
        Job(source="vqav2", root=write_vqav2(folder / "vqav2", questions=40)), folder / "catalog"
    )
    ingest(Job(source="alpaca", root=write_alpaca(folder / "alpaca", 30)), folder / "catalog")
    values = {
        "name": "try",
        "budget": {"epochs": 1},
        "sources": [{"source": "vqav2", "weight": 4}, {"source": "alpaca", "weight": 3}],
        "encoder": {"tokenizer": make_tokenizer(folder / "tok")},
        "image": {"kind": "slices", "size": 16, "tokens": 4, "max_slices": 4},
        "packing": {"tokens": 128, "packs_per_step": 8},
    }
    mixture = Mixture.model_validate(values)
    encode(Catalog.open(folder / "catalog"), mixture.encoder)
    return Plan.build(Catalog.open(folder / "catalog"), mixture)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return make_plan(tmp_path_factory.mktemp("plan"))


def joined(batches: list[Batch]) -> tuple[bytes, ...]:
    """Return the bytes of the global batch that the ranks' batches make in rank order."""
    return tuple(
        torch.cat([getattr(batch, name) for batch in batches]).numpy().tobytes() for name in TENSORS
    )


@pytest.fixture(scope="module")
def whole(plan: Plan) -> list[tuple[bytes, ...]]:
    """The bytes of every global batch."""
    return [joined([batch]) for batch in PlanLoader(plan, workers=0)]


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_global_batches_are_the_same_bytes(
    plan: Plan, whole: list[tuple[bytes, ...]], ranks: int, workers: int
) -> None:
    assert len(whole) == plan.steps > 2
    loaders = [PlanLoader(plan, rank=r, world_size=ranks, workers=workers) for r in range(ranks)]
    assert [joined(list(batches)) for batches in zip(*loaders, strict=True)] == whole


def test_ranks_may_change_at_any_step(plan: Plan, whole: list[tuple[bytes, ...]]) -> None:
    ranks = [1, 8, 2, 4]
    seen: list[tuple[bytes, ...]] = []
    while len(seen) < plan.steps:
        count = ranks[len(seen) % len(ranks)]
        loaders = [
            PlanLoader(plan, rank=rank, world_size=count, start_step=len(seen), workers=2)
            for rank in range(count)
        ]
        seen.append(joined([next(iter(loader)) for loader in loaders]))
        assert {loader.state()["step"] for loader in loaders} == {len(seen)}
    assert seen == whole


def test_from_any_step_on_it_is_as_if_it_never_stopped(
    plan: Plan, whole: list[tuple[bytes, ...]]
) -> None:
    for start in range(plan.steps + 1):
        loader = PlanLoader(plan, start_step=start)
        assert loader.state() == {"plan": plan.id, "step": start}
        assert [joined([batch]) for batch in loader] == whole[start:]
    assert len(json.dumps(loader.state())) < 1000


def test_a_batch_says_what_the_plan_says(plan: Plan) -> None:
    for batch in PlanLoader(plan):
        step = plan.step(batch.step)
        assert batch.loss_tokens == step.loss_tokens == int((batch.labels != IGNORE).sum())
        assert len(batch.pixels) == sum(pack.tiles for pack in step.packs)
        assert int((batch.tokens == IMAGE_TOKEN).sum()) == 4 * len(batch.pixels)
        filled = [int((row > 0).sum()) for row in batch.segments]
        assert filled == [pack.tokens for pack in step.packs]
        for segments, positions in zip(batch.segments, batch.positions, strict=True):
            for number in segments.unique():
                if number:
                    mine = positions[segments == number]
                    assert torch.equal(mine, torch.arange(len(mine)))


def test_a_damaged_picture_stops_the_run_with_sample_and_step(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    [file] = Catalog.open(tmp_path / "catalog").files("images")
    data = bytearray(file.read_bytes())
    first = data.find(b"\xff\xd8\xff")
    data[first + 700] ^= 0x55
    file.write_bytes(data)
    with pytest.raises(
        CuveeError, match=r"step \d+: sample \w{64} \('\d+' of v2_.*json\): .*damaged"
    ):
        list(PlanLoader(plan, verify=True))


def test_a_damaged_picture_is_substituted_and_counted(plan: Plan, tmp_path: Path) -> None:
    hurt = make_plan(tmp_path)
    [file] = Catalog.open(tmp_path / "catalog").files("images")
    data = bytearray(file.read_bytes())
    first = data.find(b"\xff\xd8\xff")
    data[first : first + 3] = b"no!"
    file.write_bytes(data)
    loaders = [
        PlanLoader(hurt, workers=workers, on_damage="substitute", verify=workers == 2)
        for workers in (0, 2, 4)
    ]
    batches = [list(loader) for loader in loaders]
    assert [[joined([b]) for b in each] for each in batches] == [
        [joined([b]) for b in batches[0]]
    ] * 3
    assert [loader.report.damaged for loader in loaders] == [2, 2, 2], (
        "two questions about one picture"
    )
    good = list(PlanLoader(plan))
    changed = [
        (ours, theirs)
        for one, other in zip(batches[0], good, strict=True)
        for ours, theirs in zip(*split_tiles(one, other), strict=True)
        if not torch.equal(ours, theirs)
    ]
    assert changed
    assert all((ours == 128).all() for ours, _ in changed)
    for one, other in zip(batches[0], good, strict=True):
        assert torch.equal(one.tokens, other.tokens)
        unlearnt = one.labels != other.labels
        assert (one.labels[unlearnt] == IGNORE).all()


def split_tiles(*batches: Batch) -> list[tuple[torch.Tensor, ...]]:
    return [batch.pixels.unbind() for batch in batches]


def test_a_picture_that_is_gone_stops_the_run(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    files = Catalog.open(tmp_path / "catalog").files("images")
    take_out(tmp_path / "catalog", [Damaged(image_id="", file=files[0], row=-1)])
    with pytest.raises(CuveeError, match=r"sample \w{64} .*picture \w{64}: the catalog does not"):
        list(PlanLoader(plan))
    loader = PlanLoader(plan, on_damage="substitute")
    assert all((batch.pixels == 128).all() for batch in loader)
    assert loader.report.damaged == 40


def test_whatever_goes_wrong_in_a_worker_reaches_the_trainer(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(data: memoryview, policy: ImagePolicy, room: torch.Tensor) -> torch.Tensor:
        raise MemoryError("no room for a picture")

    monkeypatch.setattr("pipeline.collate.look", fail)
    with pytest.raises(CuveeError, match=r"step \d+: sample \w{64} .*no room for a picture"):
        list(PlanLoader(plan, workers=2, on_damage="substitute"))


def test_no_wait_is_without_end(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Event()

    def hang(collator: Collator, draft: Draft, row: int, fetched: object) -> int:
        assert stuck.wait(60)
        return 0

    monkeypatch.setattr(Collator, "fill", hang)
    try:
        with pytest.raises(CuveeError, match=r"step 0 was not loaded in 0\.2 s"):
            list(PlanLoader(plan, workers=2, wait=0.2))
    finally:
        stuck.set()


def test_the_report_counts_what_was_loaded(plan: Plan) -> None:
    loader = PlanLoader(plan, workers=2)
    batches = list(loader)
    report = loader.report
    assert report.batches == plan.steps
    assert report.samples == sum(batch.samples for batch in batches) == 70
    assert report.pixels == sum(batch.pixels.numel() // 3 for batch in batches)
    assert 0 < report.stall <= report.seconds
    assert 0 <= report.depth <= loader.prefetch
    assert report.samples_per_second == pytest.approx(70 / report.seconds)


def test_memory_stays_flat_over_thousands_of_batches(built: Build) -> None:
    plan = built(
        sources=[{"source": "alpaca", "weight": 1}],
        packing={"tokens": 64, "packs_per_step": 1, "window": 32},
        budget={"epochs": 4},
    )

    def tensors_after(passes: int) -> int:
        count = 0
        for _ in range(passes):
            count += sum(1 for _ in PlanLoader(plan, workers=2))
        assert count == passes * plan.steps
        gc.collect()
        return sum(type(thing) is torch.Tensor for thing in gc.get_objects())

    assert 25 * plan.steps > 2000
    before = tensors_after(2)
    tracemalloc.start()
    try:
        tensors_after(2)
        kept, _ = tracemalloc.get_traced_memory()
        assert tensors_after(25) <= before
        assert tracemalloc.get_traced_memory()[0] < kept + 200_000
    finally:
        tracemalloc.stop()


def test_memory_is_used_again_only_when_nobody_holds_it() -> None:
    buffers = Buffers()
    first = buffers.bytes(1000)
    place, part = first.data_ptr(), first[10:20].numpy()
    del first
    second = buffers.bytes(1000)
    assert second.data_ptr() != place
    del part
    assert buffers.bytes(900).data_ptr() == place


def test_batches_that_are_kept_keep_their_pixels(plan: Plan) -> None:
    kept = [(batch, batch.pixels.clone()) for batch in PlanLoader(plan, workers=2)]
    list(PlanLoader(plan, workers=2))
    assert all(torch.equal(batch.pixels, pixels) for batch, pixels in kept)


def test_tiles_written_into_a_batch_are_the_tiles() -> None:
    for policy in (
        ImagePolicy(kind="slices", size=32, tokens=4, max_slices=4),
        ImagePolicy(kind="anyres", size=32, tokens=4),
        ImagePolicy(kind="pad", size=32, tokens=4),
    ):
        data = saved(gradient(150, 60), "JPEG")
        alone = decode(data, policy)
        room = torch.zeros((len(alone) + 1, 3, 32, 32), dtype=torch.uint8)
        for pixels in (room, room.to(memory_format=torch.channels_last)):
            assert torch.equal(decode(data, policy, pixels), alone)
            assert torch.equal(pixels[:-1], alone)
            assert not pixels[-1].any()
        with pytest.raises(ValueError, match=rf"150 x 60 .* {len(alone)} tiles, 0 were planned"):
            decode(data, policy, room[:0])


def test_ranks_that_do_not_divide_the_packs_are_explained(plan: Plan) -> None:
    with pytest.raises(UserError, match="8 packs a step do not divide among 3 ranks"):
        PlanLoader(plan, world_size=3)
    with pytest.raises(UserError, match=f"step {plan.steps + 1} of {plan.steps}"):
        PlanLoader(plan, start_step=plan.steps + 1)


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8))


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(448, 448), (2048, 1536), (50, 40)])
def test_a_scaled_decode_is_near_the_full_one(size: tuple[int, int]) -> None:
    data = saved(gradient(*size), "JPEG", quality=95)
    [tile] = decode(data, ImagePolicy(size=112, tokens=4))
    full = Image.open(io.BytesIO(data)).resize((112, 112), Image.Resampling.BICUBIC)
    difference = np.abs(tile.permute(1, 2, 0).numpy().astype(int) - np.asarray(full).astype(int))
    assert difference.mean() < 2
    assert difference.max() < 12


@pytest.mark.parametrize("size", [(300, 200), (448, 448), (640, 480), (700, 700), (2048, 1536)])
def test_photographs_stay_within_the_stated_tolerance(size: tuple[int, int]) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn ships the photographs")
    for data in photos(2, *size):
        [tile] = decode(data, ImagePolicy(size=336, tokens=4))
        full = (
            Image.open(io.BytesIO(data)).convert("RGB").resize((336, 336), Image.Resampling.BICUBIC)
        )
        off = np.abs(tile.permute(1, 2, 0).numpy().astype(int) - np.asarray(full).astype(int))
        assert off.mean() < 3
        assert np.percentile(off, 99) <= 20


def test_a_jpeg_cut_anywhere_is_no_picture_or_a_picture() -> None:
    data = saved(gradient(40, 30), "JPEG", progressive=True)
    policy = ImagePolicy(size=16, tokens=4)
    assert decode(data, policy).shape == (1, 3, 16, 16)
    for length in range(0, len(data) - 2, 7):
        with suppress(ValueError, OSError):
            assert decode(memoryview(data)[:length], policy).shape == (1, 3, 16, 16)
    with pytest.raises((ValueError, OSError)):
        decode(data[:100], policy)


def test_slices_stitched_together_are_the_picture() -> None:
    policy = ImagePolicy(kind="slices", size=32, tokens=4, max_slices=4)
    tiles = decode(saved(gradient(128, 32), "PNG"), policy)
    assert len(tiles) == 5
    stitched = torch.cat(list(tiles[:4]), dim=2).permute(1, 2, 0).numpy()
    assert np.array_equal(stitched, np.asarray(gradient(128, 32)))


def test_exif_orientation_and_every_mode_are_handled() -> None:
    tags = Image.Exif()
    tags[0x0112] = 3
    turned = decode(saved(gradient(64, 64), "JPEG", exif=tags), ImagePolicy(size=64, tokens=4))
    plain = decode(saved(gradient(64, 64), "JPEG"), ImagePolicy(size=64, tokens=4))
    assert torch.equal(turned, plain.flip(2, 3))
    # Pillow reads an orientation from XMP too.
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="3"></a></x:xmpmeta>'
    turned = decode(saved(gradient(64, 64), "JPEG", xmp=xmp), ImagePolicy(size=64, tokens=4))
    assert torch.equal(turned, plain.flip(2, 3))
    for mode in ("L", "CMYK"):
        whole = gradient(64, 64).convert(mode)
        [tile] = decode(saved(whole, "JPEG", quality=95), ImagePolicy(size=64, tokens=4))
        off = tile.permute(1, 2, 0).numpy().astype(int) - np.asarray(whole.convert("RGB"), int)
        assert np.abs(off).mean() < 2, mode
    for mode in ("L", "P", "LA", "RGBA", "CMYK", "1", "I;16"):
        base = gradient(20, 30)
        if mode == "I;16":
            picture = Image.fromarray(np.full((30, 20), 40_000, np.uint16))
        else:
            picture = base.convert(mode)
        tiles = decode(saved(picture, "TIFF"), ImagePolicy(kind="pad", size=32, tokens=4))
        assert tiles.shape == (1, 3, 32, 32), mode
    assert normalise(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]
