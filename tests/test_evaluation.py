"""evaluate_policy and the statistics around it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import evaluate_policy
from decision_policies.evaluation import (
    bootstrap_interval,
    interquartile_mean,
    normalized_score,
)
from tests.laws.cases import dema, trajectories


class Uneven(gym.Env[NDArray[np.float32], np.int64]):
    """Episodes of 1 to 30 steps; the reward of a step depends on seed, clock and action."""

    observation_space = spaces.Box(-np.inf, np.inf, (2, 2), np.float32)
    action_space = spaces.Discrete(3, start=1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.length = int(self.np_random.integers(1, 31))
        self.t = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.t < self.length, "an environment without an episode must stand still"
        self.t += 1
        reward = float(self.np_random.normal() + 10 * int(action))
        done = self.t == self.length
        return self._observation(), reward, done and self.t % 2 == 0, done and self.t % 2 == 1, {}

    def _observation(self) -> NDArray[np.float32]:
        return self.np_random.normal(size=(2, 2)).astype(np.float32)


def test_the_number_of_environments_changes_no_episode() -> None:
    algorithm = dema().learn(trajectories("box-discrete"), 3)
    results = [evaluate_policy(algorithm, Uneven, 9, n_envs=n, seed=5) for n in (1, 2, 4, 9, 20)]
    assert results[0].seeds.tolist() == list(range(5, 14))
    assert len(set(results[0].lengths.tolist())) > 3, "episodes must end at different times"
    for other in results[1:]:
        np.testing.assert_array_equal(other.lengths, results[0].lengths)
        np.testing.assert_allclose(other.returns, results[0].returns, rtol=1e-12)


def test_processes_change_no_episode() -> None:
    algorithm = dema().learn(trajectories("box-discrete"), 3)
    here = evaluate_policy(algorithm, Uneven, 4, n_envs=2)
    there = evaluate_policy(algorithm, Uneven, 4, n_envs=2, asynchronous=True)
    np.testing.assert_allclose(there.returns, here.returns, rtol=1e-12)


def test_the_session_of_the_evaluated_policy_is_left_alone() -> None:
    policy = dema().learn(trajectories("box-discrete"), 3).policy
    assert policy is not None
    policy.reset(4.0)
    policy.predict(np.zeros((2, 2)))
    policy.observe(1.0)
    before = policy.returns_to_go
    counted: list[None] = []
    evaluate_policy(policy, Uneven, 3, target_return=9.0, on_episode=lambda: counted.append(None))
    np.testing.assert_array_equal(policy.returns_to_go, before)
    assert float(policy.target_return) == 4.0
    assert len(counted) == 3


def test_normalized_scores_put_the_references_at_0_and_100() -> None:
    np.testing.assert_allclose(normalized_score([20, 70, 120], (20, 120)), [0, 50, 100])
    hopper = normalized_score(3234.3, (-20.272305, 3234.3))
    assert float(hopper) == pytest.approx(100)
    with pytest.raises(ValueError, match="must be finite and differ"):
        normalized_score([1.0], (3.0, 3.0))


def test_the_interquartile_mean_is_the_mean_of_the_middle_half() -> None:
    assert interquartile_mean([0, 1, 2, 3, 4, 5, 6, 1000]) == 3.5
    assert interquartile_mean([[4, 1], [3, 2]]) == 2.5
    assert interquartile_mean([7.0]) == 7.0
    with pytest.raises(ValueError, match="no scores"):
        interquartile_mean([])


def test_the_bootstrap_interval_of_a_mean_is_the_normal_one() -> None:
    scores = np.random.default_rng(0).normal(50, 10, 400)
    low, high = bootstrap_interval(scores, lambda x: float(np.mean(x)), resamples=4000)
    half = 1.96 * scores.std() / 20
    assert low == pytest.approx(scores.mean() - half, abs=0.15)
    assert high == pytest.approx(scores.mean() + half, abs=0.15)


def test_the_bootstrap_keeps_tasks_apart() -> None:
    table = np.array([[0.0, 100.0], [0.0, 100.0], [0.0, 100.0]])
    assert bootstrap_interval(table, lambda x: float(np.mean(x))) == (50.0, 50.0)
    pooled = bootstrap_interval(table.reshape(-1), lambda x: float(np.mean(x)))
    assert pooled[0] < 40 < 60 < pooled[1]
    with pytest.raises(ValueError, match="confidence between 0 and 1"):
        bootstrap_interval(table, confidence=95)
