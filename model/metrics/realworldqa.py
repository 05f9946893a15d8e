"""RealWorldQA: exact match after light cleaning, the letter where the text of an option is found.

Source: EvolvingLMMs-Lab/lmms-eval, tasks/realworldqa, as of 2024; `rule="vlmevalkit"` is the rule
behind most published figures.
"""

import re

from model.metrics.base import averaged
from model.metrics.letters import infer

_OPTION = re.compile(r"\b([A-Z])\.[ \t]+([^\n]+)")
_NOT_A_WORD = re.compile(r"[^\w\s]")
_DIGITS = dict(
    zip(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        map(str, range(11)),
        strict=True,
    )
)


def realworldqa(
    prediction: str, reference: str, *, question: str = "", rule: str = "lmms-eval"
) -> float:
    """Return 1 where the cleaned answer is the reference; options stand in the question as `A. text`.

    >>> [realworldqa(text, "4") for text in ("Four", "four.", "4.")]
    [1.0, 0.0, 1.0]
    >>> realworldqa("Right", "B", question="Which?\\nA. Left\\nB. Right")
    1.0
    """
    options: dict[str, str] = dict(_OPTION.findall(question))
    if rule == "vlmevalkit" and options:
        return float(infer(prediction, options) == reference)
    said = _DIGITS.get(prediction.lower(), prediction)
    said = _NOT_A_WORD.sub("", said).strip()
    # The option whose text stands first in the answer; of equals the first option.
    named = [
        (said.index(text), place) for place, text in enumerate(options.values()) if text in said
    ]
    if named:
        said = list(options)[min(named)[1]]
    return float(said.lower().strip().rstrip(".") == reference.lower())


REALWORLDQA = averaged(
    "realworldqa",
    "RealWorldQA accuracy",
    realworldqa,
    extras={"question": "the question with its options, one a line"},
    options={"rule": "'vlmevalkit' infers letters as `mcq` does"},
)
