"""Prompts: boxes come back from text, picture marks are right, learnt spans are the answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import UserError
from pipeline.encode import Encoder, EncoderConfig
from pipeline.prompt import BOXES, MARK, Turn, conversation, render


@given(
    st.sampled_from(sorted(BOXES)),
    st.integers(16, 4000),
    st.integers(16, 4000),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_a_box_comes_back_within_half_a_bin(
    name: str, width: int, height: int, at: list[float]
) -> None:
    x0, x1 = sorted((at[0] * width, at[1] * width))
    y0, y1 = sorted((at[2] * height, at[3] * height))
    text = BOXES[name].write((x0, y0, x1, y1), width, height)
    [found] = BOXES[name].read(f"2 of 3 are there: {text}, so 1 is not.", width, height)
    half = 0.5 / BOXES[name].bins + 1e-9
    assert np.all(
        np.abs(np.subtract((x0, y0, x1, y1), found)) <= half * np.tile((width, height), 2)
    )


@pytest.mark.parametrize("name", sorted(BOXES))
def test_text_without_a_box_gives_none_and_boxes_outside_are_clipped(name: str) -> None:
    box = BOXES[name]
    assert box.read("1, 2, 3 and 4 dogs at 10:30 on 2024-01-02", 100, 100) == []
    [clipped] = box.read(box.write((-5, -0.5, 101, 50), 100, 50), 100, 50)
    assert list(clipped) == [0, 0, 100, 50]
    both = box.write((1, 2, 3, 4), 10, 10) + " " + box.write((5, 5, 9, 9), 10, 10)
    assert len(box.read(both, 10, 10)) == 2


def row(*contents: str, pictures: int = 0, task: str = "vqa", **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {
        "task": task,
        "messages": [
            {"role": roles[i % 2], "content": content, "loss": None}
            for i, content in enumerate(contents)
        ],
        "regions": [],
        "n_images": pictures,
        "widths": [200] * pictures,
        "heights": [100] * pictures,
    } | more


@given(st.lists(st.sampled_from(["<image>", "a", "\n", "é", MARK]), max_size=8), st.integers(0, 5))
def test_there_are_as_many_marks_as_pictures(pieces: list[str], pictures: int) -> None:
    turns = conversation(row("".join(pieces), "ok", pictures=pictures), BOXES["shikra"])
    assert sum(turn.content.count(MARK) for turn in turns) == pictures
    left = sum(turn.content.count("<image>") for turn in turns)
    assert left == max(0, pieces.count("<image>") - pictures), "further marks are text"


def test_a_referring_expression_becomes_a_question_and_its_box_the_answer() -> None:
    regions = [{"box": [20.0, 25.0, 100.0, 75.0], "image": 0}]
    asked = row("<image>\nleft boy", pictures=1, task="grounding", regions=regions)
    question, answer = conversation(asked, BOXES["shikra"], None)
    assert question.content == f"{MARK}\nWhere is left boy? Answer with a box."
    assert answer == Turn(role="assistant", content="[0.100,0.250,0.500,0.750]", loss=True)


def test_a_system_prompt_is_added_unless_the_record_has_its_own() -> None:
    asked = row("hi", "ho")
    turns = conversation(asked, BOXES["shikra"], "Be kind.")
    assert [t.content for t in turns] == ["Be kind.", "hi", "ho"]
    asked["messages"].insert(0, {"role": "system", "content": "Be brief.", "loss": None})
    turns = conversation(asked, BOXES["shikra"], "Be kind.")
    assert [t.content for t in turns] == ["Be brief.", "hi", "ho"]


@pytest.fixture(scope="module")
def tokenizer(road: Path) -> Any:
    return Encoder(EncoderConfig(tokenizer=road / "tok")).tokenizer


PLAIN = (
    "{% for m in messages %}{% if m.role == 'assistant' %}ASSISTANT: {{ m.content }}</s>"
    "{% else %}{{ m.role | upper }}: {{ m.content }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TAGGED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}ASSISTANT:"
    "{%- generation -%}{{ ' ' + m.content }}</s>{%- endgeneration -%}"
    "{% else %}{{ m.role | upper }}: {{ m.content }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
REWRITING = (
    "{% for m in messages %}{{ m.content }}{% if loop.last %} END{% endif %};{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Z", "C")), min_size=1)


@pytest.mark.parametrize("template", [PLAIN, TAGGED], ids=["prefixes", "generation tags"])
@settings(deadline=None)
@given(contents=st.lists(words, min_size=2, max_size=6))
def test_the_learnt_spans_are_the_answers_and_their_end_marks(
    tokenizer: Any, template: str, contents: list[str]
) -> None:
    tokenizer.chat_template = template
    turns = conversation(row(*contents), BOXES["shikra"])
    rendered = render(turns, tokenizer)
    learnt = [rendered.text[start:end] for start, end in rendered.spans]
    assert learnt == [f" {turn.content}</s>" for turn in turns if turn.role == "assistant"]


def test_a_turn_that_the_release_does_not_want_learnt_is_not(tokenizer: Any) -> None:
    asked = row("a", "b", "c", "d")
    asked["messages"][1]["loss"] = False
    for template in (PLAIN, TAGGED):
        tokenizer.chat_template = template
        rendered = render(conversation(asked, BOXES["shikra"]), tokenizer)
        assert [rendered.text[start:end] for start, end in rendered.spans] == [" d</s>"]


def test_a_template_that_words_earlier_turns_anew_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = REWRITING
    with pytest.raises(UserError, match=r"changes earlier turns(.|\n)*endgeneration"):
        render(conversation(row("a", "b", "c", "d"), BOXES["shikra"]), tokenizer)
