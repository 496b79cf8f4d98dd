"""Read replay buffers of Stable-Baselines3: wrapped around, of several environments, scaled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.data.streams import Stream
from decision_policies.data.trajectories import Trajectories
from decision_policies.errors import DatasetError

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import ReplayBuffer


def read_buffer(
    buffer: ReplayBuffer, *, scaled_actions: bool, keep_incomplete: bool
) -> Trajectories:
    """Read a buffer; see `Trajectories.from_sb3`."""
    _check_kind(buffer)
    episodes = [
        episode
        for stream in _streams(buffer, scaled_actions)
        for episode in stream.episodes(keep_incomplete=keep_incomplete)
    ]
    if not episodes:
        raise DatasetError(
            f"the buffer's {buffer.size()} steps of {buffer.n_envs} environments hold no complete "
            "episode: play on, make the buffer larger, or take keep_incomplete=True"
        )
    return Trajectories.from_episodes(episodes, buffer.observation_space, buffer.action_space)


def _check_kind(buffer: object) -> None:
    from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer

    if isinstance(buffer, RolloutBuffer):
        raise DatasetError(
            "a rollout buffer cannot be learnt from: where an episode is cut off, its rewards hold "
            "the agent's estimate of what is to come; play episodes with the agent instead, as "
            "`python -m zoo collect` does"
        )
    if not isinstance(buffer, ReplayBuffer):
        raise DatasetError(
            f"expected a ReplayBuffer of Stable-Baselines3, got {type(buffer).__name__}; an "
            "off-policy algorithm has one: model.replay_buffer"
        )


def _streams(buffer: ReplayBuffer, scaled: bool) -> Iterator[Stream]:
    """Take the environments apart, each with its oldest step first."""
    order = np.arange(buffer.size())
    if buffer.full:
        order = np.roll(order, -buffer.pos)
    saves_memory = buffer.optimize_memory_usage
    headless = np.full(buffer.n_envs, buffer.full)
    if buffer.full and saves_memory:  # the newest next observation is where the oldest one was
        headless = ~buffer.dones[order[0]].astype(bool)
        order = order[1:]
    for row in range(buffer.n_envs):
        dones = buffer.dones[order, row].astype(bool)
        timeouts = buffer.timeouts[order, row].astype(bool)
        actions = buffer.actions[order, row].reshape(-1, *(buffer.action_space.shape or ()))
        space = buffer.observation_space
        following = None if saves_memory else buffer.next_observations
        yield Stream(
            _part(buffer.observations, space, order, row),
            _unscaled(actions, buffer.action_space) if scaled else actions,
            buffer.rewards[order, row],
            dones & ~timeouts,
            timeouts,
            None if following is None else _part(following, space, order, row),
            headless=bool(headless[row]),
        )


def _part(arrays: Any, space: spaces.Space[Any], order: NDArray[np.int64], row: int) -> Any:
    """Take the observations of one environment, in their space's shape."""
    if isinstance(arrays, Mapping):
        assert isinstance(space, spaces.Dict), "a buffer of mappings has a space of them"
        return {key: _part(part, space[key], order, row) for key, part in arrays.items()}
    return arrays[order, row].reshape(-1, *(space.shape or ()))


def _unscaled(actions: NDArray[Any], space: spaces.Space[Any]) -> NDArray[Any]:
    """Scale actions of a bounded Box back from [-1, 1]."""
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        return actions
    largest = float(np.abs(actions).max(initial=0.0))
    if largest > 1 + 1e-6:
        raise DatasetError(
            f"the buffer's actions reach {largest:.6g}, so they are not scaled to [-1, 1]: pass "
            "scaled_actions=False"
        )
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    share = 0.5 * (actions.astype(np.float64) + 1.0)
    return np.clip(low + share * (high - low), low, high)
