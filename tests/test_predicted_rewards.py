"""return_mode="predict": the model counts its return-to-go down by rewards that it predicts."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from decision_policies import (
    AD,
    BC,
    DC,
    DM,
    DMM,
    DT,
    DeMa,
    DMHybrid,
    MambaDM,
    SequenceAlgorithm,
    SequencePolicy,
    Trajectories,
)
from decision_policies.errors import ExportError
from decision_policies.export import export_step
from decision_policies.learning import hyperparameters
from decision_policies.models.native_runner import native_step
from tests.fixtures import reseal, tiny_spaces, tiny_trajectories, trained

CONDITIONED = (DT, DC, DM, DeMa, DMM, MambaDM)


class Drift(gym.Env[Any, Any]):
    """A point that drifts; its reward is a function of where it is and of the push that it gets."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.left = self.np_random.normal(size=2).astype(np.float32), 30
        return self.place.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = 1.0 + self.place[0] - 0.5 * self.place[1] ** 2 + 2.0 * action[0]
        turned = np.array([self.place[1], -self.place[0]], np.float32)
        self.place = self.place * 0.9 + 0.3 * turned + 0.2 * action.astype(np.float32)
        self.left -= 1
        return self.place.copy(), float(reward), False, self.left == 0, {}


def logged(episodes: int = 40) -> Trajectories:
    """Log a random walk."""
    env, rng, log = Drift(), np.random.default_rng(0), []
    for seed in range(episodes):
        observations, actions, rewards = [env.reset(seed=seed)[0]], [], []
        bias = rng.uniform(-0.5, 0.5)
        ended = False
        while not ended:
            action = np.clip(rng.normal(bias, 0.4, 1), -1, 1).astype(np.float32)
            seen, reward, _, ended, _ = env.step(action)
            observations.append(seen)
            actions.append(action)
            rewards.append(reward)
        log.append({"observations": observations, "actions": actions, "rewards": rewards})
    return Trajectories.from_episodes(log, env.observation_space, env.action_space)


@pytest.fixture(scope="module")
def learnt() -> SequencePolicy:
    """A policy that has learnt to predict the rewards of `Drift`."""
    algorithm = DeMa(
        d_model=24,
        n_layers=1,
        context_length=8,
        batch_size=32,
        learning_rate="lin_3e-3",
        warmup_steps=10,
        return_mode="predict",
        seed=0,
    )
    policy = algorithm.learn(logged(), 400).policy
    assert policy is not None
    return policy


@pytest.mark.parametrize("mode", ["window", "recurrent", "staggered"])
def test_predicted_rewards_follow_the_true_ones_and_act_as_they_do(
    learnt: SequencePolicy, mode: Any
) -> None:
    blind = learnt.fork(inference=mode)
    told = learnt.fork(inference=mode)
    told.spec = replace(told.spec, return_mode="decrement")
    env, target = Drift(), 40.0
    for policy in (blind, told):
        policy.reset(target)
    seen, _ = env.reset(seed=1000)
    left, span, ended = target, 0.0, False
    while not ended:
        action, _ = blind.predict(seen)
        assert blind.returns_to_go is not None
        assert blind.returns_to_go[0] == pytest.approx(left, abs=0.01 * span + 0.1)
        np.testing.assert_allclose(told.predict(seen)[0], action, atol=0.02)
        seen, reward, _, ended, _ = env.step(action)
        told.observe(reward, action=action)
        left -= reward
        span += abs(reward)
    assert span > 20


@pytest.mark.parametrize("system", CONDITIONED, ids=lambda system: system.__name__)
def test_every_system_counts_down_by_itself_in_every_row_and_is_saved_so(
    system: type[SequenceAlgorithm], tmp_path: Path
) -> None:
    data = tiny_trajectories(discrete=False)
    known = hyperparameters.names(system)
    small: dict[str, Any] = {"d_model": 16, "n_layers": 1, "context_length": 4, "batch_size": 8}
    small["window"] = 3
    small = {name: value for name, value in small.items() if name in known}
    algorithm = system(return_mode="predict", seed=0, learning_rate=1e-2, **small)
    algorithm.learn(data, 3).save(tmp_path / "m")
    policies = [algorithm.policy, system.load(tmp_path / "m").policy]
    for mode in ("window", "recurrent", "staggered"):
        seen = []
        for policy in policies:
            assert policy is not None
            fork = policy.fork(inference=mode)
            fork.reset([3.0, 5.0, 8.0])
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # nobody is asked for rewards
                actions, _ = fork.predict(data.observations[:3])
                fork.observe([7.0, 7.0, 7.0], terminated=[False, False, True])
                later, _ = fork.predict(data.observations[3:6])
            given = (data.observations[:3], actions, data.observations[3:6])
            earned = policy.model.earned(*map(torch.from_numpy, given)).detach().double().numpy()
            assert abs(earned).min() > 0
            left = [3.0 - earned[0], 5.0 - earned[1], 8.0]
            np.testing.assert_allclose(fork.returns_to_go, left)  # type: ignore[arg-type]
            seen.append(later)
        np.testing.assert_array_equal(seen[0], seen[1])


