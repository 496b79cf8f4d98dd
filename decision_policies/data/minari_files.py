"""Minari's HDF5 files, read without what learning has no use for; their digests, kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import atomic
from decision_policies.data import cache as disk
from decision_policies.spaces import is_image

if TYPE_CHECKING:
    from minari import MinariDataset

PLAIN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
"""Spaces whose values Minari keeps as one array an episode."""

SETTLED = 2.0
"""Seconds since a file was changed after which a further change shows in its time of change."""


LEARNT = ("observations", "actions", "rewards")
"""What learning has use for."""

ENDS = ("terminations", "truncations")
"""How episodes end, which a check wants to know."""


def plain_episodes(
    dataset: MinariDataset, fields: tuple[str, ...] = LEARNT
) -> Iterator[dict[str, NDArray[Any]]] | None:
    """Read some arrays of each episode, and nothing else.

    Minari's own iterator also reads end marks, infos and seeds, and looks each array up by a slower
    way; this takes half the time.

    Args:
        dataset: The dataset.
        fields: Names of the arrays.

    Returns:
        The episodes; None where they are not plain arrays in HDF5, for Minari's iterator to read.
    """
    both = (dataset.observation_space, dataset.action_space)
    if dataset.storage.FORMAT != "hdf5" or any(type(x) not in PLAIN or is_image(x) for x in both):
        return None
    if any(isinstance(x, spaces.Box) and x.dtype == np.uint8 and len(x.shape) > 1 for x in both):
        return None  # perhaps encoded as pictures
    path = Path(dataset.storage.data_path) / "main_data.hdf5"
    return _episodes(path, dataset.episode_indices, fields)


def _episodes(
    path: Path, indices: Any, fields: tuple[str, ...]
) -> Iterator[dict[str, NDArray[Any]]]:
    import h5py

    with h5py.File(path, "r") as file:
        for index in indices:
            episode = {}
            for name in fields:
                stored = h5py.h5d.open(file.id, f"episode_{index}/{name}".encode())
                array = np.empty(stored.shape, stored.dtype)
                stored.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
                episode[name] = array
            yield episode


def digest(dataset: MinariDataset) -> str:
    """Hash names and contents of a dataset's files, and which of its episodes are selected.

    What a file was hashed to is kept beside the cache, and holds for its size and time of change.
    """
    root = Path(dataset.storage.data_path)
    place = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]
    kept = disk.base() / "digests" / f"{place}.json"
    known = _known(kept)
    found, settled = {}, True
    total = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        state = path.stat()
        name = f"{path.relative_to(root)} {state.st_size} {state.st_mtime_ns}"
        content = known.get(name)
        if content is None:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            settled &= time.time() - state.st_mtime > SETTLED
        found[name] = content
        total.update(str(path.relative_to(root)).encode())
        total.update(bytes.fromhex(content))
    if found != known and settled:
        with contextlib.suppress(OSError):  # it costs time only, the next time
            kept.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_file(kept, json.dumps(found).encode())
    indices = np.asarray(dataset.episode_indices).tolist()
    total.update(json.dumps(indices).encode())
    return total.hexdigest()


def _known(path: Path) -> dict[str, str]:
    """Read what files were hashed to; nothing where that is not what stands there."""
    try:
        known = json.loads(path.read_text())
        whole = all(len(bytes.fromhex(value)) == 32 for value in known.values())
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
    return known if whole else {}
