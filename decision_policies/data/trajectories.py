"""Trajectories: a whole dataset as flat float32 rows and episode offsets, aligned and checked.

Row t of an episode holds the observation s_t, the action a_t taken *in* it, and the reward r_t that
followed. Of the T + 1 observations that an episode of T actions has, the last one is dropped, since
no action belongs to it; shifting it into the next episode is the classic way to spoil every pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from decision_policies.data.episodes import EpisodeReader
from decision_policies.errors import DatasetError

if TYPE_CHECKING:
    from minari import MinariDataset


@dataclass(frozen=True)
class Source:
    """Where trajectories come from; travels into checkpoints.

    Attributes:
        dataset: Identity of the dataset, such as its Minari id.
        digest: SHA-256 of the content, in hex: of the dataset's files, or of the packed episodes.
        environment: Id of the environment, where the dataset names one.
        reference_scores: Returns that count as 0 and 100 (random and expert), where known.
    """

    dataset: str | None = None
    digest: str = ""
    environment: str | None = None
    reference_scores: tuple[float, float] | None = None


@dataclass(frozen=True)
class Trajectories:
    """Logged episodes, packed so that a window is one contiguous read.

    Attributes:
        rows: (N, C) float32, a step a row: observation, action, reward, return-to-go, timestep.
            It may be a memory map. Discrete values are exact, being below 2^24.
        images: (N, *observation) uint8, for image observations, which are then not in `rows`.
        offsets: (E + 1,) int64, the row at which each of the E episodes starts, and N.
        observation_space: Space of one observation.
        action_space: Space of one action.
        source: Where the episodes come from.
    """

    rows: NDArray[np.float32]
    images: NDArray[np.uint8] | None
    offsets: NDArray[np.int64]
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    source: Source = field(default_factory=Source)

    @classmethod
    def from_episodes(
        cls,
        episodes: Iterable[Mapping[str, ArrayLike] | object],
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        source: Source | None = None,
    ) -> Trajectories:
        """Pack episodes, checking every one.

        Args:
            episodes: Mappings, or objects with attributes, of `observations` (T + 1 or T of them),
                `actions` (T) and `rewards` (T).
            observation_space: A Box or Discrete space.
            action_space: A Box or Discrete space.
            source: Where they come from.

        Raises:
            DatasetError: No episode, a ragged, empty or misshapen one, or a value that is not
                finite or out of a Discrete space; names the episode, the step and the field.
            UnsupportedSpaceError: A space is neither Box nor Discrete.
        """
        reader = EpisodeReader(observation_space, action_space)
        rows, images, lengths = [], [], []
        for index, episode in enumerate(episodes):
            row, image = reader.read(index, episode)
            rows.append(row)
            lengths.append(len(row))
            if image is not None:
                images.append(image)
        if not rows:
            raise DatasetError("the dataset has no episode; at least one is needed")
        packed = np.concatenate(rows)
        pictures = np.concatenate(images) if images else None
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        source = source or Source()
        if not source.digest:
            digest = hashlib.sha256()
            for array in (packed, offsets, pictures):
                digest.update(b"" if array is None else np.ascontiguousarray(array).data)
            source = replace(source, digest=digest.hexdigest())
        return cls(packed, pictures, offsets, observation_space, action_space, source)

    @classmethod
    def from_minari(
        cls, dataset: MinariDataset | str | PathLike[str], *, cache: bool = True
    ) -> Trajectories:
        """Read a Minari dataset.

        Args:
            dataset: A loaded dataset; an id such as "mujoco/hopper/medium-v0", which is downloaded
                where it is not here yet ("cartpole/mixed-v0" ships with the package); or, as a
                path object, the folder of a dataset.
            cache: Keep the packed rows on disk as a memory map, keyed by the dataset's id and
                content, and use them when they are there.

        Raises:
            DatasetError: No such dataset (names close ones), an id without version, or episodes
                that cannot be learnt from.
        """
        from decision_policies.data.minari_source import read_minari

        return read_minari(dataset, cache=cache)

    @property
    def n_steps(self) -> int:
        """Number N of steps."""
        return len(self.rows)

    @property
    def n_episodes(self) -> int:
        """Number E of episodes."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each episode, (E,)."""
        return np.diff(self.offsets)

    @property
    def observations(self) -> NDArray[Any]:
        """Observations s_t, (N, *observation)."""
        if self.images is not None:
            return self.images
        return self._field(0, self.observation_space)

    @property
    def actions(self) -> NDArray[Any]:
        """Actions a_t, (N, *action)."""
        return self._field(self.columns.actions.start, self.action_space)

    @property
    def rewards(self) -> NDArray[np.float32]:
        """Rewards r_t, (N,)."""
        return self.rows[:, -3]

    @property
    def returns_to_go(self) -> NDArray[np.float32]:
        """Sum of r_t and all later rewards of the episode, (N,)."""
        return self.rows[:, -2]

    @property
    def timesteps(self) -> NDArray[np.int64]:
        """Steps since the episode's start, (N,)."""
        return self.rows[:, -1].astype(np.int64)

    @property
    def returns(self) -> NDArray[np.float64]:
        """Undiscounted return of each episode, (E,)."""
        return np.add.reduceat(self.rewards.astype(np.float64), self.offsets[:-1])

    @property
    def columns(self) -> Columns:
        """Where each field stands in `rows`."""
        first = 0 if self.images is not None else _size(self.observation_space)
        return Columns(slice(0, first), slice(first, first + _size(self.action_space)))

    def observation_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of each dimension of the observation over all steps."""
        flat = self.observations.reshape(self.n_steps, -1)
        total, square = np.zeros(flat.shape[1]), np.zeros(flat.shape[1])
        chunks = np.array_split(np.arange(self.n_steps), max(1, self.n_steps >> 16))
        for chunk in chunks:  # float64 sums, without a float64 copy of everything
            total += flat[chunk].sum(0, dtype=np.float64)
        mean = total / self.n_steps
        for chunk in chunks:
            square += np.square(flat[chunk] - mean).sum(0)
        shape = self.observation_space.shape or ()
        std = np.sqrt(square / self.n_steps)
        return mean.reshape(shape).astype(np.float32), std.reshape(shape).astype(np.float32)

    def _field(self, start: int, space: spaces.Space[Any]) -> NDArray[Any]:
        values = self.rows[:, start : start + _size(space)]
        if isinstance(space, spaces.Discrete):
            return values[:, 0].astype(np.int64)
        return values.reshape(self.n_steps, *(space.shape or ()))


@dataclass(frozen=True)
class Columns:
    """Columns of `Trajectories.rows`; reward, return-to-go and timestep are the last three.

    Attributes:
        observations: Columns of the flattened observation; none for images.
        actions: Columns of the flattened action.
    """

    observations: slice
    actions: slice


def _size(space: spaces.Space[Any]) -> int:
    return int(np.prod(space.shape or ()))
