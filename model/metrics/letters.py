"""Which option an answer names: VLMEvalKit's letter rule, and its text rule where no letter stands.

Source: open-compass/VLMEvalKit, vlmeval/utils/matching_util.py, as of May 2024.
"""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from catalog.errors import UserError

REFUSED = "Z"
"""What a refusal to answer counts as: no option's letter."""
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_BLANKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))


def lettered(choices: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return letter -> text of the choices, which may have letters already.

    >>> lettered(["kayak", "canoe"])
    {'A': 'kayak', 'B': 'canoe'}
    """
    if isinstance(choices, Mapping):
        return {str(letter): str(text) for letter, text in choices.items()}
    return dict(zip(ascii_uppercase, map(str, choices), strict=False))


def right_letter(reference: str | int, options: Mapping[str, str]) -> str:
    """Return the letter of the right choice, given as a letter or as an index.

    Raises:
        UserError: the choices have no such letter or place.
    """
    letters = list(options)
    if isinstance(reference, str) and reference in options:
        return reference
    if isinstance(reference, int) and 0 <= reference < len(letters):
        return letters[reference]
    raise UserError(
        f"the right choice is {reference!r}, the choices are {dict(options)}",
        fix="give `reference` as a letter or index of `choices`",
    )


def infer(text: str, options: Mapping[str, str]) -> str | None:
    """Return the letter of the option that an answer names, `Z` for a refusal, None if unclear.

    >>> [infer(t, lettered(["kayak", "canoe"])) for t in ("B) a canoe", "The boat is a canoe", "b")]
    ['B', 'B', None]
    """
    if any(phrase in text for phrase in _REFUSALS):
        return REFUSED
    words = text.translate(_BLANKS).split()
    said = [letter for letter in options if letter in words]
    if len(said) == 1:
        return said[0]
    if not said and REFUSED in words:
        return REFUSED
    named = [letter for letter, option in options.items() if option.lower() in text.lower()]
    return named[0] if len(named) == 1 else None
