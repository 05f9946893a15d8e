"""The answer normalisation that the VQA family shares.

Source: GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py, with its accidents.
"""

import re

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32
"""The script passes a flag where `re.sub` takes a count."""
_ARTICLES = ("a", "an", "the")
_NUMBERS = {"none": "0"} | {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_FAMILIES = {
    "nt n't": "ai are ca could did does do had has have is might must need ought sha should was "
    "were wo would",
    "ve 've": "could might must not should they we what where who would you",
    "n'tve n't've": "could had might should would",
    "nt've n't've": "could had might should would",
    "d 'd": "he how it someone something there they where who you",
    "d've 'd've": "he it she somebody someone something there they we who y'all you",
    "'dve 'd've": "he it she somebody someone something there they we who y'all you",
    "s 's": "he how somebody someone that there what when where who why",
    "ll 'll": "how it somebody someone something they what who why y'all you",
    "re 're": "there they what why you",
}
"""Ending as found and as written -> stems."""
_CONTRACTIONS = {
    stem + ending.split()[0]: stem + ending.split()[1]
    for ending, stems in _FAMILIES.items()
    for stem in stems.split()
} | {
    "maam": "ma'am",
    "oclock": "o'clock",
    "twas": "'twas",
    "yall": "y'all",
    "yall'll": "y'all'll",
    "yall'd've": "y'all'd've",
    "somebody'd": "somebodyd",
    "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at",
    "'ow'sat": "'ow's'at",
}


def one_line(text: str) -> str:
    r"""Return the text without newlines and tabs, and without blanks at its ends.

    >>> one_line(" two\tdogs\n")
    'two dogs'
    """
    return text.replace("\n", " ").replace("\t", " ").strip()


def normalise(text: str) -> str:
    """Return an answer without punctuation, articles and case; number words become digits.

    >>> normalise("The 1,000-day war."), normalise("isnt it?"), normalise("two/three")
    ('1000day war', "isn't it", '2 3')
    """
    words = _without_punctuation(text).lower().split()
    digits = [_NUMBERS.get(word, word) for word in words]
    return " ".join(_CONTRACTIONS.get(word, word) for word in digits if word not in _ARTICLES)


def _without_punctuation(text: str) -> str:
    """Look at the text as it came for every character; `1,000` anywhere deletes all of them."""
    number = _DIGIT_COMMA_DIGIT.search(text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        beside_blank = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside_blank or number else " ")
    return _PERIOD.sub("", cleaned, count=_MOST_PERIODS)
