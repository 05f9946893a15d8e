"""Answers as they come, in a file: an evaluation that was killed goes on without asking again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from model.judge import Answer


class Journal:
    """The answers to one source's questions; those of another key are forgotten.

    A JSON Lines file: its first line is the key, each other one [sample id, answer, blind answer, masks]. A
    line that a kill has cut is dropped.
    """

    def __init__(self, file: Path, key: str) -> None:
        self._file = file
        lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
        mine = lines[1:] if lines[:1] == [json.dumps(key)] else []
        self._answers: dict[str, Answer] = {}
        for line in mine:
            sample, text, blind, masks = json.loads(line)
            self._answers[sample] = Answer(text=text, blind=blind, masks=tuple(masks))
        file.parent.mkdir(parents=True, exist_ok=True)
        staged = file.with_name(f".{file.name}")
        staged.write_text("".join(f"{each}\n" for each in [json.dumps(key), *mine]), "utf-8")
        staged.replace(file)
        self._stream = file.open("a", encoding="utf-8")

    @property
    def answers(self) -> Mapping[str, Answer]:
        """Sample id -> its answer."""
        return self._answers

    def add(self, samples: Sequence[str], answers: Sequence[Answer]) -> None:
        """Write a batch down."""
        for sample, answer in zip(samples, answers, strict=True):
            line = [sample, answer.text, answer.blind, answer.masks]
            self._stream.write(json.dumps(line) + "\n")
            self._answers[sample] = answer
        self._stream.flush()

    def remove(self) -> None:
        """Delete the file: the answers are kept elsewhere."""
        self.close()
        self._file.unlink()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
