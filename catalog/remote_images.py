"""The picture store of a catalog on an object store: places from skeletons, bytes by ranges."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from catalog.errors import UserError
from catalog.images import Damaged, ImageStore
from catalog.remote import Remote


class RemoteImages(ImageStore):
    """As `ImageStore`, but its bytes are copies; ask for many at once with `load`."""

    def __init__(self, files: Sequence[Path], cache: Path, remote: Remote) -> None:
        super().__init__(remote.skeletons(files), cache)
        self._remote = remote

    def at(self, place: int) -> memoryview:
        """Return the bytes of the picture at a place."""
        return self.load([place])[0]

    def get(self, image_id: str) -> memoryview:
        """Return a picture's bytes.

        Raises:
            UserError: no such picture.
        """
        place = self.place(image_id)
        if place is None:
            raise UserError(
                f"no picture {image_id} in this catalog", fix="take an id from Catalog.images()"
            )
        return self.at(place)

    def load(self, places: Sequence[int]) -> list[memoryview]:
        """Return the bytes of many pictures, read together."""
        wanted = [
            (self.digest(p).hex(), self._files[self._part[p]], self._offset[p], self._size[p])
            for p in places
        ]
        return self._remote.pictures(wanted)

    def verify(self) -> Iterator[Damaged | None]:
        """Refuse: a skeleton holds no pictures.

        Raises:
            UserError: always.
        """
        raise UserError(
            "pictures are verified where their files are",
            fix="run `cuvee verify` on the local catalog",
        )
