"""Valuable sub-goals: of each step, the later observation that the most reward a step leads to."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from decision_policies.errors import DatasetError

if TYPE_CHECKING:
    from decision_policies.data.trajectories import Trajectories

PAIRS = 1 << 18
"""Pairs of a step and a later one that are held at once, where all of them are looked at."""


@dataclass(frozen=True)
class SubgoalRule:
    """Which later observation counts as the valuable sub-goal of a step.

    Attributes:
        chunk_length: Number c of steps: where every later observation is worth the same, as where
            no reward follows, the sub-goal is the one c steps later, or the episode's last.
        inclusive: Count the reward of the step taken in the sub-goal, too, as the paper's formula
            does to the letter; then dense rewards always make the next observation the sub-goal.
        max_lag: Sub-goals are at most so many steps away. None: anywhere in the episode.

    Raises:
        ValueError: A number is less than 1.
    """

    chunk_length: int
    inclusive: bool = False
    max_lag: int | None = None

    def __post_init__(self) -> None:
        """Check what the class says."""
        for name, value in (("chunk_length", self.chunk_length), ("max_lag", self.max_lag)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


def valuable_subgoals(
    rewards: ArrayLike,
    chunk_length: int,
    *,
    inclusive: bool = False,
    max_lag: int | None = None,
) -> NDArray[np.int64]:
    """Find the valuable sub-goal of each step of an episode with states s_0 to s_T.

    It is the state s_g, t < g <= T, of the largest mean reward on the way,
    v(g) = (r_t + ... + r_{g-1}) / (g - t); of several such states, the nearest. Where there are
    several to choose from and all are worth the same, g = t + c, at most T.

    Rewards are taken in single precision, as they are packed. Their sums in double precision are
    then exact unless rewards differ by ten orders of magnitude, and equal means are equal numbers.

    Args:
        rewards: (T,), at least one.
        chunk_length: Number c of steps, at least 1; see `SubgoalRule`.
        inclusive: v(g) = (r_t + ... + r_g) / (g - t) instead, g < T. The last step has no such g;
            its sub-goal is s_T.
        max_lag: g - t is at most so much.

    Returns:
        (T,) int64, the index g of each step's sub-goal, from 1 to T. The cost is O(T), or
        O(T min(max_lag, T)) with `inclusive` or `max_lag`; the memory is O(T) always.

    Raises:
        ValueError: A number is less than 1, or the rewards are no (T,) of finite numbers.

    References:
        Huang et al. (DM-H), arXiv 2406.00079, equation 7.

    Deviations:
        The formula's sum has g - t + 1 rewards and is divided by g - t; see `inclusive`. What holds
        where all states are worth the same is not said there.
    """
    rule = SubgoalRule(chunk_length, inclusive, max_lag)
    with np.errstate(over="ignore"):  # what overflows is named below
        single = np.asarray(rewards, np.float32)
    if single.ndim != 1 or not len(single) or not np.isfinite(single).all():
        raise ValueError(
            "expected rewards (T,) of at least one step, all finite in single precision; got shape "
            f"{single.shape} with {int((~np.isfinite(single)).sum())} that are not finite"
        )
    return _subgoals(single, rule)


def subgoal_rows(trajectories: Trajectories, rule: SubgoalRule) -> NDArray[np.int64]:
    """Find the valuable sub-goal of each step of a dataset; see `valuable_subgoals`.

    Args:
        trajectories: N steps in E episodes.
        rule: What counts as a sub-goal.

    Returns:
        (N,) int64: the row, from 0 to N - 1, whose observation is the step's sub-goal; or N + e,
        where it is the final observation of episode e.

    Raises:
        DatasetError: There are no final observations.
    """
    if trajectories.final_observations is None:
        fault = "these trajectories hold none: pack them with Trajectories.from_episodes"
        if trajectories.images is not None:
            fault = "final images are not kept; take observations that are vectors or numbers"
        raise DatasetError(f"sub-goals may be the final observations of episodes, but {fault}")
    rewards = np.array(trajectories.rewards)
    rows = np.empty(trajectories.n_steps, np.int64)
    for episode, (start, end) in enumerate(itertools.pairwise(trajectories.offsets.tolist())):
        goals = _subgoals(rewards[start:end], rule)
        final = goals == end - start
        goals += start
        goals[final] = trajectories.n_steps + episode
        rows[start:end] = goals
    return rows


def _subgoals(rewards: NDArray[np.float32], rule: SubgoalRule) -> NDArray[np.int64]:
    sums = np.zeros(len(rewards) + 1)
    np.cumsum(rewards, dtype=np.float64, out=sums[1:])
    if rule.inclusive or rule.max_lag is not None:
        return _by_looking_at_all(sums, rule)
    return _by_hull(rewards, sums, rule.chunk_length)


def _by_hull(
    rewards: NDArray[np.float32], sums: NDArray[np.float64], chunk_length: int
) -> NDArray[np.int64]:
    """Find sub-goals from the last to the first, on the upper hull of the points (t, sum to t).

    A mean reward is the slope between two points; the points that any earlier one may be steepest
    to are those of the hull: the next one, the one that is steepest from there, and so on.
    """
    steps = len(rewards)
    total, reward = sums.tolist(), rewards.tolist()
    goals, slopes = [steps] * steps, [-np.inf] * (steps + 1)
    for t in range(steps - 1, -1, -1):
        goal, slope = t + 1, reward[t]
        while slope < slopes[goal]:  # a point on the way that is only as steep stays: the nearest
            goal = goals[goal]
            slope = (total[goal] - total[t]) / (goal - t)
        goals[t], slopes[t] = goal, slope
    found = np.array(goals, np.int64)
    changes = np.flatnonzero(rewards[1:] != rewards[:-1])
    same = int(changes[-1]) + 1 if len(changes) else 0  # from here on, rewards are all the same
    found[same:] = np.minimum(np.arange(same, steps) + chunk_length, steps)
    return found


def _by_looking_at_all(sums: NDArray[np.float64], rule: SubgoalRule) -> NDArray[np.int64]:
    """Compare all states that may be the sub-goal of a step, for some steps at a time."""
    steps = len(sums) - 1
    lags = min(rule.max_lag or steps, steps)
    ahead = 2 if rule.inclusive else 1
    padded = np.concatenate((sums[ahead:], np.full(lags + ahead - 1, -np.inf)))
    later = sliding_window_view(padded, lags)
    found = np.minimum(np.arange(steps) + min(rule.chunk_length, lags), steps)
    block = max(1, PAIRS // lags)
    for start in range(0, steps, block):
        part = slice(start, min(start + block, steps))
        values = (later[part] - sums[part, None]) / np.arange(1, lags + 1)
        there = np.isfinite(values).sum(1)
        alike = (values == values[:, :1]).sum(1) == there
        best = np.arange(part.start, part.stop) + 1 + values.argmax(1)
        found[part] = np.where(alike & (there > 1), found[part], best)
    return found
