"""Pages: whole in one file, true to the data, safe against what the data say, and real to a browser."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from catalog import Catalog
from catalog.errors import UserError
from catalog.statistics import Statistics
from flows.cards import SIDE, clip, prediction_cards, sample_cards, thumbnail, wrong_cards
from flows.pages import curve, report_page, statistics_page
from flows.wrong import wrong_page
from model.evaluate import evaluate
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.plan import Plan
from tests.finished import STEPS, make_run
from tests.official import write_vqav2

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert('x')</script><img src=https://evil.example/p.png>"


class Tags(HTMLParser):
    """Collects the tags of a page with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br", "hr", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data + " "


def parsed(path: Path) -> Tags:
    """Parse a page; every tag must be closed in order."""
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    assert tags.open == []
    return tags


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("pages"))
    evaluate(run, "val")
    evaluate(run, "testA")
    return run


@pytest.fixture(scope="module")
def pages(run: Path) -> tuple[Path, Path]:
    """The statistics page and the report."""
    folder = run.parent
    catalog, plan = Catalog.open(folder / "catalog"), Plan.open(folder / "catalog")
    statistics = Statistics.of(catalog)
    return (
        statistics_page(statistics, folder / "stats.html", catalog=catalog, plan=plan),
        report_page(
            folder / "new" / "report.html",
            catalog=catalog,
            run=run,
            plan=plan,
            statistics=statistics,
        ),
    )


@pytest.fixture(scope="module")
def wrong(run: Path) -> Path:
    """The page of wrong answers; the model was not trained, so there are many."""
    return wrong_page(
        run / "eval" / "wrong.html",
        catalog=Catalog.open(run.parent / "catalog"),
        title="Wrong answers",
        judged=[(run / "eval" / "val", ["vqav2"]), (run / "eval" / "testA", ["refcoco"])],
        each=6,
    )


