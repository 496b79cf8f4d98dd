"""Laws of policies: three ways of reporting a reward, rows with lives of their own, three modes."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import SequencePolicy
from decision_policies.spec import Inference
from tests.laws.cases import MODES, SPACES, VARIANTS, model, sample

TARGET = 5.0


class RandomEpisodes(gym.Env[Any, Any]):
    """Observations and rewards from a seed, whatever one does; episodes of random length."""

    def __init__(self, kind: str) -> None:
        self.observation_space, self.action_space = SPACES[kind]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, 20))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.left -= 1
        reward = float(self.np_random.normal())
        info = {"executed": sample(self.np_random, self.action_space, 1)[0]}
        return self._observation(), reward, self.left == 0, False, info

    def _observation(self) -> Any:
        return sample(self.np_random, self.observation_space, 1)[0]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Inference:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["B3LD-pre", "BL3D-post-tanh"])
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    return VARIANTS[request.param]


@pytest.fixture(params=SPACES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def policy(kind: str, variant: dict[str, Any], mode: Inference) -> SequencePolicy:
    return SequencePolicy(model(kind, variant), inference=mode, target_return=TARGET)


def roll(policy: SequencePolicy, kind: str, seeds: list[int], report: str) -> NDArray[Any]:
    """Act through episodes, reporting rewards in one of the three ways.

    "executed" reports other actions than the predicted ones, so that errors do not feed back.
    """
    env: gym.Env[Any, Any] = RandomEpisodes(kind)
    if report == "wrapper":
        env = policy.wrap(env)
    actions: list[NDArray[Any]] = []
    reward: Any = None
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        start, done = True, False
        while not done:
            flag = None if report == "wrapper" else [start]
            keyword = reward if report == "keyword" else None
            action, _ = policy.predict(observation, None, flag, reward=keyword)
            observation, reward, terminated, truncated, info = env.step(action)
            if report in ("observe", "executed"):
                executed = info["executed"] if report == "executed" else action
                policy.observe(reward, terminated, truncated, executed)
            actions.append(np.asarray(action).copy())
            start, done = False, terminated or truncated
    return np.array(actions)


def test_keyword_observe_and_wrapper_give_bit_equal_actions(
    policy: SequencePolicy, kind: str
) -> None:
    runs = [roll(policy.fork(), kind, [0, 1, 2], way) for way in ("keyword", "observe", "wrapper")]
    assert len(runs[0]) > 12
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])


def test_rewards_change_what_is_done(policy: SequencePolicy, kind: str) -> None:
    env = RandomEpisodes(kind)
    observation, _ = env.reset(seed=0)
    rich, poor = policy.fork(), policy.fork()
    for paid, rewards in ((rich, 50.0), (poor, -50.0)):
        paid.predict(observation)
        paid.observe(rewards)
        paid.predict(observation)
    assert rich.returns_to_go is not None and poor.returns_to_go is not None
    assert rich.returns_to_go[0] == TARGET - 50
    assert poor.returns_to_go[0] == TARGET + 50


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_a_row_that_restarts_acts_as_a_single_environment(
    policy: SequencePolicy, kind: str, rows: int
) -> None:
    plans = [[10 * row + k for k in range(4)] for row in range(rows)]
    alone = [roll(policy.fork(), kind, plan, "executed") for plan in plans]
    envs = [RandomEpisodes(kind) for _ in range(rows)]
    episode, restarts = [0] * rows, 0
    observations = [env.reset(seed=plan[0])[0] for env, plan in zip(envs, plans, strict=True)]
    starts, together = [True] * rows, [[] for _ in range(rows)]  # type: ignore[var-annotated]
    for _ in range(min(map(len, alone))):
        actions, _ = policy.predict(np.stack(observations), None, starts)
        outcomes = [env.step(a) for env, a in zip(envs, actions, strict=True)]
        executed = np.stack([o[4]["executed"] for o in outcomes])
        policy.observe([o[1] for o in outcomes], action=executed)
        starts = [o[2] for o in outcomes]
        for row, outcome in enumerate(outcomes):
            together[row].append(actions[row])
            observations[row] = outcome[0]
            if outcome[2]:
                episode[row], restarts = (episode[row] + 1) % 4, restarts + 1
                observations[row] = envs[row].reset(seed=plans[row][episode[row]])[0]
    assert restarts > rows, "rows must restart"
    for row in range(rows):
        steps = len(together[row])
        np.testing.assert_allclose(np.array(together[row]), alone[row][:steps], atol=1e-5, rtol=0)


def test_the_executed_action_is_remembered_rather_than_the_predicted_one(
    policy: SequencePolicy, kind: str
) -> None:
    rng = np.random.default_rng(0)
    other = sample(rng, SPACES[kind][1], 1)[0]
    env = RandomEpisodes(kind)
    first, second = env.reset(seed=1)[0], env._observation()
    told, twin = policy.fork(), policy.fork()
    for p in (told, twin):
        p.predict(first)
    told.observe(1.0, action=other)
    assert twin._session is not None
    twin._session.actions = other[None].copy()
    twin.observe(1.0)
    np.testing.assert_array_equal(told.predict(second)[0], twin.predict(second)[0])


def test_a_policy_that_hears_of_no_reward_holds_and_warns_once(policy: SequencePolicy) -> None:
    observation = sample(np.random.default_rng(0), policy.observation_space, 1)[0]
    policy.predict(observation)
    with pytest.warns(UserWarning, match=r"policy\.wrap"):
        policy.predict(observation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.predict(observation)
    assert policy.returns_to_go is not None
    assert policy.returns_to_go[0] == TARGET


def test_a_fork_has_a_life_of_its_own(policy: SequencePolicy, kind: str) -> None:
    expected = roll(policy.fork(), kind, [4], "observe")
    env, other = RandomEpisodes(kind), policy.fork()
    observation, _ = env.reset(seed=4)
    actions = []
    for _ in expected:
        action, _ = policy.predict(observation)
        other.predict(sample(np.random.default_rng(9), SPACES[kind][0], 1)[0], reward=3.0)
        observation, reward, terminated, truncated, _ = env.step(action)
        policy.observe(reward, terminated, truncated)
        actions.append(np.asarray(action))
    np.testing.assert_array_equal(np.array(actions), expected)


def test_targets_may_differ_from_row_to_row(policy: SequencePolicy, kind: str) -> None:
    observations = sample(np.random.default_rng(0), SPACES[kind][0], 2)
    policy.reset([1.0, 9.0])
    together, _ = policy.predict(observations)
    for row, target in enumerate((1.0, 9.0)):
        alone = policy.fork()
        alone.reset(target)
        action, _ = alone.predict(observations[row])
        np.testing.assert_allclose(together[row], action, atol=1e-5, rtol=0)


def test_actions_have_the_shape_and_dtype_of_their_space(policy: SequencePolicy, kind: str) -> None:
    observation_space, action_space = SPACES[kind]
    observations = sample(np.random.default_rng(0), observation_space, 3)
    single, _ = policy.predict(observations[0])
    assert action_space.contains(single)
    policy.reset()
    batch, _ = policy.predict(observations)
    assert batch.shape == (3, *(action_space.shape or ()))
    assert batch.dtype == action_space.dtype
    if isinstance(action_space, spaces.Discrete):
        policy.reset()
        drawn = [
            int(policy.fork(seed=i).predict(observations[0], deterministic=False)[0])
            for i in range(40)
        ]
        assert len(set(drawn)) > 1


def test_the_return_to_go_loses_nothing_over_long_episodes(kind: str) -> None:
    policy = SequencePolicy(model(kind), inference="recurrent", target_return=1e6)
    observation = sample(np.random.default_rng(0), SPACES[kind][0], 1)[0]
    policy.predict(observation)
    for _ in range(10_000):
        policy.observe(0.1)
    assert policy.returns_to_go is not None
    assert policy.returns_to_go[0] == pytest.approx(1e6 - 1e3, rel=1e-12)
