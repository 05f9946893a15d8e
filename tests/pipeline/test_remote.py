"""A catalog on an object store: the same batches as on disk, through delays and failures."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from catalog import Catalog
from catalog.errors import CuveeError, UserError
from catalog.kept import Cache
from catalog.push import push
from catalog.remote import Remote, joined
from pipeline.loader import PlanLoader
from pipeline.plan import Plan
from tests.pipeline.conftest import Build
from tests.servers import Fault, azure, azure_options, proxy, s3, s3_options

pytest.importorskip("obstore", reason="obstore is not installed")
NAMES = ("tokens", "labels", "positions", "segments", "pixels")


@pytest.fixture(scope="module")
def plan(built: Build) -> Plan:
    return built(image={"kind": "resize", "size": 16, "tokens": 4})


@pytest.fixture(scope="module")
def bucket(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """An S3 bucket that holds the catalog, and its server's port."""
    with s3(tmp_path_factory.mktemp("s3")) as (url, port):
        remote = Remote(url, s3_options(port), tmp_path_factory.mktemp("push"))
        folder = plan.file.parents[2]
        copied, total = push(folder, remote)
        assert copied > 10 < total
        assert push(folder, remote)[1] < 1000, "only the checkpoint marks go again"
        yield url, port


def check(plan: Plan, catalog: Catalog, workers: int) -> None:
    there = Plan(catalog.plan_file(plan.id))
    loader = PlanLoader(there, catalog=catalog, verify=True, workers=workers)
    count = 0
    for ours, theirs in zip(loader, PlanLoader(plan, workers=0), strict=True):
        assert all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in NAMES)
        count += 1
    assert count == plan.steps > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_s3_are_those_from_disk(
    plan: Plan, bucket: tuple[str, int], tmp_path: Path, workers: int
) -> None:
    url, port = bucket
    options = s3_options(port)
    catalog = Catalog.open(url, storage_options=options, shadow=tmp_path)
    check(plan, catalog, workers=workers)
    local = Catalog.open(plan.file.parents[2])
    assert catalog.sources() == local.sources()
    assert catalog.version == local.version
    assert (
        catalog.samples()
        .sort("sample_id")
        .collect()
        .equals(local.samples().sort("sample_id").collect())
    )
    image_id = next(image_id for _, image_id in local.picture_files("vqav2"))
    assert bytes(catalog.image_bytes(image_id)) == bytes(local.image_bytes(image_id))
    assert sum(f.stat().st_size for f in (tmp_path / ".pictures").iterdir()) > 0
    check(plan, Catalog.open(url, storage_options=options, shadow=tmp_path), workers=2)


def every(number: int, *kinds: str) -> Fault:
    """Let one read in `number` go wrong, in each of the kinds in turn."""
    return lambda count: "" if count % number else kinds[count // number % len(kinds)]


@pytest.mark.parametrize("kinds", [("error",), ("drop",), ("short",), ("error", "drop", "short")])
def test_no_byte_is_wrong_and_no_sample_lost_when_reads_fail(
    plan: Plan, bucket: tuple[str, int], tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    url, port = bucket
    with proxy(port, latency=0.005, fault=every(3, *kinds)) as slow:
        check(plan, Catalog.open(url, storage_options=s3_options(slow), shadow=tmp_path), workers=2)


def test_a_store_that_never_answers_stops_the_run_with_a_message(
    plan: Plan, bucket: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, port = bucket
    monkeypatch.setattr("catalog.remote.LONGEST_PAUSE", 0.01)
    broken = False
    with proxy(port, fault=lambda _: "error" if broken else "") as slow:
        catalog = Catalog.open(url, storage_options=s3_options(slow), shadow=tmp_path)
        there = Plan(catalog.plan_file(plan.id))
        batches = iter(PlanLoader(there, catalog=catalog, workers=2))
        broken = True
        with pytest.raises(
            CuveeError, match=r"steps? \d+( to \d+)?: .*could not be read in 8 attempts"
        ):
            list(batches)


def test_batches_from_azure_are_those_from_disk(
    plan: Plan, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with azure(tmp_path_factory.mktemp("azure")) as (url, port):
        options = azure_options(port)
        push(plan.file.parents[2], Remote(url, options, tmp_path / "push"))
        with proxy(port, fault=every(5, "error", "drop", "short")) as slow:
            options = azure_options(slow)
            catalog = Catalog.open(url, storage_options=options, shadow=tmp_path / "shadow")
            check(plan, catalog, workers=2)


def test_what_is_not_there_is_explained(bucket: tuple[str, int], tmp_path: Path) -> None:
    _, port = bucket
    with pytest.raises(CuveeError, match=r"cuvee\.json is not there"):
        Catalog.open("s3://vats/nothing", storage_options=s3_options(port), shadow=tmp_path)
    with pytest.raises(UserError, match="no catalog there"):
        push(tmp_path / "none", Remote("s3://vats/x", s3_options(port), tmp_path / "x"))


def test_near_ranges_are_one_request_and_large_ones_are_not_joined() -> None:
    near = [("a", 100, 200), ("a", 0, 100), ("b", 0, 10), ("a", 60_000, 60_010)]
    assert joined(near) == [("a", 0, 60_010, [1, 0, 3]), ("b", 0, 10, [2])]
    size = 5 * 1024**2
    assert len(joined([("a", 0, size), ("a", size, 2 * size)])) == 2


def test_the_cache_stays_within_its_bound(tmp_path: Path) -> None:
    def held() -> int:
        return sum(file.stat().st_size for file in tmp_path.iterdir())

    cache = Cache(tmp_path, 3000)
    for number in range(0, 100, 2):
        cache.put({f"{number}": bytes([number]) * 90, f"{number + 1}": b"odd" * 30})
        [first] = cache.get(["0" if number < 8 else f"{number}"])
        assert first is not None
    assert 2500 < held() <= 3000
    assert cache.get(["98", "99", "14"]) == [bytes([98]) * 90, b"odd" * 30, None]
    cache.put({"98": b"another"})
    again = Cache(tmp_path, 1000)
    assert again.get(["98", "99"]) == [b"another", b"odd" * 30]
    again.put({"new": b"x" * 90})
    assert held() <= 1000
    assert cache.get(["20"]) == [None], "another process has removed it"
    [file, *_] = sorted(tmp_path.iterdir(), reverse=True)
    file.write_bytes(file.read_bytes()[:40])
    assert again.get(["new"]) == [None]
    assert Cache(tmp_path, 1000).get(["new", "98"]) == [None, b"another"]
    assert not file.exists()
    again.clear()
    assert not list(tmp_path.iterdir())
