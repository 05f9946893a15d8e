"""Dialogues in any spelling: pictures keep their places, nothing that was said is lost."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.record import IMAGE, Record
from pipeline.boxes import BOXES
from pipeline.ingest import ingest
from pipeline.jobs import Job
from pipeline.peek import peek
from pipeline.prompt import conversation
from pipeline.sources import boxed, dialog
from pipeline.sources.base import Bad
from pipeline.sources.dialog import dialog_of
from pipeline.sources.regions import placed

DATA = Path(__file__).parent.parent / "data"
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample releases are not here")


def human(text: Any) -> dict[str, Any]:
    return {"from": "human", "value": text}


def gpt(text: Any) -> dict[str, Any]:
    return {"from": "gpt", "value": text}


@pytest.mark.parametrize("mark", ["<image>", "<ImageHere>", "<IMG_CONTEXT>"])
def test_any_spelling_of_a_mark_is_the_same_place(mark: str) -> None:
    row = {"image": ["a", "b"], "conversations": [human(f"x {mark} y"), gpt("z"), human(f"{mark}")]}
    said = dialog_of(row)
    assert [message.content for message in said.messages] == ["x <image> y", "z", "<image>"]
    assert said.extra.get("placeholder", IMAGE) == mark


def test_a_mark_in_a_record_without_pictures_is_only_text() -> None:
    said = dialog_of({"conversations": [human("Write <image>"), gpt("<image>")]})
    assert said.images == ()
    assert said.messages[1].content == "<image>"


def test_marks_of_named_pictures_say_their_order() -> None:
    row = {
        "image": {"<image_00>": "a.jpg", "<image_01>": "b.jpg"},
        "conversations": [{"role": "user", "content": "<image_01> or <image_00>?"}],
    }
    said = dialog_of(row)
    assert [ref.path for ref in said.images] == ["b.jpg", "a.jpg"]
    assert said.extra["image"] == row["image"]


def test_a_picture_without_a_mark_stands_before_the_first_question() -> None:
    said = dialog_of({"image": "a.jpg", "conversations": [human("What?"), gpt("A cat")]})
    assert said.messages[0].content == "<image>\nWhat?"


def test_a_picture_inside_a_list_of_parts_stands_where_its_part_stood() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "p.jpg"}},
        {"type": "text", "value": "b"},
    ]
    said = dialog_of({"messages": [{"role": "user", "content": parts}]})
    assert said.messages[0].content == "a<image>b"
    assert [ref.path for ref in said.images] == ["p.jpg"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": "a", "conversations": [human("<image><image>")]}, "placeholder_mismatch"),
        ({"image": ["a", "b"], "conversations": [human("<image>")]}, "placeholder_mismatch"),
        ({"image": "../a", "conversations": [human("<image>")]}, "unsafe_path"),
        ({"image": ["a", None], "conversations": [human("Hi")]}, "wrong_type"),
        ({"video": "a.mp4", "conversations": [human("Hi")]}, "unsupported_media"),
        ({"conversations": []}, "empty_conversation"),
        ({"conversations": [gpt("Hi")]}, "no_user_turn"),
        ({"conversations": [human(None)]}, "wrong_type"),
        ({"conversations": [{"from": "alien", "value": "Hi"}]}, "unknown_role"),
        ({"conversations": "Hi"}, "missing_field"),
    ],
)
def test_what_cannot_be_read_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Bad) as error:
        dialog_of(row)
    assert error.value.reason == reason


def test_weights_of_turns_say_what_is_learnt() -> None:
    turns = [human("a") | {"weight": 0}, gpt("b") | {"weight": 0}, human("c"), gpt("d")]
    said = dialog_of({"conversations": [*turns[:3], turns[3] | {"weight": 1}]})
    assert [message.loss for message in said.messages] == [False, False, None, True]


def test_tool_calls_without_words_are_the_words() -> None:
    call = {"name": "weather", "arguments": "{}"}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    said = dialog_of({"messages": [{"role": "user", "content": "Rain?"}, turn]})
    assert json.loads(said.messages[1].content) == [call]
    assert said.extra["messages"][1] == turn


words = st.text(st.characters(codec="utf-8"), max_size=8)
speakers = st.sampled_from(["human", "gpt", "system", "chatgpt", "observation", "user", "bot"])


@settings(deadline=None)
@given(st.lists(st.tuples(speakers, words), min_size=1, max_size=6))
def test_every_word_of_a_dialogue_is_in_its_messages_or_kept_beside_them(
    turns: list[tuple[str, str]],
) -> None:
    row = {"conversations": [{"from": speaker, "value": text} for speaker, text in turns]}
    if all(dialog.ROLES[speaker] == "assistant" for speaker, _ in turns):
        with pytest.raises(Bad, match="only the assistant speaks"):
            dialog_of(row)
        return
    said = dialog_of(row)
    kept = said.extra.get("conversations")
    told = [(message.role, message.content) for message in said.messages]
    assert kept == row["conversations"] or told == [
        (dialog.ROLES[speaker], text) for speaker, text in turns
    ]


@pytest.mark.parametrize("name", ["llava_onevision", "the_cauldron", "docmatix", "lmms_engine"])
def test_pictures_inside_rows_are_read_where_they_stand(name: str, tmp_path: Path) -> None:
    root = DATA / name
    built = ingest(Job(source=name, root=root), tmp_path)
    refused = [item for item in peek(name, root) if "refused" in item]
    assert sum(part.refused for part in built) == len(refused), "only what the reader refuses"
    assert sum(part.pictures for part in built) >= 2


@needs_samples
def test_boxes_of_a_real_ms_swift_file_are_regions_once_its_paths_are_relative(
    tmp_path: Path,
) -> None:
    official = SAMPLES / "ms_swift" / "grounding_doc.jsonl"
    reasons = [item["refused"] for item in peek("ms_swift", official.parent)]
    assert reasons == ["unsafe_path"] * 3, "its pictures stand at the top of the disk"
    (tmp_path / official.name).write_text(official.read_text().replace("/xxx/", ""))
    items = list(peek("ms_swift", tmp_path))
    assert [len(item["regions"]) for item in items] == [2, 2, 0]
    assert items[0]["messages"][-1]["content"].startswith("a dog<region:0> and a woman<region:1>")
    assert items[2]["messages"][-1]["content"] == "Action: click(start_box='[615,226]')"


pair = st.lists(st.integers(0, 999), min_size=2, max_size=2).map(sorted)
# Corners in order: boxes with swapped ones are mended, and not written as they were.
thousandths = st.tuples(pair, pair).map(lambda xy: [xy[0][0], xy[1][0], xy[0][1], xy[1][1]])


@settings(deadline=None)
@given(st.lists(thousandths, min_size=1, max_size=3), st.sampled_from(["qwen-vl", "internvl"]))
def test_boxes_in_a_text_are_regions_that_write_the_same_text_again(
    boxes: list[list[int]], convention: str
) -> None:
    width, height = 640, 480
    written = {
        "qwen-vl": "".join("<box>({},{}),({},{})</box>".format(*box) for box in boxes),
        "internvl": f"<box>[{', '.join('[{}, {}, {}, {}]'.format(*box) for box in boxes)}]</box>",
    }[convention]
    answer = f"It is <ref>the cup</ref>{written}, see?"
    row = {"image": "a.jpg", "conversations": [human("<image>Where?"), gpt(answer)]}
    spelling = {"qwen-vl": boxed.QWEN_VL, "internvl": boxed.INTERNVL}[convention]
    said = boxed.with_regions(dialog_of(row), row, spelling)
    assert said.extra["conversations"] == row["conversations"]
    record = Record(
        source="x",
        split="x",
        native_id="x",
        task="conversation",
        images=said.images,
        messages=said.messages,
        regions=said.regions,
    )
    sample = asdict(placed(record, [(width, height)]))
    sample |= {"n_images": 1, "widths": [width], "heights": [height]}
    assert len(sample["regions"]) == len(boxes)
    assert conversation(sample, BOXES[convention])[-1].content == answer
    assert "<ref>" not in conversation(sample, BOXES["shikra"])[-1].content
