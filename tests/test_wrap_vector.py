"""wrap: at every episode border, each row of every kind of environment acts as a single one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers import TimeLimit, TransformReward
from gymnasium.wrappers import vector as vector_wrappers
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from decision_policies import AD, DT, DeMa, DMHybrid, SequencePolicy
from decision_policies.laws.cases import SMALL, Case
from decision_policies.spec import Inference
from tests.wanderer import Wanderer

SEED, STEPS, TARGET = 20, 30, 5.0
CLOSE = 1e-5
"""Two millionths of the actions' range: a larger batch rounds otherwise, and the loop is closed."""
NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
MODES = (NEXT, SAME, DISABLED)
DEMA, DEMA_DT = Case(DeMa), Case(DT, hyperparameters={"max_ep_len": 8})
AD_SMALL = Case(AD, hyperparameters={"n_heads": 2, "max_ep_len": 5, "context_length": 9})
HYBRID = {"chunk_length": 3, "context_episodes": 3, "n_heads": 2}

ACTORS: dict[str, tuple[Case, Inference]] = {
    "DeMa recurrent": (DEMA, "recurrent"),
    "DeMa staggered": (DEMA, "staggered"),
    "DeMa window": (DEMA, "window"),
    "DT window": (DEMA_DT, "window"),
    "DT recurrent": (DEMA_DT, "recurrent"),  # a state that grows
    "AD recurrent": (AD_SMALL, "recurrent"),  # memory goes on over the ends of episodes
    "AD window": (AD_SMALL, "window"),
    "AD staggered": (Case(AD, hyperparameters={"backbone": "mamba"}), "staggered"),
    "DMHybrid recurrent": (Case(DMHybrid, hyperparameters=HYBRID), "recurrent"),
}
"""Policies with continuous actions, and every way to remember."""


class Acted(NamedTuple):
    """What a policy did and kept in one step of one environment."""

    action: NDArray[np.float32]
    left: float
    clock: int


Run = list[list[Acted]]
"""The steps of each row, without those whose action was not executed."""


def actor(name: str) -> SequencePolicy:
    case, inference = ACTORS[name]
    return case.policy(inference, TARGET)


def note(policy: SequencePolicy, row: int, action: NDArray[Any]) -> Acted:
    session = policy._session
    assert session is not None
    return Acted(action, float(session.returns_to_go[row]), int(session.timesteps[row]))


@cache
def alone(name: str, row: int, make: Callable[[], gym.Env[Any, Any]] = Wanderer) -> list[Acted]:
    """Act in one wrapped environment, the one that a row of several has."""
    policy = actor(name)
    env = policy.wrap(make())
    observation, _ = env.reset(seed=SEED + row)
    steps, ends = [], 0
    for _ in range(STEPS):
        action, _ = policy.predict(observation)
        steps.append(note(policy, 0, action))
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
            ends += 1
    assert ends > 2
    return steps


def limited() -> gym.Env[Any, Any]:
    return TimeLimit(Wanderer(), 4)


def generous() -> gym.Env[Any, Any]:
    return TransformReward(Wanderer(), lambda reward: float(reward) + 1.0)


def play(policy: SequencePolicy, envs: VectorEnv[Any, Any, Any]) -> Run:
    """Act in vector environments of gymnasium, as a user would."""
    mode = envs.metadata["autoreset_mode"]
    run: Run = [[] for _ in range(envs.num_envs)]
    observations, _ = envs.reset(seed=SEED)
    over = np.zeros(envs.num_envs, bool)
    for _ in range(STEPS):
        actions, _ = policy.predict(observations)
        for row in map(int, np.flatnonzero(~over)):
            run[row].append(note(policy, row, actions[row]))
        observations, _, terminated, truncated, _ = envs.step(actions)
        over = terminated | truncated
        if mode is not NEXT and over.any():
            if mode is DISABLED:
                observations, _ = envs.reset(options={"reset_mask": over})
            over = np.zeros_like(over)
    envs.close()
    return run


