"""What is asked about a canvas or a page, and what is true."""

from dataclasses import dataclass

from flows.demo.canvas import Canvas, Slip, Split, generator
from flows.demo.text import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question with its one answer."""

    question: str
    answer: str
    kind: str
    """As VQAv2 names its question types: how a question begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A slip and the words that single it out on its canvas."""

    slip: Slip
    sentences: tuple[str, ...]


def visual(canvas: Canvas) -> list[Asked]:
    """Return which digit stands at two of the places, where one digit is, and how many there are."""
    random = generator("visual", canvas.number)
    chosen = [canvas.slips[i] for i in random.permutation(len(canvas.slips))[:2]]
    found = [which(slip) for slip in chosen]
    if canvas.single:
        found.append(where(canvas.single[int(random.integers(len(canvas.single)))]))
    return [*found, how_many(canvas)]


def which(slip: Slip) -> Asked:
    return Asked(
        question=f"Which digit is at the {slip.place}?", answer=str(slip.digit), kind="which"
    )


def where(slip: Slip) -> Asked:
    return Asked(question=f"Where is the {slip.digit}?", answer=slip.place, kind="where is the")


def how_many(canvas: Canvas) -> Asked:
    return Asked(
        question="How many digits are there?", answer=str(len(canvas.slips)), kind="how many"
    )


def expressions(canvas: Canvas) -> list[Expression]:
    """Return two of the slips, each with words: its digit, its place too where the digit is not alone.

    >>> from flows.demo.canvas import scattered
    >>> [e.sentences for e in expressions(scattered(0, "train", 3))]
    [('the 8 at the top right',), ('the 4',)]
    """
    random = generator("expressions", canvas.number)
    found = []
    for i in random.permutation(len(canvas.slips))[:2]:
        slip = canvas.slips[i]
        long = f"the {slip.digit} at the {slip.place}"
        alone = slip in canvas.single and random.random() < 0.8
        found.append(Expression(slip=slip, sentences=(f"the {slip.digit}" if alone else long,)))
    return found


def conversation(canvas: Canvas) -> list[Asked]:
    """Return the turns of a talk about a canvas: everything, digit by digit, or place by place.

    No turn tells what a later one asks: each answer must be seen, none can be copied.
    """
    random = generator("conversation", canvas.number)
    everything = ", ".join(f"{slip.place} {slip.digit}" for slip in canvas.slips)
    kinds = (
        [Asked(question="What is on the desk?", answer=everything, kind="what is")],
        [which(slip) for slip in canvas.slips],
        [where(slip) for slip in canvas.single],
    )
    turns = kinds[int(random.choice(3, p=(0.25, 0.25, 0.5)))] or kinds[0]
    return [turns[i] for i in random.permutation(len(turns))]


def number(canvas: Canvas) -> Asked:
    """Return the question of a canvas whose slips are a number."""
    return Asked(question="What number is written?", answer=canvas.text, kind="what number is")


def document(sheet: Page, split: Split) -> list[Asked]:
    """Return a question on a printed line and one on the handwritten page number."""
    line = int(generator("document", split, sheet.number).integers(len(sheet.lines)))
    return [
        Asked(question=f"What is on line {line + 1}?", answer=sheet.lines[line], kind="form"),
        Asked(
            question="What is the page number?", answer=str(sheet.slip.digit), kind="handwritten"
        ),
    ]
