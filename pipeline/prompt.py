"""A row of `samples` -> the conversation a model sees -> text by the tokenizer's own template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from catalog.errors import UserError
from catalog.record import IMAGE, REGION_MARK
from pipeline.boxes import BOXES, Box, BoxFormat
from pipeline.spots import unspell

MARK = "\ufdd0"
"""Stands where a picture stands: a Unicode noncharacter, which no exchanged text may hold."""
PICTURE = -1
"""Stands for a picture among token ids."""
HASHED = 15
"""Leading hexadecimal digits of a sample's id that draw its prompt."""
QUESTION = "Where is {expression}? Answer with a box."
"""Asks for the box of a referring expression."""

__all__ = [
    "BOXES",
    "MARK",
    "PICTURE",
    "Box",
    "BoxFormat",
    "Prompts",
    "Rendered",
    "Turn",
    "conversation",
    "generation_prompt",
    "merged",
    "render",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of the conversation as the chat template takes it, `MARK` where a picture stands."""

    role: str
    content: str
    loss: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A conversation as text, and the character spans (start, end) in it that are learnt."""

    text: str
    spans: tuple[tuple[int, int], ...]


Prompts = Mapping[str, Sequence[str]]
"""Source or task -> instructions for its samples that show a picture and ask nothing."""


def conversation(
    row: Mapping[str, Any],
    boxes: BoxFormat,
    system: str | None = None,
    prompts: Prompts | None = None,
) -> list[Turn]:
    """Return the turns of a samples row; only assistant turns can carry loss.

    Where a message marks regions, their boxes are written in the convention, with the phrase that
    stands before the mark if it is the regions' own. A grounding record that only has an
    expression and a region becomes a question and the region's box.
    A user turn of pictures alone, as captions and transcripts have, gets one of the prompts of its
    source, else of its task.
    The first `<image>` marks, as many as the row has pictures, become `MARK`; further ones are
    ordinary text, and pictures without a mark stand in front of the first user turn.
    """
    turns = [
        Turn(
            role=message["role"],
            content=unspell(message["content"].replace(MARK, "\ufffd")),
            loss=message["role"] == "assistant" and message["loss"] is not False,
        )
        for message in row["messages"]
    ]
    if prompts and row["n_images"]:
        wordings = prompts.get(row.get("source", "")) or prompts.get(row["task"]) or ()
        turns = [replace(turn, content=_asked(turn, row, wordings)) for turn in turns]
    answered = any(turn.role == "assistant" for turn in turns)
    if row["task"] == "grounding" and row["regions"] and not answered:
        turns = _grounding(turns, row, boxes)
    elif row["regions"]:
        turns = [replace(turn, content=_with_boxes(turn.content, row, boxes)) for turn in turns]
    if system is not None and not (turns and turns[0].role == "system"):
        turns.insert(0, Turn(role="system", content=system, loss=False))
    return _mark(turns, row["n_images"])


def _asked(turn: Turn, row: Mapping[str, Any], wordings: Sequence[str]) -> str:
    """Return a turn's words; a wording behind pictures that ask nothing, the sample's own draw."""
    if not wordings or turn.role != "user" or turn.content.replace(IMAGE, "").strip():
        return turn.content
    # An id is a hash: the draw is even, and the same on any machine and in any order.
    wording = wordings[int(row["sample_id"][:HASHED], 16) % len(wordings)]
    return f"{turn.content.rstrip()}\n{wording}".lstrip()


def merged(
    rows: Sequence[Mapping[str, Any]],
    boxes: BoxFormat,
    system: str | None = None,
    prompts: Prompts | None = None,
) -> list[Turn]:
    """Return the turns of several samples on one picture as one conversation, the picture first.

    Only the first sample shows the picture; the others' `<image>` goes, with its line break.
    """
    turns = conversation(rows[0], boxes, system, prompts)
    for row in rows[1:]:
        turns += [
            replace(turn, content=_unshown(turn.content))
            for turn in conversation(row, boxes, None, prompts)
        ]
    return turns


def _unshown(content: str) -> str:
    for shown in (f"{MARK}\n", f"\n{MARK}", MARK):
        content = content.replace(shown, "")
    return content


def _grounding(turns: Sequence[Turn], row: Mapping[str, Any], boxes: BoxFormat) -> list[Turn]:
    asked = [
        replace(turn, content=_question(turn.content)) if turn.role == "user" else turn
        for turn in turns
    ]
    written = [
        boxes.write(region["box"], row["widths"][image], row["heights"][image])
        for region in row["regions"]
        if region["box"] is not None and (image := region["image"]) < row["n_images"]
    ]
    if written and asked and asked[-1].role == "user":
        asked.append(Turn(role="assistant", content=" ".join(written), loss=True))
    return asked


def _with_boxes(content: str, row: Mapping[str, Any], boxes: BoxFormat) -> str:
    """Write the boxes of the regions a message marks; places without a region are ordinary text."""
    regions, written, done = row["regions"], "", 0
    for match in REGION_MARK.finditer(content):
        places = [int(place) for place in match[1].split(",")]
        if max(places) >= len(regions):
            continue
        marked = [regions[place] for place in places]
        image = marked[0]["image"]
        size = (row["widths"][image], row["heights"][image]) if image < row["n_images"] else (1, 1)
        drawn = [region["box"] for region in marked if region["box"] is not None]
        start, end = marked[0].get("span") or (0, 0)
        if done <= start < end <= match.start() and not content[end : match.start()].strip():
            written += content[done:start] + boxes.say(content[start:end], drawn, *size)
        else:
            written += content[done : match.start()]
            text = boxes.write_all(drawn, *size)
            # Bare numbers keep a distance from what stands before them.
            written += " " + text if text[:1].isdigit() and written[-1:].isalnum() else text
        done = match.end()
    return written + content[done:]


def _question(content: str) -> str:
    """
    >>> _question("<image>\\nleft boy")
    '<image>\\nWhere is left boy? Answer with a box.'
    """
    head, mark, expression = content.rpartition(IMAGE)
    return head + mark + ("\n" if mark else "") + QUESTION.format(expression=expression.strip())


def _mark(turns: Sequence[Turn], pictures: int) -> list[Turn]:
    left, marked = pictures, []
    for turn in turns:
        here = min(left, turn.content.count(IMAGE))
        left -= here
        marked.append(replace(turn, content=turn.content.replace(IMAGE, MARK, here)))
    if left:
        first = next((i for i, turn in enumerate(marked) if turn.role == "user"), None)
        if first is None:
            first = int(bool(marked) and marked[0].role == "system")
            marked.insert(first, Turn(role="user", content="", loss=False))
        shown = f"{MARK}\n" * left + marked[first].content
        marked[first] = replace(marked[first], content=shown)
    return marked


def render(turns: Sequence[Turn], tokenizer: Any) -> Rendered:
    """Return a conversation as the tokenizer's chat template words it.

    A learnt turn begins where the generation prompt ends, and ends with the mark that ends the turn,
    as the model must write it: what follows, such as ChatML's line break, is never generated.

    Raises:
        jinja2.TemplateError: the template refuses this conversation.
        UserError: learnt turns cannot be found, because later turns change how earlier ones read.
    """
    if "generation %}" in tokenizer.chat_template.replace("-%}", " %}").replace("  ", " "):
        return _by_tags(turns, tokenizer)
    whole = _template(turns, tokenizer)
    spans = []
    for number, turn in enumerate(turns):
        if not turn.loss:
            continue
        before = _template(turns[:number], tokenizer, ask=True)
        last = number + 1 == len(turns)
        after = whole if last else _template(turns[: number + 1], tokenizer)
        if not after.startswith(before) or not whole.startswith(after):
            raise UserError(
                "the chat template changes earlier turns when later ones come",
                fix="put {% generation %} … {% endgeneration %} around its assistant turns",
            )
        spans.append((len(before), len(after.rstrip())))
    return Rendered(text=whole, spans=tuple(spans))


def _by_tags(turns: Sequence[Turn], tokenizer: Any) -> Rendered:
    """Take the learnt turns from the template's `{% generation %}` tags."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered: Any = render_jinja_template(
        conversations=[_messages(turns)],
        chat_template=tokenizer.chat_template,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    [text], [found] = rendered
    spoken = [turn.loss for turn in turns if turn.role == "assistant"]
    if len(spoken) != len(found):
        raise UserError(
            f"the chat template marks {len(found)} of {len(spoken)} assistant turns",
            fix="put {% generation %} … {% endgeneration %} around each of them",
        )
    spans = tuple((start, end) for (start, end), loss in zip(found, spoken, strict=True) if loss)
    return Rendered(text=text, spans=spans)


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _template(turns: Sequence[Turn], tokenizer: Any, *, ask: bool = False) -> str:
    text: str = tokenizer.apply_chat_template(
        _messages(turns), tokenize=False, add_generation_prompt=ask
    )
    return text


def generation_prompt(
    row: Mapping[str, Any],
    tokenizer: Any,
    *,
    boxes: str,
    system: str | None = None,
    prompts: Prompts | None = None,
) -> str:
    """Return the text that asks a row's last question, `MARK` where a picture stands.

    It is what training puts before the answer: the same wording, the same template.
    """
    turns = conversation(row, BOXES[boxes], system, prompts)
    while turns and turns[-1].role == "assistant":
        turns.pop()
    return _template(turns, tokenizer, ask=True)
