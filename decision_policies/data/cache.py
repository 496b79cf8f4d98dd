"""Packed trajectories on disk: written once, atomically, and opened as memory maps."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.data.episodes import Piece
from decision_policies.data.trajectories import Source, Trajectories
from decision_policies.spaces import is_image

LAYOUT = 4
"""Number of the layout; a change of the packed format makes old caches invisible."""


def base() -> Path:
    """Say where the cache is.

    It is `$DECISION_POLICIES_CACHE`, or `decision_policies` in the user's cache folder.
    """
    root = os.environ.get("DECISION_POLICIES_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) if root else Path(home) / "decision_policies"


def folder(name: str, digest: str) -> Path:
    """Name the cache folder of a dataset."""
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:64]
    key = hashlib.sha256(json.dumps([name, digest]).encode()).hexdigest()[:24]
    return base() / "trajectories" / f"{safe}-{key}-{LAYOUT}"


def read(
    folder: Path,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    source: Source,
) -> Trajectories | None:
    """Open cached trajectories; None where there are none, or they are not whole."""
    names = ["rows", "offsets", "images" if is_image(observation_space) else "final_observations"]
    try:
        shapes = json.loads((folder / "shapes.json").read_text())
        # "c" maps copy-on-write: torch wants writable memory, and the file stays as it is.
        arrays = {n: np.lib.format.open_memmap(folder / f"{n}.npy", mode="c") for n in names}
        whole = all(list(arrays[n].shape) == shapes[n] for n in names)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not whole or arrays["offsets"][-1] != len(arrays["rows"]):
        return None
    return Trajectories(
        rows=arrays["rows"],
        images=arrays.get("images"),
        offsets=np.array(arrays["offsets"]),
        observation_space=observation_space,
        action_space=action_space,
        source=source,
        final_observations=arrays.get("final_observations"),
    )


def write(folder: Path, pieces: Iterable[Piece]) -> bool:
    """Write trajectories so that other processes see all of them or nothing.

    Each episode is written as soon as it comes, so that all together may be more than memory holds.

    Args:
        folder: Where to.
        pieces: Episodes, as `EpisodeReader.pieces` packs them.

    Returns:
        Whether they are there now. A disk that cannot be written to costs a warning, no more.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
        try:
            shapes = _written(temporary, pieces)
            (temporary / "shapes.json").write_text(json.dumps(shapes))
            if folder.exists():  # unreadable, or another process was faster
                shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if folder.exists():
            return True
        warnings.warn(f"trajectories are not cached on disk: {error}", UserWarning, stacklevel=2)
        return False
    return True


def _written(folder: Path, pieces: Iterable[Piece]) -> dict[str, list[int]]:
    """Write the arrays of trajectories piece by piece; gives their shapes by name."""
    offsets = [0]
    with ExitStack() as files:
        arrays: dict[str, _Growing] = {}
        for rows, images, final in pieces:
            offsets.append(offsets[-1] + len(rows))
            parts: dict[str, NDArray[Any]] = {"rows": rows}
            if images is None:
                parts["final_observations"] = final[None]
            else:
                parts["images"] = images
            for name, part in parts.items():
                if name not in arrays:
                    arrays[name] = files.enter_context(_Growing(folder / f"{name}.npy", part))
                arrays[name].append(part)
        arrays["offsets"] = files.enter_context(_Growing(folder / "offsets.npy", np.array(offsets)))
        arrays["offsets"].append(np.array(offsets))
        return {name: list(array.shape) for name, array in arrays.items()}


class _Growing:
    """An array on disk, in numpy's format, that grows along its first axis.

    Args:
        path: The file.
        like: An array of the same dtype and shape, but for the first axis.
    """

    def __init__(self, path: Path, like: NDArray[Any]) -> None:
        self.file = path.open("wb")
        self.dtype = like.dtype
        self.shape = (0, *like.shape[1:])

    def __enter__(self) -> Self:
        self._write_header()
        self.begin = self.file.tell()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.file.seek(0)
            self._write_header()
            assert self.file.tell() == self.begin, "numpy leaves room for the shape to grow"
            self.file.flush()
            os.fsync(self.file.fileno())  # else a power cut may leave zeros of the right size
        finally:
            self.file.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Write further rows."""
        self.file.write(np.ascontiguousarray(rows).data)
        self.shape = (self.shape[0] + len(rows), *self.shape[1:])

    def _write_header(self) -> None:
        kind = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": kind, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self.file, header)
