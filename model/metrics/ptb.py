"""Captions -> words, as the Penn Treebank tokeniser of the caption benchmarks splits and drops them.

Rules of Stanford's PTBTokenizer 3.4.1 with lower case, and the punctuation that pycocoevalcap's
`ptbtokenizer.py` leaves out; checked against both on captions.
"""

import re

DROPPED = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|st|jr|sr|vs|etc|inc|ltd|co|corp|prof|gen|col|capt|lt|sgt|rev|hon|gov|sen|rep|pres"
    "|mt|ft|ave|blvd|rd|no|dept|est|bros|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec"
)
_TOKEN = re.compile(
    rf"""
      (?:{_ABBREVIATIONS})\.                          # an abbreviation keeps its dot
    | (?:[a-z]\.){{2,}}(?:[a-z]\b)?                   # u.s. u.s.a
    | \d+:\d+ | [#@][a-z]\w* | [!?]{{2,}}             # 10:30 #name ?!
    | \.{{2,}}|-{{2,}}                                # dots, dashes
    | '(?:s|m|d|re|ve|ll|em|tis|twas|n'|\d0s)(?!\w)   # 's 're 'n' '90s
    | n't\b
    | [^\W_]+(?:(?:[-_'&/.@]|(?<=\d)[,:](?=\d))[^\W_]+)*   # words with marks inside: t-shirt, 1,000
    | ``|''
    | <\w+>
    | [^\s]
    """,
    re.VERBOSE,
)
_SPLIT = re.compile(r"(?<=\w)(?=(?:n't|'(?:s|m|d|re|ve|ll|n'))(?!\w))")
_JOINED = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "gimme": ("gim", "me"),
    "lemme": ("lem", "me"),
}


def words(caption: str) -> list[str]:
    """Return the words of a caption.

    >>> words("A man isn't (yet) on the 1,000-mile road, 50% done.")[:9]
    ['a', 'man', 'is', "n't", '-lrb-', 'yet', '-rrb-', 'on', 'the']
    """
    text = caption.lower().replace("’", "'").replace("£", "#")
    text = _SPLIT.sub(" ", text.replace("'n'", " 'n' ").replace("y'all", "y' all"))
    tokens = [_BRACKETS.get(token, token) for token in _TOKEN.findall(text)]
    split = [part for token in tokens for part in _JOINED.get(token, (token,))]
    return [token for token in split if token not in DROPPED and token.strip('."')]
