"""Captions against their references: CIDEr-D, BLEU-1 to 4, ROUGE-L, and METEOR through Java.

Source: salaniz/pycocoevalcap, the port of tylin/coco-caption.
"""

import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from rapidfuzz.distance import LCSseq

from catalog.errors import UserError
from model.metrics.base import Item, Metric, parts
from model.metrics.ptb import words

ORDERS = 4
"""Longest n-grams."""
SPREAD = 6.0
"""CIDEr-D: standard deviation of the penalty on lengths, in bigrams."""
BETA = 1.2
"""ROUGE-L: weight of recall."""
_TINY, _SMALL = 1e-15, 1e-9
"""The script's constants in place of smoothing: numerators, denominators."""

Words = list[str]
Grams = Counter[tuple[str, ...]]


def rouge_l(prediction: str, reference: str | Sequence[str]) -> float:
    """Return ROUGE-L of one caption: F of the best precision and the best recall over references.

    >>> rouge_l("a b c d", ["a b c d"]), rouge_l("x", ["a"])
    (1.0, 0.0)
    """
    said = words(prediction)
    return _rouge_l(said, [words(text) for text in _listed(reference)])


def _listed(reference: str | Sequence[str]) -> list[str]:
    return [reference] if isinstance(reference, str) else list(reference)


def _rouge_l(said: Words, references: Sequence[Words]) -> float:
    common = [LCSseq.similarity(said, reference) for reference in references]
    precision = max(common) / max(len(said), 1)
    recall = max(n / max(len(wanted), 1) for n, wanted in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _grams(said: Words) -> list[Grams]:
    """Return the counts of n-grams, n = 1 to 4."""
    return [
        Counter(tuple(said[place : place + n]) for place in range(len(said) - n + 1))
        for n in range(1, ORDERS + 1)
    ]


def _bleu(said: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """Return BLEU-1 to 4 of a set, by clipped counts and the closest reference lengths."""
    right, guessed = [0] * ORDERS, [0] * ORDERS
    length = wanted = 0
    for mine, others in zip(said, references, strict=True):
        length += len(mine)
        wanted += min((abs(len(other) - len(mine)), len(other)) for other in others)[1]
        most: list[Grams] = [Counter() for _ in range(ORDERS)]
        for other in others:
            most = [a | b for a, b in zip(most, _grams(other), strict=True)]
        for n, counts in enumerate(_grams(mine)):
            right[n] += (counts & most[n]).total()
            guessed[n] += max(0, len(mine) - n)
    ratio = (length + _TINY) / (wanted + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product, scores = 1.0, []
    for n in range(ORDERS):
        product *= (right[n] + _TINY) / (guessed[n] + _SMALL)
        scores.append(product ** (1 / (n + 1)) * brevity)
    return scores


def _cider(said: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """Return CIDEr-D of each caption; rare n-grams of this set's references weigh most."""
    counted = [[_grams(other) for other in others] for others in references]
    held: defaultdict[tuple[str, ...], int] = defaultdict(int)
    for grams in counted:
        for gram in {gram for each in grams for counts in each for gram in counts}:
            held[gram] += 1
    images = math.log(len(said))

    def weighed(counts: Grams) -> tuple[dict[tuple[str, ...], float], float]:
        weights = {
            gram: count * (images - math.log(max(1, held.get(gram, 0))))
            for gram, count in counts.items()
        }
        return weights, math.sqrt(sum(weight**2 for weight in weights.values()))

    scores = []
    for mine, others in zip(said, counted, strict=True):
        own = _grams(mine)
        vectors = [weighed(counts) for counts in own]
        total = 0.0
        for other in others:
            apart = own[1].total() - other[1].total()
            penalty = math.exp(-(apart**2) / (2 * SPREAD**2))
            for (weights, norm), counts in zip(vectors, other, strict=True):
                theirs, size = weighed(counts)
                if norm and size:
                    shared = sum(
                        min(weight, theirs[gram]) * theirs[gram]
                        for gram, weight in weights.items()
                        if gram in theirs
                    )
                    total += penalty * shared / (norm * size)
        scores.append(10 * total / (ORDERS * len(others)))
    return scores


def aggregate(items: Iterable[Item], *, meteor: bool = False) -> dict[str, float]:
    """Return CIDEr, BLEU-1 to 4, ROUGE-L and, if asked for, METEOR of a set of captions.

    CIDEr is about 0 to 10 and the others are fractions; papers print all of them times 100. A missing
    caption is an empty one. Document frequencies are those of the set: give one caption an image.
    """
    pairs = [parts(item) for item in items]
    if not pairs:
        raise UserError("no items to score", fix="name a split that has captions")
    said = [words(prediction or "") for prediction, _ in pairs]
    references = [[words(text) for text in _listed(reference)] for _, reference in pairs]
    rouge = [_rouge_l(mine, others) for mine, others in zip(said, references, strict=True)]
    cider = _cider(said, references)
    figures = {"CIDEr": sum(cider) / len(cider)}
    figures |= {f"BLEU-{n}": score for n, score in enumerate(_bleu(said, references), start=1)}
    figures["ROUGE-L"] = sum(rouge) / len(rouge)
    if meteor:
        figures["METEOR"] = _meteor(said, references)
    return figures


def _meteor(said: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """Return METEOR 1.5, by its own Java program.

    Raises:
        UserError: there is no Java, or the package that holds the program is not installed.
    """
    if shutil.which("java") is None:
        raise UserError("METEOR needs Java, and there is none", fix="install a Java runtime")
    try:
        from pycocoevalcap.meteor.meteor import Meteor
    except ModuleNotFoundError as error:
        raise UserError(
            "METEOR needs pycocoevalcap", fix="pip install 'cuvee[captions]'"
        ) from error
    scorer: Any = Meteor()
    true = {n: [" ".join(other) for other in others] for n, others in enumerate(references)}
    try:
        score, _ = scorer.compute_score(true, {n: [" ".join(mine)] for n, mine in enumerate(said)})
    finally:
        # The package ends its program, and leaves these open.
        scorer.meteor_p.stdout.close()
        scorer.meteor_p.stderr.close()
    return float(score)


CAPTION = Metric(
    name="caption",
    title="CIDEr",
    score=rouge_l,
    aggregate=aggregate,
    measure="CIDEr",
    extras={"image_id": "id of the picture"},
    options={"meteor": "METEOR too; needs Java and pycocoevalcap"},
)
