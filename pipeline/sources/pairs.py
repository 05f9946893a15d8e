"""Documents whose answers are keys and values -> the lines that ask for them and give them."""

from collections.abc import Iterable


def written(pairs: Iterable[tuple[str, str]]) -> str | None:
    """Return keys and values, a line each, in their order; None if there is none.

    >>> written([("advertiser", "Acme"), ("party", "Ada"), ("party", "Bob")])
    'advertiser: Acme\\nparty: Ada\\nparty: Bob'
    """
    return "\n".join(f"{key}: {value}" for key, value in pairs) or None
