"""Prompts: boxes come back from text, picture marks are right, learnt spans are the answers."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import UserError
from pipeline.encode import Encoder, EncoderConfig
from pipeline.prompt import BOXES, MARK, Turn, conversation, render


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


def test_marked_regions_are_written_with_the_phrase_they_belong_to() -> None:
    regions = [
        {"box": [20.0, 25.0, 100.0, 75.0], "image": 0, "span": [0, 5]},
        {"box": [0.0, 0.0, 200.0, 100.0], "image": 0, "span": None},
        {"box": None, "image": 0, "span": None},
    ]
    asked = row(
        "<image>\nWhat is in <region:1>?",
        "A dog <region:0> in a yard <region:0,1>, <region:2><region:7>.",
        pictures=1,
        task="caption",
        regions=regions,
    )
    question, answer = conversation(asked, BOXES["internvl"])
    assert question.content == f"{MARK}\nWhat is in <box>[[0, 0, 1000, 1000]]</box>?"
    dog, both = "[100, 250, 500, 750]", "[100, 250, 500, 750], [0, 0, 1000, 1000]"
    assert answer.content == (
        f"<ref>A dog</ref><box>[{dog}]</box> in a yard <box>[{both}]</box>, <region:7>."
    )
    assert (
        conversation(row("<region:0>", "<region:0>"), BOXES["internvl"])[0].content == "<region:0>"
    )


def test_a_grounding_record_with_its_own_answer_is_left_as_it_is() -> None:
    regions = [{"box": [20.0, 25.0, 100.0, 75.0], "image": 0, "span": None}]
    asked = row("Find all cats.", "cat: <region:0>", pictures=1, task="grounding", regions=regions)
    question, answer = conversation(asked, BOXES["shikra"])
    assert question.content == f"{MARK}\nFind all cats."
    assert answer.content == "cat: [0.100,0.250,0.500,0.750]"


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