def play_sb3(policy: SequencePolicy, envs: VecEnv, seed: int = SEED) -> Run:
    """Act in vector environments of Stable-Baselines3, as a user would."""
    run: Run = [[] for _ in range(envs.num_envs)]
    envs.seed(seed)
    observations: Any = envs.reset()
    for _ in range(STEPS):
        actions, _ = policy.predict(observations)
        for row, steps in enumerate(run):
            steps.append(note(policy, row, actions[row]))
        observations, _, _, _ = envs.step(actions)
    envs.close()
    return run


def assert_as_alone(run: Run, expected: Callable[[int], list[Acted]]) -> None:
    for row, steps in enumerate(run):
        assert len(steps) > STEPS // 2
        for step, single in zip(steps, expected(row), strict=False):
            if len(run) == 1:
                assert np.array_equal(step.action, single.action)
                assert step.left == single.left
            np.testing.assert_allclose(step.action, single.action, atol=CLOSE, rtol=0)
            assert step.left == pytest.approx(single.left, abs=CLOSE)
            assert step.clock == single.clock


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("mode", MODES, ids=lambda m: m.name)
@pytest.mark.parametrize("name", ACTORS)
def test_a_row_of_a_gymnasium_vector_acts_as_a_single_environment(
    name: str, mode: AutoresetMode, n: int
) -> None:
    policy = actor(name)
    envs = policy.wrap(SyncVectorEnv([Wanderer] * n, autoreset_mode=mode))
    assert_as_alone(play(policy, envs), lambda row: alone(name, row))


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("name", ACTORS)
def test_a_row_of_a_vec_env_acts_as_a_single_environment(name: str, n: int) -> None:
    policy = actor(name)
    envs = policy.wrap(DummyVecEnv([Wanderer] * n))
    assert_as_alone(play_sb3(policy, envs), lambda row: alone(name, row))


NAME = "DeMa staggered"
ASYNC: dict[str, Callable[[], VectorEnv[Any, Any, Any]]] = {
    **{
        f"async {mode.name}": lambda mode=mode: AsyncVectorEnv(  # type: ignore[misc]
            [Wanderer] * 3, autoreset_mode=mode, context="fork"
        )
        for mode in MODES
    },
    "make_vec": lambda: gym.make_vec("Wanderer-v0", 3, vectorization_mode="sync"),
    "statistics inside": lambda: RecordEpisodeStatistics(
        SyncVectorEnv([Wanderer] * 3), stats_key="inside"
    ),
}
"""Vector environments of gymnasium that are made in other ways."""


@pytest.fixture
def _registered() -> Iterator[None]:
    gym.register("Wanderer-v0", "tests.wanderer:Wanderer", disable_env_checker=True)
    yield
    del gym.registry["Wanderer-v0"]


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("kind", ASYNC)
def test_however_a_gymnasium_vector_is_made_its_rows_act_as_single_environments(kind: str) -> None:
    policy = actor(NAME)
    envs = policy.wrap(ASYNC[kind]())
    assert isinstance(envs, VectorWrapper)
    assert_as_alone(play(policy, RecordEpisodeStatistics(envs)), lambda row: alone(NAME, row))


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_environments_in_processes_act_as_single_ones(method: str) -> None:
    policy = actor(NAME)
    envs = policy.wrap(SubprocVecEnv([Wanderer] * 3, start_method=method))
    assert isinstance(envs, VecEnvWrapper)
    assert_as_alone(play_sb3(policy, envs), lambda row: alone(NAME, row))


@pytest.mark.parametrize("inside", [True, False])
def test_wrappers_of_stable_baselines3_stand_on_either_side(inside: bool) -> None:
    policy = actor(NAME)
    bare: VecEnv = DummyVecEnv([limited] * 3)
    envs: VecEnv = VecMonitor(policy.wrap(bare)) if inside else policy.wrap(VecMonitor(bare))
    assert_as_alone(play_sb3(policy, envs), lambda row: alone(NAME, row, limited))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("mode", MODES, ids=lambda m: m.name)
def test_a_time_limit_is_an_end_like_any_other(mode: AutoresetMode, n: int) -> None:
    policy = actor(NAME)
    envs = policy.wrap(SyncVectorEnv([limited] * n, autoreset_mode=mode))
    assert_as_alone(play(policy, envs), lambda row: alone(NAME, row, limited))


