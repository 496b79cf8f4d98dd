"""What a checkpoint's folder or zip holds: read by name, within limits, and from nowhere else."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from decision_policies import archive
from decision_policies.errors import CheckpointError


@dataclass(frozen=True)
class Contents:
    """The files at a place.

    Attributes:
        place: The folder, or the zip.
        held: Contents of the zip; None where it is a folder.
    """

    place: Path
    held: Mapping[str, bytes] | None = None

    @classmethod
    def of(cls, place: Path, known: Set[str]) -> Contents:
        """Look into a folder or zip.

        Args:
            place: It must be there.
            known: What a zip may hold; a folder may hold more.

        Raises:
            CheckpointError: It is another kind of file, or a zip of something else.
        """
        if place.is_dir():
            return cls(place)
        with place.open("rb") as file:
            head = file.read(4)
        if head[:2] != b"PK":
            raise CheckpointError(
                f"{place} is a file{guess(head)}; a checkpoint is a folder, or the zip that saving "
                f"by a name with {archive.SUFFIX} makes"
            )
        return cls(place, archive.read(place, known))

    def __contains__(self, name: str) -> bool:
        return (self.place / name).is_file() if self.held is None else name in self.held

    def names(self) -> list[str]:
        """List what is there."""
        inside = (p.name for p in self.place.iterdir()) if self.held is None else self.held
        return sorted(inside)

    def open(self, name: str) -> BinaryIO:
        """Open a file that is there."""
        if self.held is None:
            return (self.place / name).open("rb")
        return io.BytesIO(self.held[name])

    def read(self, name: str, limit: int) -> bytes:
        """Read a file; no buffer is larger than what is really there.

        Raises:
            CheckpointError: It has more than `limit` bytes, or cannot be read.
        """
        path = self.place / name
        try:
            with self.open(name) as file:
                most = limit if self.held is not None else os.fstat(file.fileno()).st_size
                content = file.read(min(limit, most) + 1)
        except (OSError, KeyError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        if len(content) > limit:
            raise CheckpointError(
                f"{path} is larger than the {limit} bytes it should have{guess(content)}"
            )
        return content

    def check_links(self, names: Iterable[str]) -> None:
        """Refuse links that lead out of a folder, but for those of a Hub client's cache.

        Raises:
            CheckpointError: Names the link.
        """
        if self.held is not None:  # which holds none
            return
        home = self.place.resolve()
        blobs = [above.parent / "blobs" for above in home.parents if above.name == "snapshots"]
        for name in sorted(names):
            real = Path(os.path.realpath(self.place / name))
            if not any(real.is_relative_to(allowed) for allowed in (home, *blobs)):
                raise CheckpointError(
                    f"{self.place / name} is a link that leaves the checkpoint folder, to {real}; "
                    "if that is what you want to load, put a copy of it in the link's place"
                )


def guess(head: bytes) -> str:
    """Say what a wrong file looks like, by its first bytes."""
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return ": it is a pickle, which is never read, since it can run code"
    if head[:2] == b"PK":
        return ": it is a zip (of torch.save or Stable-Baselines3?), which may hold pickles"
    return ""
