"""Encoding: only answers are learnt, pictures keep their places, nothing is encoded twice."""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import Catalog
from catalog.errors import UserError
from catalog.parts import Part
from pipeline.encode import (
    PICTURE,
    Encoder,
    EncoderConfig,
    encode,
    from_bytes,
    to_bytes,
    truncate,
)


def encoded(road: Path, config: EncoderConfig) -> list[tuple[dict[str, Any], bytes]]:
    """Return each samples row with its encoding's columns and data."""
    name = encode(Catalog.open(road / "catalog"), config)
    catalog = Catalog.open(road / "catalog")
    pairs = []
    for samples, file in zip(catalog.files("samples"), catalog.encoding_parts(name), strict=True):
        part = Part(file)
        columns = pl.read_parquet(file, columns=["n_tokens", "n_loss", "size"]).to_dicts()
        rows = pl.read_parquet(samples).to_dicts()
        pairs += [
            (row | more, bytes(part[i]))
            for i, (row, more) in enumerate(zip(rows, columns, strict=True))
        ]
    return pairs


def test_only_the_assistants_words_are_learnt(road: Path) -> None:
    config = EncoderConfig(tokenizer=road / "tok")
    tokenizer = Encoder(config).tokenizer
    pairs = encoded(road, config)
    assert len(pairs) == 90
    for row, data in pairs:
        ids, mask = from_bytes(data)
        said = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        assert tokenizer.decode(ids[mask]) == "".join(f"{text}<|im_end|>" for text in said)
        assert (ids == PICTURE).sum() == row["n_images"]
        assert (row["n_tokens"], row["n_loss"]) == ((ids != PICTURE).sum(), mask.sum())
        assert row["size"] == len(data)


def test_a_prompt_is_what_training_puts_before_the_answer(road: Path) -> None:
    config = EncoderConfig(tokenizer=road / "tok", system="Be brief.")
    encoder = Encoder(config)
    for row, data in encoded(road, config)[::10]:
        ids, mask = from_bytes(data)
        prompt = encoder.prompt(row)
        assert prompt == ids[: len(prompt)].tolist()
        assert mask.argmax() == len(prompt)


WORDINGS = ("Describe the picture.", "Say what is seen.", "Caption this.")


def captions(count: int) -> list[dict[str, Any]]:
    """Return samples rows that ask nothing."""
    return [
        {
            "sample_id": hashlib.sha256(str(number).encode()).hexdigest(),
            "task": "caption",
            "messages": [
                {"role": "user", "content": "<image>", "loss": None},
                {"role": "assistant", "content": f"Dog {number}.", "loss": None},
            ],
            "regions": [],
            "n_images": 1,
            "widths": [8],
            "heights": [8],
        }
        for number in range(count)
    ]


def test_captions_ask_with_the_prompt_their_ids_draw_in_any_order(road: Path) -> None:
    encoder = Encoder(EncoderConfig(tokenizer=road / "tok", prompts={"caption": WORDINGS}))
    rows = captions(300)
    drawn: Counter[str] = Counter()
    encoded = encoder.encode(rows)
    again = dict(zip(range(299, -1, -1), encoder.encode(rows[::-1]), strict=True))
    for number, (row, (ids, mask)) in enumerate(zip(rows, encoded, strict=True)):
        text = encoder.tokenizer.decode(ids[ids != PICTURE])
        [found] = [wording for wording in WORDINGS if wording in text]
        drawn[found] += 1
        assert encoder.tokenizer.decode(ids[mask]) == f"Dog {number}.<|im_end|>"
        assert encoder.prompt(row) == ids[: mask.argmax()].tolist()
        assert np.array_equal(again[number][0], ids)
    assert min(drawn.values()) > 60
    [(ids, _, _)] = encoder.encode_merged([rows[:2]])
    text = encoder.tokenizer.decode(ids[ids != PICTURE])
    assert sum(text.count(wording) for wording in WORDINGS) == 2


def test_questions_other_tasks_and_text_keep_their_words(road: Path) -> None:
    plain = Encoder(EncoderConfig(tokenizer=road / "tok"))
    asking = Encoder(EncoderConfig(tokenizer=road / "tok", prompts={"caption": WORDINGS}))
    question, other, text = captions(3)
    question["messages"][0]["content"] = "<image>\nWhat is it?"
    other["task"] = "ocr"
    text |= {"n_images": 0, "widths": [], "heights": []}
    text["messages"][0]["content"] = ""
    for row in (question, other, text):
        [(ids, _)], [(same, _)] = plain.encode([row]), asking.encode([row])
        assert np.array_equal(ids, same)


