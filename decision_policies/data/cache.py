"""Packed trajectories on disk: written once, atomically, and opened as memory maps."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

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


def write(folder: Path, trajectories: Trajectories) -> bool:
    """Write trajectories so that other processes see all of them or nothing.

    Returns:
        Whether they are there now. A disk that cannot be written to costs a warning, no more.
    """
    arrays: dict[str, NDArray[Any]] = {"rows": trajectories.rows, "offsets": trajectories.offsets}
    for name in ("images", "final_observations"):
        if getattr(trajectories, name) is not None:
            arrays[name] = getattr(trajectories, name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
        try:
            for name, array in arrays.items():
                with (temporary / f"{name}.npy").open("wb") as file:
                    np.save(file, array, allow_pickle=False)
                    os.fsync(file.fileno())  # else a power cut may leave zeros of the right size
            shapes = {name: list(array.shape) for name, array in arrays.items()}
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
