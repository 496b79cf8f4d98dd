"""Dict observations: packed, learnt from, saved, acted on and evaluated like any vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from decision_policies import DeMa, SequencePolicy, Trajectories, evaluate_policy
from decision_policies.data import WindowSampler
from decision_policies.inputs import observation
from decision_policies.models.encoders import FlatEncoder
from decision_policies.spaces import model_shape
from decision_policies.spec import Inference
from tests.fixtures import BOX_ACTION, tiny_algorithm, write_minari
from tests.goals import SPACE, Goal, at, episodes, parts, sample, scripted

MODES: tuple[Inference, ...] = ("window", "recurrent", "staggered")


@pytest.fixture(scope="module")
def algorithm() -> DeMa:
    data = Trajectories.from_episodes(episodes(), SPACE, BOX_ACTION)
    return tiny_algorithm(learning_rate=1e-2, device="cpu").learn(data, 3)


@pytest.fixture
def policy(algorithm: DeMa) -> SequencePolicy:
    assert algorithm.policy is not None
    return algorithm.policy.fork()


@pytest.fixture(scope="module")
def seeker() -> DeMa:
    data = Trajectories.from_episodes(scripted(60), Goal().observation_space, Goal().action_space)
    # The target is what the data reach; the policy has learnt it in a second.
    return tiny_algorithm(learning_rate=1e-2, device="cpu", return_scale=1.0).learn(data, 150)


def test_rows_are_what_gymnasium_flattens_and_lists_of_mappings_are_the_same() -> None:
    logged = episodes()
    data = Trajectories.from_episodes(logged, SPACE, BOX_ACTION)
    flat = [
        spaces.flatten(SPACE, at(one["observations"], t))
        for one in logged
        for t in range(len(one["rewards"]))
    ]
    np.testing.assert_array_equal(data.observations, np.array(flat, np.float32))
    given = [observation(one["observations"], SPACE)[0][:-1] for one in logged]
    np.testing.assert_array_equal(data.observations, np.concatenate(given))
    assert model_shape(SPACE) == data.observations.shape[1:] == (3 + 4 + 1 + 2,)
    stepwise = [
        {
            **one,
            "observations": [at(one["observations"], t) for t in range(len(one["rewards"]) + 1)],
        }
        for one in logged
    ]
    again = Trajectories.from_episodes(stepwise, SPACE, BOX_ACTION)
    np.testing.assert_array_equal(again.rows, data.rows)
    window = WindowSampler(data, 4, 6, seed=0).sample()
    assert window.observations.shape == (6, 4, 10)
    rows = torch.from_numpy(data.observations)
    assert all((rows == step).all(1).any() for step in window.observations[window.mask])


def test_one_hot_parts_are_not_standardised(policy: SequencePolicy) -> None:
    data = Trajectories.from_episodes(episodes(), SPACE, BOX_ACTION)
    encoder = policy.model.get_submodule("embedding.observation")
    assert isinstance(encoder, FlatEncoder)
    mean, std = data.observation_statistics()
    np.testing.assert_array_equal(encoder.mean, [0, 0, 0, *mean[3:]])
    np.testing.assert_array_equal(encoder.std, [1, 1, 1, *std[3:]])


@pytest.mark.parametrize("mode", MODES)
def test_saved_and_loaded_it_acts_the_same(
    mode: Inference, algorithm: DeMa, tmp_path: Path
) -> None:
    algorithm.save(tmp_path / "saved")
    loaded = DeMa.load(tmp_path / "saved", device="cpu")
    assert algorithm.policy is not None and loaded.policy is not None
    assert loaded.policy.observation_space == SPACE
    policies = [p.fork(inference=mode) for p in (algorithm.policy, loaded.policy)]
    observations = sample(12, seed=5)
    for t in range(12):
        left, right = (p.predict(at(observations, t), reward=0.5)[0] for p in policies)
        assert left.shape == (2,)
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_its_rows_alone(mode: Inference, policy: SequencePolicy) -> None:
    alone, together = [policy.fork(inference=mode) for _ in range(3)], policy.fork(inference=mode)
    for t in range(10):
        batch = sample(3, seed=t)
        actions, _ = together.predict(batch, reward=np.arange(3.0))
        assert actions.shape == (3, 2)
        for row, one in enumerate(alone):
            action, _ = one.predict(at(batch, row), reward=float(row))
            np.testing.assert_allclose(actions[row], action, atol=1e-5)


@pytest.mark.parametrize("options", [{"kind": "rnn"}, {"layout": "BL3D"}])
def test_interrupted_and_resumed_equals_uninterrupted(
    options: dict[str, Any], tmp_path: Path
) -> None:
    data = Trajectories.from_episodes(episodes(), SPACE, BOX_ACTION)
    whole, part = tiny_algorithm(**options).learn(data, 6), tiny_algorithm(**options).learn(data, 4)
    part.save(tmp_path / "part")
    resumed = DeMa.load(tmp_path / "part").learn(data, 2, reset_num_timesteps=False)
    assert whole.policy is not None and resumed.policy is not None
    left, right = whole.policy.model.state_dict(), resumed.policy.model.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_policy_learns_to_reach_goals_of_an_environment_that_it_wraps(seeker: DeMa) -> None:
    env, reached = seeker.wrap(Goal()), 0.0
    for seed in range(1000, 1010):
        observation, _ = env.reset(seed=seed)
        done = False
        while not done:
            action, _ = seeker.predict(observation)
            observation, reward, terminated, truncated, _ = env.step(action)
            reached += float(reward)
            done = terminated or truncated
    assert reached >= 8
    same = evaluate_policy(seeker, Goal, 10, seed=1000, n_envs=4)
    assert same.returns.sum() == reached


@pytest.mark.parametrize("asynchronous", [False, True])
def test_evaluation_does_not_depend_on_the_number_of_environments(
    seeker: DeMa, asynchronous: bool
) -> None:
    one = evaluate_policy(seeker, Goal, 7, n_envs=1)
    some = evaluate_policy(seeker, Goal, 7, n_envs=3, asynchronous=asynchronous)
    np.testing.assert_array_equal(one.lengths, some.lengths)
    np.testing.assert_array_equal(one.returns, some.returns)


def test_observations_of_a_vector_environment_are_copied(seeker: DeMa) -> None:
    envs = SyncVectorEnv([Goal] * 2, copy=False)  # writes into the same arrays at every step
    assert seeker.policy is not None
    kept, reused = (seeker.policy.fork(inference="window") for _ in range(2))
    observations, _ = envs.reset(seed=0)
    for _ in range(4):
        copied = {name: value.copy() for name, value in observations.items()}
        actions, _ = reused.predict(observations, reward=0.0)
        np.testing.assert_array_equal(kept.predict(copied, reward=0.0)[0], actions)
        observations, *_ = envs.step(actions)


def test_minari_sets_are_read_kept_and_read_again() -> None:
    space = spaces.Dict(parts())
    written = write_minari(
        "tiny/dict/random-v0", episodes(), observation_space=space, action_space=BOX_ACTION
    )
    assert written.observation_space == SPACE
    direct = Trajectories.from_episodes(episodes(), SPACE, BOX_ACTION)
    for _ in range(2):
        kept = Trajectories.from_minari("tiny/dict/random-v0")
        assert isinstance(kept.rows, np.memmap)
        np.testing.assert_array_equal(kept.rows, direct.rows)
    algorithm = tiny_algorithm().learn("tiny/dict/random-v0", 2)
    assert algorithm.predict(at(sample(1), 0))[0].shape == (2,)


def test_spaces_are_compared_entry_by_entry_and_dtypes_may_differ(policy: SequencePolicy) -> None:
    class Changed(Goal):
        def __init__(self, **changes: Any) -> None:
            super().__init__()
            entries = {**parts(np.float32), **changes}
            kept = {name: part for name, part in entries.items() if part is not None}
            self.observation_space = spaces.Dict(kept)  # type: ignore[assignment]

    policy.wrap(Changed())
    wide = spaces.Dict({"pose": spaces.Box(-1, 1, (2, 3)), "gear": spaces.Discrete(3, start=4)})
    with pytest.raises(ValueError, match=r"the observation\.agent\.pose space is Box.*\(2, 3\)"):
        policy.wrap(Changed(agent=wide))
    with pytest.raises(ValueError, match=r"the observation\.clock space is Discrete"):
        policy.wrap(Changed(clock=spaces.Discrete(2)))
    with pytest.raises(ValueError, match=r"the observation space is Dict.* made for Dict"):
        policy.wrap(Changed(clock=None))