def test_a_page_is_whole_in_one_file(pages: tuple[Path, Path], wrong: Path) -> None:
    for page in (*pages, wrong):
        tags = parsed(page).tags
        assert "script" not in {tag for tag, _ in tags}
        for _, attributes in tags:
            for name in ("src", "href", "srcset", "data", "action", "poster"):
                value = attributes.get(name) or "#"
                assert value.startswith(("#", "data:")), value
        assert re.findall(r"url\(|@import", page.read_text()) == []
        policy = [a for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
        assert str(policy[0]["content"]).startswith("default-src 'none'")


def test_the_statistics_page_says_what_the_catalog_holds(pages: tuple[Path, Path]) -> None:
    text = " ".join(parsed(pages[0]).text.split())
    for words in (
        "samples 36",
        "distinct pictures 14",
        "no annotation",
        "CC BY 4.0",
        "left boy",
        "Latin 100%",
    ):
        assert words in text
    pictures = [a for tag, a in parsed(pages[0]).tags if tag == "img"]
    assert len(pictures) == 6 + 4
    boxes = [a for tag, a in parsed(pages[0]).tags if a.get("class") == "true"]
    places = {tuple(box[name] for name in ("x", "y", "width", "height")) for box in boxes}
    # 10, 5, 30, 25 in a picture of 40 x 30 pixels.
    assert ("25.0%", "16.67%", "50.0%", "66.67%") in places


def test_the_report_joins_scores_predictions_training_plan_and_data(
    run: Path, pages: tuple[Path, Path]
) -> None:
    text = " ".join(parsed(pages[1]).text.split())
    scores = json.loads((run / "eval" / "val" / "scores.json").read_text())
    accuracy = scores["sources"]["vqav2"]["model"]["accuracy"]
    for words in (
        "VQA accuracy, 10 questions",
        f"model {100 * accuracy:.1f} %",
        "Majority always says “cat”.",
        "Acc@IoU0.5, 2 questions",
        "Majority is the mean training box.",
        f"steps {STEPS}",
        "The plan: try",
        "What the catalog holds",
    ):
        assert words in text
    kinds = [a.get("class") for tag, a in parsed(pages[1]).tags if tag == "rect"]
    assert {"model", "blind", "majority", "true"} <= set(kinds)


def test_the_worst_answers_stand_beside_all_that_is_true(run: Path, wrong: Path) -> None:
    tags = parsed(wrong)
    text = " ".join(tags.text.split())
    for words in (
        "vqav2 val 10 of 10",
        "refcoco testA 2 of 2",
        "VQA accuracy: 10 of 10 questions without full marks; 0 of them answered better",
        "reference cat ×10 blind",
        "true box",
    ):
        assert words in text, words
    assert sum(tag == "img" for tag, _ in tags.tags) == 6 + 2
    places = [a for tag, a in tags.tags if tag == "rect" and a.get("class") == "true"]
    # One in the key, one on each picture.
    assert len(places) == 1 + 2


def test_the_worst_come_first_and_a_drawn_box_says_how_far_it_is(run: Path) -> None:
    catalog = Catalog.open(run.parent / "catalog")
    items = [item(place, score) for place, score in enumerate([0.6, 0.0, 0.3])]
    items[1] |= {"true_box": [0, 0, 10, 10], "predicted_box": [5, 5, 15, 15], "references": []}
    items[1] |= {"width": 20, "height": 20}
    cards = wrong_cards(catalog, items, 2)
    assert [card.lines for card in cards] == [
        (("model", "x"), ("IoU", "0.14")),
        (("model", "x"), ("reference", "y ×2, z")),
    ]
    assert [(box.kind, box.x, box.width) for box in cards[0].boxes] == [
        ("true", 0.0, 50.0),
        ("predicted", 25.0, 50.0),
    ]


def test_the_same_data_give_the_same_page(run: Path, pages: tuple[Path, Path]) -> None:
    catalog, before = Catalog.open(run.parent / "catalog"), pages[0].read_bytes()
    plan = Plan.open(run.parent / "catalog")
    statistics_page(Statistics.of(catalog), pages[0], catalog=catalog, plan=plan)
    assert pages[0].read_bytes() == before


def test_what_is_not_there_yet_is_left_out(run: Path, tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "catalog")
    page = report_page(tmp_path / "report.html", catalog=catalog, run=tmp_path / "nothing")
    assert "Scores" not in parsed(page).text
    empty = statistics_page(Statistics.of(catalog), tmp_path / "stats.html", catalog=catalog)
    assert "No record was refused." in parsed(empty).text
    half = tmp_path / "half"
    half.mkdir()
    (half / "metrics.jsonl").write_text('{"step": 0, "loss": 2.0}\n{"step": 1, "lo')
    half_way = report_page(tmp_path / "half.html", catalog=catalog, run=half)
    assert "last loss" in parsed(half_way).text
    with pytest.raises(UserError, match="is a folder"):
        report_page(half, catalog=catalog, run=half)


def test_scores_of_an_older_version_are_left_out_of_the_report(run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "run"
    shutil.copytree(run, mine)
    old = mine / "eval" / "testA"
    shutil.rmtree(old / "items")
    page = report_page(tmp_path / "r.html", catalog=Catalog.open(run.parent / "catalog"), run=mine)
    text = " ".join(parsed(page).text.split())
    assert "vqav2 val" in text
    assert "refcoco testA" not in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path / "vqav2", questions=2)
    for name in ("v2_OpenEnded_mscoco_train2014_questions.json",):
        file = root / name
        file.write_text(file.read_text().replace("What is 0?", HOSTILE))
    ingest(Job(source="vqav2", root=root), tmp_path / "catalog")
    catalog = Catalog.open(tmp_path / "catalog")
    page = statistics_page(Statistics.of(catalog), tmp_path / "x.html", catalog=catalog)
    tags = parsed(page)
    assert HOSTILE in tags.text
    assert "script" not in {tag for tag, _ in tags.tags}


def test_a_damaged_picture_is_a_remark_on_its_card(tmp_path: Path) -> None:
    ingest(Job(source="vqav2", root=write_vqav2(tmp_path / "v", questions=2)), tmp_path / "c")
    [file] = Catalog.open(tmp_path / "c").files("images")
    data = bytearray(file.read_bytes())
    start = data.find(b"\xff\xd8\xff")
    data[start : start + 200] = bytes(200)
    file.write_bytes(data)
    cards = sample_cards(Catalog.open(tmp_path / "c"), 6)["vqav2"]
    assert {card.picture for card in cards} == {None}
    assert all("cannot be shown" in (card.note or "") for card in cards)


@pytest.mark.parametrize(
    ("size", "mode"),
    [((2000, 1000), "RGB"), ((30, 600), "L"), ((8, 8), "RGBA"), ((50, 40), "P"), ((9, 9), "1")],
)
def test_thumbnails_are_small_and_keep_their_shape(size: tuple[int, int], mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, "PNG")
    url, small = thumbnail(buffer.getvalue())
    seen = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/webp;base64,"))))
    assert seen.size == small
    assert max(small) == min(SIDE, max(size))
    assert small[0] / small[1] == pytest.approx(size[0] / size[1], rel=0.1)


def test_a_turned_photograph_stands_upright() -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (60, 20)).save(buffer, "JPEG", exif=tags)
    assert thumbnail(buffer.getvalue())[1] == (20, 60)


