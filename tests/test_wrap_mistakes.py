"""wrap, where it is refused: one clear error each, and the policy's session is as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from decision_policies import SequencePolicy, evaluate_policy
from tests.fixtures import tiny_policy
from tests.wanderer import Wanderer


class Still(Wanderer):
    """Begun without a reset, so that the policy has not heard of it."""

    left, place = 5, np.zeros(3)
    np_random = np.random.default_rng(0)


def silent() -> VectorEnv[Any, Any, Any]:
    envs = SyncVectorEnv([Wanderer] * 2)
    envs.metadata = {}
    return envs


MISTAKES: dict[str, tuple[Callable[[SequencePolicy], object], type[Exception], str]] = {
    "single, again": (
        lambda p: p.wrap(p.fork().wrap(Wanderer())),
        ValueError,
        "reports to a policy already",
    ),
    "vector, again": (
        lambda p: p.wrap(RecordEpisodeStatistics(p.fork().wrap(SyncVectorEnv([Wanderer] * 2)))),
        ValueError,
        "reports to a policy already",
    ),
    "VecEnv, again": (
        lambda p: p.wrap(VecMonitor(p.wrap(DummyVecEnv([Wanderer] * 2)))),
        ValueError,
        "reports to a policy already",
    ),
    "a wrapped row": (
        lambda p: p.wrap(DummyVecEnv([lambda: p.wrap(Wanderer())])),
        ValueError,
        "reports to a policy already",
    ),
    "each row by itself": (
        lambda p: DummyVecEnv([lambda: p.wrap(Still())] * 2).step(np.zeros((2, 2), np.float32)),
        ValueError,
        r"shape \(2,\); expected \(2, 2\) .*wrap all environments together",
    ),
    "evaluated, wrapped": (
        lambda p: evaluate_policy(p, lambda: p.wrap(Wanderer()), 2),
        ValueError,
        "was wrapped by a policy.*as it was made",
    ),
    "vector space": (
        lambda p: p.wrap(gym.make_vec("CartPole-v1", 2)),
        ValueError,
        r"observation space is Box\(.*\(4,\).*made for",
    ),
    "VecEnv space": (
        lambda p: p.wrap(DummyVecEnv([lambda: gym.make("CartPole-v1")])),
        ValueError,
        r"observation space is Box\(.*\(4,\).*made for",
    ),
    "n changed": (lambda p: p.predict(np.zeros((3, 3))), ValueError, "3 environments.* has 2"),
    "n changed in step": (
        lambda p: p.wrap(DummyVecEnv([Still] * 3)).step(np.zeros((3, 2), np.float32)),
        ValueError,
        r"rewards of shape \(3,\) for 2 environments",
    ),
    "no mode": (lambda p: p.wrap(silent()), ValueError, "metadata.*AutoresetMode"),
    "resetting": (lambda p: p.observe(0.0, resetting=[True] * 3), ValueError, r"\(3,\).*for 2"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_error_and_changes_nothing(name: str) -> None:
    mistake, error, message = MISTAKES[name]
    policy, twin = tiny_policy(), tiny_policy()
    rng = np.random.default_rng(0)
    for step in range(8):
        if step == 4:
            with pytest.raises(error, match=message):
                mistake(policy)
        observations, rewards = rng.normal(size=(2, 3)), rng.normal(size=2)
        actions = [p.predict(observations)[0] for p in (policy, twin)]
        assert np.array_equal(actions[0], actions[1])
        for p in (policy, twin):
            p.observe(rewards, resetting=[step == 6, False])
    assert np.array_equal(policy.returns_to_go, twin.returns_to_go)  # type: ignore[arg-type]


def test_a_policy_in_an_environment_that_another_has_wrapped_is_told_so() -> None:
    owner, other = tiny_policy(), tiny_policy()
    for actor in (other, other.fork()):  # a fork does not know what its origin was told
        env = owner.wrap(Wanderer())
        observation, _ = env.reset(seed=0)
        action, _ = actor.predict(observation)
        observation, *_ = env.step(action)
        with pytest.warns(UserWarning, match="another policy has wrapped reports to that one"):
            actor.predict(observation)