@pytest.mark.parametrize("wordings", [(), ("  ",), ("Look: <image>",), ("<region:0>?",)])
def test_a_prompt_that_says_nothing_or_holds_a_mark_is_refused(
    wordings: tuple[str, ...], road: Path
) -> None:
    with pytest.raises(ValueError, match="caption: "):
        EncoderConfig(tokenizer=road / "tok", prompts={"caption": wordings})
    config = EncoderConfig(tokenizer=road / "tok", prompts={"captions": ("Look.",)})
    with pytest.raises(UserError, match="captions: neither a task nor a source of the catalog"):
        encode(Catalog.open(road / "catalog"), config)


def test_a_sources_own_prompts_go_before_its_tasks(road: Path) -> None:
    prompts: dict[str, tuple[str, ...]] = {"caption": ("Look.",), "coco": ("See.",)}
    encoder = Encoder(EncoderConfig(tokenizer=road / "tok", prompts=prompts))
    [row] = captions(1)
    for source, said in (("coco", "See."), ("laion", "Look."), (None, "Look.")):
        [(ids, _)] = encoder.encode([row if source is None else row | {"source": source}])
        text = encoder.tokenizer.decode(ids[ids != PICTURE])
        assert [wording in text for wording in ("See.", "Look.")] == [
            said == "See.",
            said == "Look.",
        ]


def test_a_second_encoding_encodes_nothing(road: Path) -> None:
    config = EncoderConfig(tokenizer=road / "tok")
    done: list[int] = []
    first = encode(Catalog.open(road / "catalog"), config)
    again = encode(Catalog.open(road / "catalog"), config, progress=done.append)
    assert (done, again) == ([], first)
    kept = EncoderConfig(tokenizer=road / "catalog" / "encoders" / first)
    assert Encoder(kept).fingerprint == first, "the catalog keeps the tokenizer"


def test_another_template_convention_or_prompt_is_another_encoder(
    road: Path, tmp_path: Path
) -> None:
    shutil.copytree(road / "tok", tmp_path / "tok")
    file = tmp_path / "tok" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))
    prompts_: list[dict[str, tuple[str, ...]]] = [
        {},
        {"caption": ("Look.",)},
        {"caption": ("See.",)},
        {"ocr": ("See.",)},
    ]
    prints = {
        Encoder(
            EncoderConfig(tokenizer=tokenizer, boxes=boxes, system=system, prompts=prompts)
        ).fingerprint
        for prompts in prompts_
        for tokenizer in (road / "tok", tmp_path / "tok")
        for boxes in ("shikra", "qwen-vl")
        for system in (None, "", "Be brief.")
    }
    assert len(prints) == 48


def test_a_conversation_the_template_refuses_has_nothing_to_learn(
    road: Path, tmp_path: Path
) -> None:
    shutil.copytree(road / "tok", tmp_path / "tok")
    file = tmp_path / "tok" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config["chat_template"] = "{{ raise_exception('no') }}"
    file.write_text(json.dumps(config))
    row = {
        "task": "vqa",
        "messages": [{"role": "user", "content": "<image>\nhi", "loss": None}],
        "regions": [],
        "n_images": 1,
        "widths": [8],
        "heights": [8],
    }
    [(ids, mask)] = Encoder(EncoderConfig(tokenizer=tmp_path / "tok")).encode([row])
    assert (ids.tolist(), mask.tolist()) == ([PICTURE], [False])


def test_a_folder_without_a_usable_tokenizer_is_explained(road: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer\.json there"):
        Encoder(EncoderConfig(tokenizer=tmp_path))
    shutil.copytree(road / "tok", tmp_path / "tok")
    file = tmp_path / "tok" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["chat_template"]
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match="has no chat template"):
        _ = Encoder(EncoderConfig(tokenizer=tmp_path / "tok")).tokenizer


tokens = st.lists(st.tuples(st.integers(-1, 9), st.booleans()), max_size=30)


@given(tokens, st.integers(0, 30))
def test_truncation_keeps_every_picture_and_the_first_text(
    pairs: list[tuple[int, bool]], text: int
) -> None:
    ids = np.array([token for token, _ in pairs], np.int32)
    mask = np.array([learnt for _, learnt in pairs], np.bool_)
    short, learnt = truncate(ids, mask, text)
    assert (short == PICTURE).sum() == (ids == PICTURE).sum()
    words = ids[ids != PICTURE]
    assert short[short != PICTURE].tolist() == words[:text].tolist()
    back = from_bytes(to_bytes(short, learnt))
    assert back[0].tolist() == short.tolist()
    assert back[1].tolist() == learnt.tolist()