@pytest.mark.parametrize("system", [BC, AD, DMHybrid], ids=lambda system: system.__name__)
def test_a_system_without_a_return_to_count_down_refuses(system: type[SequenceAlgorithm]) -> None:
    with pytest.raises(ValueError, match=r"models that are given a return .* given \('observation"):
        system(return_mode="predict").make_policy(*tiny_spaces(discrete=False))


def test_a_context_of_one_step_is_too_short_to_tell_rewards() -> None:
    with pytest.raises(ValueError, match="context_length of at least 2"):
        DT(return_mode="predict", context_length=1).make_policy(*tiny_spaces(discrete=False))


def test_the_weights_that_act_are_those_of_counting_down_and_act_natively() -> None:
    spaces = tiny_spaces(discrete=False)
    plain = DeMa(seed=0, d_model=16).make_policy(*spaces).model
    made = DeMa(seed=0, d_model=16, return_mode="predict").make_policy(*spaces).model
    weights = made.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in plain.state_dict().items())
    assert (native_step(made) is None) is (native_step(plain) is None)


def test_parts_of_a_batch_add_up_and_no_reward_counts_that_nothing_follows() -> None:
    algorithm = trained(return_mode="predict", context_length=8)
    training, model = algorithm._training, algorithm.policy.model  # type: ignore[union-attr]
    assert training is not None
    window = training.sampler.sample()
    assert not window.mask.all()
    losses, gradients = [], []
    for parts in (1, 3):
        losses.append(training.backward(window, parts=parts)["reward_error"])
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    followed = torch.cat((window.mask[:, 1:], torch.zeros(len(window.mask), 1).bool()), 1)
    junk = replace(window, rewards=window.rewards.where(followed, torch.tensor(1e6)))
    assert torch.equal(training.backward(junk)["reward_error"], losses[0])


def test_images_tell_rewards_too() -> None:
    rng = np.random.default_rng(0)
    seen, action = spaces.Box(0, 255, (1, 36, 36), np.uint8), spaces.Discrete(2)
    pictures = rng.integers(256, size=(7, 1, 36, 36)).astype(np.uint8)
    episode = {"observations": pictures, "actions": [0, 1, 1, 0, 1, 0], "rewards": np.arange(6)}
    data = Trajectories.from_episodes([episode], seen, action)
    algorithm = DT(return_mode="predict", d_model=16, n_layers=1, context_length=3, batch_size=2)
    policy = algorithm.learn(data, 1).policy
    assert policy is not None
    policy.reset(10.0)
    policy.predict(pictures[0])
    policy.predict(pictures[1])
    assert policy.returns_to_go == pytest.approx([10.0 - 2.5], abs=0.5)  # the mean, at first


def test_checkpoints_without_the_heads_weight_are_loaded(tmp_path: Path) -> None:
    trained().save(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text())
    del config["hyperparameters"]["reward_coef"]
    path.write_text(json.dumps(config))
    reseal(tmp_path / "m")
    assert DeMa.load(tmp_path / "m").policy is not None


def test_an_exported_step_could_not_count_down_and_is_refused(tmp_path: Path) -> None:
    policy = trained(return_mode="predict").policy
    assert policy is not None
    with pytest.raises(ExportError, match="predict"):
        export_step(policy, tmp_path / "step.onnx")


def test_a_model_that_cannot_predict_rewards_is_refused() -> None:
    model = DeMa(d_model=16).make_policy(*tiny_spaces(discrete=False)).model
    model.spec = replace(model.spec, return_mode="predict")
    with pytest.raises(ValueError, match="reward_head"):
        SequencePolicy(model)
