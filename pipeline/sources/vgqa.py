"""Visual Genome question answers -> Record.

Format: https://homes.cs.washington.edu/~ranjay/visualgenome/api.html. A picture's folder stands only in
the url of `image_data.json`. The release has one split; objects named in an answer stay in `extra`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.record import Record
from pipeline.sources.base import Bad, Item, Source, need, read_rows, relative, rest
from pipeline.sources.origin import Origin, nested, numbered


def splits(root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the one split -> (question answers, image data)."""
    files = (root / "question_answers.json", root / "image_data.json")
    return {"all": files} if all(file.exists() for file in files) else {}


def read(root: Path, split: str, files: tuple[Path, ...]) -> Iterator[Item]:
    """Yield one record a question, picture by picture, in file order."""
    pictures = dict(numbered(read_rows(files[1]), "image_id"))

    def record(origin: Origin, _: str, pair: tuple[Any, Any]) -> Record:
        qa = pair[1]
        image = pictures.get(need(qa, "image_id", int))
        if image is None:
            raise Bad("no_image_entry", f"no picture {qa['image_id']} in {files[1].name}")
        return origin.question(
            str(need(qa, "qa_id", int)),
            need(qa, "question", str),
            images=["/".join(need(image, "url", str).split("/")[-2:])],
            target=need(qa, "answer", str),
            extra=rest(qa, "question", "answer") | {"image": image},
        )

    origin = Origin(source="vgqa", split=split, file=relative(files[0], root), license="CC BY 4.0")
    rows = numbered(read_rows(files[0]), "id")
    yield from origin.items(nested(rows, "qas", "qa_id"), record)


VGQA = Source(
    name="vgqa",
    title="Visual Genome QA",
    family="vqa",
    files=("question_answers.json", "image_data.json", "{VG_100K,VG_100K_2}/*.jpg"),
    splits=splits,
    reader=read,
    license="CC BY 4.0",
    homepage="https://homes.cs.washington.edu/~ranjay/visualgenome",
    note="The release has one split; boxes of objects stay in `extra`",
)
