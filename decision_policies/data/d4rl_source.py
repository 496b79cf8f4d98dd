"""Read D4RL-style HDF5 files: flat arrays of all episodes, by h5py alone."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.data.source import Source
from decision_policies.data.streams import Stream, box_of
from decision_policies.data.trajectories import Trajectories
from decision_policies.errors import DatasetError

if TYPE_CHECKING:
    import h5py

NEEDED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")


def read_d4rl(
    path: str | PathLike[str],
    observation_space: spaces.Space[Any] | None,
    action_space: spaces.Space[Any] | None,
    *,
    max_episode_steps: int | None,
    keep_incomplete: bool,
) -> Trajectories:
    """Read a file; see `Trajectories.from_d4rl`."""
    columns = _columns(Path(path))
    terminations = columns["terminals"].reshape(-1).astype(bool)
    if max_episode_steps is not None and max_episode_steps < 1:
        raise ValueError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
    if "timeouts" in columns:
        truncations = columns["timeouts"].reshape(-1).astype(bool)
    elif max_episode_steps is not None:
        truncations = _cut_off(terminations, max_episode_steps)
    else:
        raise DatasetError(
            f"{path} has no 'timeouts', so it does not say where episodes were cut off: give the "
            "environment's limit, such as max_episode_steps=1000"
        )
    stream = Stream(
        columns["observations"],
        columns["actions"],
        columns["rewards"],
        terminations,
        truncations,
        columns.get("next_observations"),
    )
    episodes = list(stream.episodes(keep_incomplete=keep_incomplete))
    if not episodes:
        raise DatasetError(
            f"{path} has {len(terminations)} steps but no end of an episode: no step is marked in "
            "'terminals' or 'timeouts'; keep_incomplete=True takes all of it for one episode"
        )
    unbounded = box_of("observation_space", columns["observations"], -np.inf, np.inf)
    return Trajectories.from_episodes(
        episodes,
        observation_space or unbounded,
        action_space or box_of("action_space", columns["actions"], -1, 1),
        source=Source(dataset=Path(path).stem),
    )


def _columns(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a file, all of one length."""
    import h5py

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with h5py.File(path, "r") as file:
            if lacks := [name for name in NEEDED if not _is_array(file, name)]:
                raise DatasetError(
                    f"{path} is no D4RL-style file: it lacks {', '.join(lacks)}; it has "
                    f"{', '.join(list(file)[:10]) or 'nothing'}"
                )
            found = [*NEEDED, *(name for name in OPTIONAL if _is_array(file, name))]
            columns: dict[str, NDArray[Any]] = {name: file[name][()] for name in found}
    except OSError as error:
        raise DatasetError(f"{path} cannot be read as HDF5: {error}") from error
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DatasetError(f"the arrays of {path} differ in length: {said}")
    return columns


def _is_array(file: h5py.File, name: str) -> bool:
    return name in file and getattr(file[name], "ndim", 0) > 0


def _cut_off(terminations: NDArray[np.bool_], limit: int) -> NDArray[np.bool_]:
    """Mark each step at which an episode has lasted as long as it may."""
    starts = np.concatenate(([0], np.flatnonzero(terminations[:-1]) + 1))
    steps = np.arange(len(terminations))
    since = steps - starts[np.searchsorted(starts, steps, "right") - 1]
    return np.asarray((since + 1) % limit == 0)
