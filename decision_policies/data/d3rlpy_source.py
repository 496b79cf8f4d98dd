"""Read datasets of d3rlpy by what they look like, so that it need not be installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.data.streams import box_of
from decision_policies.data.trajectories import Trajectories
from decision_policies.errors import DatasetError


class HasEpisodes(Protocol):
    """An MDPDataset or ReplayBuffer of d3rlpy."""

    @property
    def episodes(self) -> Sequence[Any]:
        """Episodes with `observations`, `actions` and `rewards`, (T, ...) each."""


def read_d3rlpy(
    dataset: HasEpisodes,
    observation_space: spaces.Space[Any] | None,
    action_space: spaces.Space[Any] | None,
) -> Trajectories:
    """Read a dataset; see `Trajectories.from_d3rlpy`."""
    episodes = getattr(dataset, "episodes", None)
    if episodes is None:
        raise DatasetError(
            f"expected a dataset of d3rlpy, with `episodes`; got {type(dataset).__name__}"
        )
    if not len(episodes):
        raise DatasetError("the dataset has no episode; at least one is needed")
    observations, actions = episodes[0].observations, episodes[0].actions
    if isinstance(observations, (list, tuple)):
        raise DatasetError(
            f"each observation is a tuple of {len(observations)} arrays; join them into one array "
            "before you make the dataset"
        )
    discrete = actions.dtype.kind in "iu"
    if action_space is None:
        action_space = (
            _discrete(dataset) if discrete else box_of("action_space", _all(episodes), -1, 1)
        )
    single = isinstance(action_space, spaces.Discrete)
    packed = [
        {
            "observations": episode.observations,
            "actions": episode.actions.reshape(-1) if single else episode.actions,
            "rewards": episode.rewards,
        }
        for episode in episodes
    ]
    return Trajectories.from_episodes(
        packed, observation_space or _observed(observations), action_space
    )


def _all(episodes: Sequence[Any]) -> NDArray[Any]:
    return np.concatenate([episode.actions for episode in episodes])


def _observed(observations: NDArray[Any]) -> spaces.Box:
    if observations.dtype == np.uint8 and observations.ndim > 2:
        return spaces.Box(0, 255, observations.shape[1:], np.uint8)
    return box_of("observation_space", observations, -np.inf, np.inf)


def _discrete(dataset: object) -> spaces.Discrete:
    size = getattr(getattr(dataset, "dataset_info", None), "action_size", None)
    if size is None:
        raise DatasetError(
            "the actions are whole numbers, and the dataset does not say how many there are: "
            "action_space=Discrete(n)"
        )
    return spaces.Discrete(int(size))
