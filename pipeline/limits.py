"""How much is taken from a file, and the refusal of what is more or worse."""

MAX_BYTES = 256 * 1024**2
"""Largest picture file taken, in bytes."""
BOX_TOLERANCE = 1.0
"""How far a box may pass the picture's edge, in pixels: official boxes are rounded."""
MAX_PIXELS = 250_000_000
"""Largest picture taken, in pixels: InfographicVQA's tallest fit, decompression bombs do not."""
MAX_RATIO = 200
"""Largest ratio of unpacked to packed size: pictures reach 20, bombs 1,000."""
FREE_BYTES = 1024**2
"""So many bytes may be unpacked whatever the ratio: blank pictures and short texts pack well."""


class Refused(Exception):
    """Something cannot be taken; `reason` is short and countable."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason, self.message = reason, message
        super().__init__(message)

    def __reduce__(self) -> tuple[type["Refused"], tuple[str, str]]:
        return Refused, (self.reason, self.message)