def item(place: int, score: float | None) -> dict[str, Any]:
    return {
        "sample_id": f"{place:04}",
        "question": "?",
        "image_ids": [],
        "prediction": "x",
        "blind_answer": None,
        "references": ["y", "y", "z"],
        "true_box": None,
        "predicted_box": None,
        "score": score,
    }


@given(st.lists(st.sampled_from([0.0, 0.3, 0.9, 1.0, None]), max_size=30), st.integers(0, 9))
def test_predictions_show_right_and_wrong_as_far_as_there_are(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float | None], each: int
) -> None:
    items = [item(place, score) for place, score in enumerate(scores)]
    cards = prediction_cards(Catalog.__new__(Catalog), items, each)
    assert len(cards) == min(each, len(items))
    wrong = sum((score or 0.0) < 0.5 for score in scores)
    # The answers are told apart by their score; those of 0.3 are shown as partly right.
    partly = sum(score == 0.3 for score in scores)
    shown = sum(card.verdict in (None, "wrong") for card in cards)
    assert min(wrong, each // 2) - partly <= shown <= wrong


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=700))
def test_a_curve_stays_in_its_field(values: list[float]) -> None:
    found = curve(values)
    for points in (found.line, found.band):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 1001
            assert -1 <= y <= 1001
    assert found.ticks[0] == (100.0, "0")
    assert found.last - found.first == len(values) - 1


@given(st.text(max_size=400))
def test_clipped_text_is_the_beginning(text: str) -> None:
    assert len(clip(text)) <= 240
    assert text.strip().startswith(clip(text).removesuffix("…"))


def test_pages_need_neither_torch_nor_prefect() -> None:
    code = (
        "import sys, flows.pages\n"
        "assert not {'prefect', 'torch', 'deepspeed', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Debian's Chromium, with a log of every request."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Debian packages chromium and chromium-driver are not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_asking_the_network(
    browser: Any, pages: tuple[Path, Path], width: int, scheme: str
) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    for page in pages:
        browser.get_log("performance")
        browser.get(page.as_uri())
        script = "document.querySelectorAll('img').forEach(picture => picture.loading = 'eager')"
        browser.execute_script(script)
        shown = browser.execute_async_script(
            "const done = arguments[0], all = [...document.images];"
            "Promise.all(all.map(i => i.decode())).then(() => done(all.length), e => done(`${e}`))"
        )
        assert shown == sum(tag == "img" for tag, _ in parsed(page).tags)
        events = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
        asked = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        assert asked
        assert all(url.startswith(("file://", "data:")) for url in asked), asked
        assert browser.get_log("browser") == []
        overflow = "return document.documentElement.scrollWidth - window.innerWidth"
        assert browser.execute_script(overflow) <= 0
        paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        dark = sum(int(part) for part in re.findall(r"\d+", paper)[:3]) < 200
        assert dark == (scheme == "dark")
        bars = "return [...document.querySelectorAll('.blend rect')].map(r => r.getBBox().width)"
        assert min(browser.execute_script(bars)) > 0


def test_a_browser_filters_the_wrong_answers_by_benchmark(browser: Any, wrong: Path) -> None:
    browser.get_log("browser")
    browser.get(wrong.as_uri())
    seen = (
        "return [...document.querySelectorAll('.failed')]"
        ".filter(part => part.getClientRects().length).map(part => part.id)"
    )
    assert browser.execute_script(seen) == ["failed-0", "failed-1"]
    for chosen, expected in (
        ("only-1", ["failed-1"]),
        ("only-0", ["failed-0"]),
        ("all", ["failed-0", "failed-1"]),
    ):
        browser.find_element("id", chosen).click()
        assert browser.execute_script(seen) == expected
    # A box lies where it was drawn: inside its picture.
    places = browser.execute_script(
        "const box = document.querySelector('.frame rect.true').getBoundingClientRect();"
        "const frame = document.querySelector('.frame:has(rect)').getBoundingClientRect();"
        "return [box.left - frame.left, frame.right - box.right, box.width]"
    )
    assert min(places) > 0
    assert browser.get_log("browser") == []