def test_a_policy_of_stacked_frames_acts_in_stacked_environments() -> None:
    low, high = np.full(6, -np.inf), np.full(6, np.inf)
    stacked = Box(low, high, dtype=np.float64)
    policy = DeMa(**SMALL).make_policy(stacked, Wanderer.action_space, target_return=TARGET)

    def run(first: int, n: int) -> Run:
        fork = policy.fork()
        envs = VecFrameStack(DummyVecEnv([Wanderer] * n), 2)
        wrapped = fork.wrap(envs)
        return play_sb3(fork, wrapped, SEED + first)

    assert_as_alone(run(0, 3), lambda row: run(row, 1)[0])
    with pytest.raises(ValueError, match=r"observation space is Box\(-inf, inf, \(3,\)"):
        policy.wrap(DummyVecEnv([Wanderer]))


def test_where_a_policy_is_wrapped_decides_which_rewards_it_sees() -> None:
    policy = actor(NAME)
    raw, scaled = policy.fork(), policy.fork()
    envs = VecNormalize(raw.wrap(DummyVecEnv([Wanderer])), norm_obs=False)
    other = scaled.wrap(VecNormalize(DummyVecEnv([Wanderer]), norm_obs=False))
    for acting, env in ((raw, envs), (scaled, other)):
        env.seed(SEED)
        observation: Any = env.reset()
        acting.predict(observation)
        _, reward, dones, _ = env.step(np.zeros((1, 2), np.float32))
        assert not dones.any()
        seen = env.get_original_reward() if isinstance(env, VecNormalize) else reward
        assert acting.returns_to_go == pytest.approx(TARGET - seen)
    assert raw.returns_to_go != pytest.approx(scaled.returns_to_go)


def test_a_reward_for_the_step_of_a_reset_does_not_count() -> None:
    name = "AD recurrent"  # which sees rewards, and remembers them over the ends of episodes
    policy = actor(name)
    envs = policy.wrap(
        vector_wrappers.TransformReward(SyncVectorEnv([Wanderer] * 3), lambda rewards: rewards + 1)
    )
    assert_as_alone(play(policy, envs), lambda row: alone(name, row, generous))


@pytest.mark.parametrize(
    ("mode", "others"), [(NEXT, True), (NEXT, False), (DISABLED, False)], ids=str
)
def test_a_masked_reset_is_an_end_for_its_rows_only(mode: AutoresetMode, others: bool) -> None:
    policy = actor(NAME)
    envs = policy.wrap(SyncVectorEnv([Wanderer] * 3, autoreset_mode=mode))
    observations, _ = envs.reset(seed=SEED)
    clock, waiting = np.zeros(3, int), np.zeros(3, bool)
    for _ in range(STEPS):
        actions, _ = policy.predict(observations)
        clocks = np.array([note(policy, row, actions[row]).clock for row in range(3)])
        assert (clocks == clock)[~waiting].all()
        observations, _, terminated, truncated, _ = envs.step(actions)
        over = terminated | truncated
        clock = np.where(waiting, 0, clock + 1)
        mask = ~over if others else over
        waiting = over & ~mask
        if over.any() and mask.any():
            observations, _ = envs.reset(options={"reset_mask": mask.copy()})
            clock[mask] = 0
        assert policy._session is not None
        assert np.array_equal(policy._session.idle, waiting)


def test_a_policy_that_begins_on_a_last_observation_begins_anew_with_the_episode() -> None:
    policy = actor(NAME)
    envs = policy.wrap(SyncVectorEnv([Wanderer]))
    observations, _ = envs.reset(seed=SEED)
    over = np.array([False])
    while not over.any():
        observations, _, terminated, truncated, _ = envs.step(np.zeros((1, 2), np.float32))
        over = terminated | truncated
    policy.predict(observations)
    first, *_ = envs.step(np.ones((1, 2), np.float32))
    expected, _ = policy.fork().predict(first)
    assert np.array_equal(policy.predict(first)[0], expected)
