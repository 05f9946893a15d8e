"""The errors that users see: each names the place and the fix."""

from pathlib import Path


class CuveeError(Exception):
    """A problem the user can solve; the command line prints it without a traceback."""


class DataError(CuveeError):
    """Official data that break their documented format."""

    def __init__(self, problem: str, *, file: Path | str, record: object = None, fix: str) -> None:
        self.problem, self.file, self.record, self.fix = problem, str(file), record, fix
        where = f"{file}, record {record!r}" if record is not None else str(file)
        super().__init__(f"{where}: {problem}\nFix: {fix}")

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling between processes.
        return _rebuild, (self.problem, self.file, self.record, self.fix)


def _rebuild(problem: str, file: str, record: object, fix: str) -> DataError:
    return DataError(problem, file=file, record=record, fix=fix)


class UserError(CuveeError):
    """A wrong argument, path, name or configuration."""

    def __init__(self, problem: str, *, fix: str) -> None:
        self.problem, self.fix = problem, fix
        super().__init__(f"{problem}\nFix: {fix}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_user, (self.problem, self.fix)


def _rebuild_user(problem: str, fix: str) -> UserError:
    return UserError(problem, fix=fix)
