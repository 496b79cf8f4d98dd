"""Valuable sub-goals: those of an exhaustive search, in the same episode, and in windows."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import Trajectories
from decision_policies.data import Histories, SortedEpisodesSampler, SubgoalRule, valuable_subgoals
from decision_policies.data.subgoals import subgoal_rows
from decision_policies.errors import DatasetError
from tests.fixtures import tiny_trajectories
from tests.goals import SPACE, episodes

CODE = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def exhaustive(
    rewards: NDArray[Any], c: int, inclusive: bool = False, max_lag: int | None = None
) -> list[int]:
    """Search all later states of every step, with exact fractions."""
    exact = [Fraction(float(r)) for r in rewards.astype(np.float32)]
    steps, found = len(exact), []
    farthest = steps if max_lag is None else max_lag
    for t in range(steps):
        later = range(t + 1, min(steps - inclusive, t + farthest) + 1)
        values = [sum(exact[t : g + inclusive], Fraction()) / (g - t) for g in later]
        if not values:
            found.append(steps)
        elif len(values) > 1 and min(values) == max(values):
            found.append(min(t + c, t + farthest, steps))
        else:
            found.append(later[values.index(max(values))])
    return found


def reward_cases() -> dict[str, NDArray[Any]]:
    """Rewards with and without ties, of several lengths."""
    rng = np.random.default_rng(0)
    cases: dict[str, NDArray[Any]] = {}
    for n in (1, 2, 3, 7, 20):
        cases |= {
            f"zeros {n}": np.zeros(n),
            f"constant {n}": np.full(n, 0.1),
            f"negative constant {n}": np.full(n, -1.0),
            f"one at last {n}": np.arange(n) == n - 1,
            f"one at first {n}": np.arange(n) == 0,
        }
        for i in range(6):
            cases |= {
                f"signs {n} {i}": rng.integers(-1, 2, n),
                f"tenths {n} {i}": rng.integers(-3, 1, n) * 0.1,
                f"rare {n} {i}": rng.random(n) < 0.15,
                f"normal {n} {i}": rng.normal(size=n),
            }
    return cases


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("max_lag", [None, 1, 2, 5, 40])
def test_sub_goals_are_those_of_an_exhaustive_search(inclusive: bool, max_lag: int | None) -> None:
    for name, rewards in reward_cases().items():
        for c in (1, 5):
            found = valuable_subgoals(rewards, c, inclusive=inclusive, max_lag=max_lag)
            assert found.tolist() == exhaustive(rewards, c, inclusive, max_lag), (name, c)


def test_a_long_episode_searched_in_blocks_has_the_sub_goals_of_the_hull() -> None:
    rng = np.random.default_rng(1)
    rewards = rng.integers(-2, 3, 3000)
    hull = valuable_subgoals(rewards, 5)
    assert np.array_equal(valuable_subgoals(rewards, 5, max_lag=3000), hull)
    means = np.cumsum(rewards[100:]) / np.arange(1, 2901)
    assert hull[100] == 101 + means.argmax()


def test_the_nearest_of_equally_good_states_is_the_sub_goal() -> None:
    assert valuable_subgoals([1, 1, 1, 0], 2).tolist() == [1, 2, 3, 4]
    assert valuable_subgoals([0.1, 0.1, 0.1, 0.0], 2).tolist() == [1, 2, 3, 4]
    assert valuable_subgoals([0, 0, 1, 1, 0, 0, 0], 2).tolist() == [4, 4, 3, 4, 6, 7, 7]


def test_an_inclusive_sum_of_dense_rewards_leads_to_the_next_state() -> None:
    rewards = np.random.default_rng(2).uniform(1, 1.2, 50)
    found = valuable_subgoals(rewards, 5, inclusive=True)
    assert found.tolist() == list(range(1, 51))
    assert (valuable_subgoals(rewards, 5) - np.arange(50)).max() > 3


def test_sub_goals_of_a_dataset_are_those_of_its_episodes() -> None:
    data = tiny_trajectories(False)
    for rule in (SubgoalRule(3), SubgoalRule(2, inclusive=True), SubgoalRule(4, max_lag=3)):
        rows = subgoal_rows(data, rule)
        assert rows.dtype == np.int64
        for episode, (start, end) in enumerate(itertools.pairwise(data.offsets)):
            rewards, numbers = data.rewards[start:end], rows[start:end]
            expected = valuable_subgoals(
                rewards, rule.chunk_length, inclusive=rule.inclusive, max_lag=rule.max_lag
            )
            final = numbers == data.n_steps + episode
            assert (final | ((numbers > start) & (numbers < end))).all(), "of the same episode"
            local = np.where(final, end - start, numbers - start)
            np.testing.assert_array_equal(local, expected)


def coded(rewards: list[list[float]]) -> Histories:
    """One history whose observations say (episode, step), the final ones included."""
    logged = [
        {
            "observations": np.array([(index, t) for t in range(len(r) + 1)], np.float32),
            "actions": np.zeros(len(r), int),
            "rewards": np.array(r, float),
        }
        for index, r in enumerate(rewards)
    ]
    data = Trajectories.from_episodes(logged, CODE, spaces.Discrete(2))
    return Histories.from_episodes(data, [3] * len(rewards))


def test_a_context_of_two_episodes_has_the_goals_that_one_finds_by_hand() -> None:
    made = coded([[0, 0, 2, 0, 0], [0, 0, 1]])
    window = SortedEpisodesSampler(made, 2, 4, seed=0, subgoals=SubgoalRule(2)).sample()
    assert window.goals is not None
    second = [[1, 3], [1, 3], [1, 3]]  # the final observation, which is no step
    first = [[0, 3], [0, 3], [0, 3], [0, 5], [0, 5]]
    for row in range(4):
        assert window.mask[row].all()
        assert window.observations[row, :, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
        assert window.goals[row].tolist() == second + first


@pytest.mark.parametrize("rule", [SubgoalRule(2), SubgoalRule(3, max_lag=4), SubgoalRule(1, True)])
def test_goals_are_of_the_step_beside_them_whatever_the_padding(rule: SubgoalRule) -> None:
    rng = np.random.default_rng(3)
    made = coded([rng.integers(-1, 2, n).tolist() for n in (4, 1, 7, 3, 3, 6, 2)])
    data = made.trajectories
    sampler = SortedEpisodesSampler(made, 3, 32, seed=1, subgoals=rule)
    plain = SortedEpisodesSampler(made, 3, 32, seed=1)
    expected = [
        valuable_subgoals(
            data.rewards[start:end],
            rule.chunk_length,
            inclusive=rule.inclusive,
            max_lag=rule.max_lag,
        )
        for start, end in itertools.pairwise(data.offsets)
    ]
    for _ in range(3):
        window, same = sampler.sample(), plain.sample()
        assert same.goals is None and window.goals is not None
        assert window.goals.shape == window.observations.shape
        assert not window.mask.all()
        for name, value in same.tensors().items():
            assert torch.equal(value, window.tensors()[name]), name
        here, there = window.observations[window.mask].int(), window.goals[window.mask].int()
        for (episode, step), goal in zip(here.tolist(), there.tolist(), strict=True):
            assert goal == [episode, expected[episode][step]]


def test_goals_have_shape_and_dtype_of_observations() -> None:
    discrete = tiny_trajectories(True)
    table = Trajectories.from_episodes(episodes(), SPACE, spaces.Box(-2.0, 3.0, (2,)))
    for data in (discrete, table, discrete.take([0, 3, 1]), discrete.clip_rewards()):
        history = Histories.from_episodes(data, [0] * data.n_episodes)
        window = SortedEpisodesSampler(history, 2, 8, seed=2, subgoals=SubgoalRule(1)).sample()
        assert window.goals is not None
        assert window.goals.dtype == window.observations.dtype
        assert window.goals.shape == window.observations.shape
        moved = window.to("meta")
        assert moved.goals is not None and moved.goals.is_meta
    plain = SortedEpisodesSampler(history, 2, 8).sample()
    assert plain.to("meta").goals is None


def test_mistakes_are_named() -> None:
    made = coded([[0, 1], [1, 0, 1]])
    with pytest.raises(
        DatasetError, match=r"chunk is 4 steps, but the longest episode has 3.*at most 3"
    ):
        SortedEpisodesSampler(made, 1, 2, subgoals=SubgoalRule(4))
    with pytest.raises(ValueError, match="chunk_length must be at least 1, got 0"):
        SubgoalRule(0)
    with pytest.raises(ValueError, match="max_lag must be at least 1, got -1"):
        valuable_subgoals([1.0], 2, max_lag=-1)
    for bad in ([], [[1.0]], 1.0, [1.0, np.nan], [1e300]):
        with pytest.raises(ValueError, match=r"expected rewards \(T,\)"):
            valuable_subgoals(bad, 2)
    data = made.trajectories
    bare = Trajectories(data.rows, None, data.offsets, CODE, spaces.Discrete(2))
    with pytest.raises(DatasetError, match=r"pack them with Trajectories\.from_episodes"):
        subgoal_rows(bare, SubgoalRule(1))


def test_images_have_no_sub_goals() -> None:
    frames = {
        "observations": np.zeros((4, 36, 36), np.uint8),
        "actions": np.zeros(3, int),
        "rewards": np.ones(3),
    }
    space = spaces.Box(0, 255, (36, 36), np.uint8)
    data = Trajectories.from_episodes([frames], space, spaces.Discrete(2))
    assert data.final_observations is None
    history = Histories.from_episodes(data, [0])
    with pytest.raises(DatasetError, match="final images are not kept"):
        SortedEpisodesSampler(history, 1, 2, subgoals=SubgoalRule(2))
