"""A record that breaks its format, on the way to becoming a refusal."""


class Bad(ValueError):
    """A record that breaks its format; the reader turns it into a refusal."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason, self.message = reason, message
        super().__init__(message)
