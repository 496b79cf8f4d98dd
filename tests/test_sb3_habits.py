"""What a user of Stable-Baselines3 types by habit is taken as meant, or refused with a cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from decision_policies import DT, DeMa
from tests.fixtures import BOX_ACTION, tiny_algorithm, tiny_trajectories
from tests.test_spaces import IMAGES, NUMBERS, PARTS, Anything, Space

SMALL: dict[str, Any] = {"d_model": 16, "n_layers": 1, "context_length": 4, "batch_size": 8}


def test_policy_kwargs_are_hyperparameters() -> None:
    habit = DeMa("MlpPolicy", policy_kwargs=SMALL, learning_rate=3e-4, seed=0, verbose=0)
    plain = DeMa(**SMALL, learning_rate=3e-4, seed=0)
    assert habit.hyperparameters() == plain.hyperparameters() and repr(habit) == repr(plain)
    assert not {"policy_class", "policy_kwargs", "env"} & set(habit.hyperparameters())
    with pytest.raises(ValueError, match=r"DT\(d_model=...\) must be"):
        DT("MlpPolicy", policy_kwargs={"d_model": 0})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"net_arch": [64, 64]}, r"cannot have 'net_arch' here: the width is d_model and the dep"),
        ({"activation_fn": object}, "activations of its paper"),
        ({"optimizer_kwargs": {}}, "AdamW, with weight_decay="),
        ({"d_modl": 3}, "no hyper-parameter 'd_modl'; did you mean 'd_model'"),
    ],
)
def test_what_is_no_hyperparameter_is_refused_with_what_stands_in_its_place(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DeMa("MlpPolicy", policy_kwargs=given)


NAMES: list[tuple[Space, str]] = [
    (NUMBERS["unbounded"], "MlpPolicy"),
    (spaces.Discrete(3), "MlpPolicy"),
    (IMAGES["channels last"], "CnnPolicy"),
    (PARTS["goal"], "MultiInputPolicy"),
    (IMAGES["image and numbers"], "MultiInputPolicy"),
]


@pytest.mark.parametrize(("space", "name"), NAMES)
def test_the_name_must_be_the_one_for_the_space(space: Space, name: str) -> None:
    policies: tuple[Any, ...] = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
    for given in policies:
        algorithm = DeMa(given, policy_kwargs=SMALL)
        if given == name:
            algorithm.make_policy(space, BOX_ACTION)
            continue
        with pytest.raises(ValueError, match=f"'{given}' is not for .* take '{name}'"):
            algorithm.make_policy(space, BOX_ACTION)
        assert algorithm.policy is None
    with pytest.raises(ValueError, match="must be one of 'auto', 'MlpPolicy'"):
        DeMa("MlpLstmPolicy")  # type: ignore[arg-type]


def test_images_too_small_for_the_convolutions_are_refused_with_the_least_size() -> None:
    algorithm = DeMa("CnnPolicy", policy_kwargs=SMALL)
    with pytest.raises(ValueError, match=r"uint8, of at least 36 x 36 pixels\): take 'MlpPolicy'"):
        algorithm.make_policy(spaces.Box(0, 255, (3, 35, 64), np.uint8), BOX_ACTION)


def test_an_environment_is_compared_with_the_data_and_not_played(tmp_path: Path) -> None:
    data = tiny_trajectories(False)
    made = lambda: Anything(data.observation_space, data.action_space)  # noqa: E731
    for env in (made(), SyncVectorEnv([made] * 2), DummyVecEnv([made] * 2)):
        algorithm = DeMa("MlpPolicy", env, policy_kwargs=SMALL, seed=0).learn(data, 1)
        algorithm.save(tmp_path / "saved")
        assert DeMa.load(tmp_path / "saved").env is None
    other = Anything(spaces.Box(-1, 1, (4,)), data.action_space)
    with pytest.raises(ValueError, match="the observation space is Box"):
        DeMa("MlpPolicy", other).learn(data, 1)
    with pytest.raises(TypeError, match="env must be an environment or an id, or left out, got 3"):
        DeMa("MlpPolicy", 3).learn(data, 1)


def test_an_environment_may_be_named_by_its_id(tmp_path: Path) -> None:
    algorithm = DeMa("MlpPolicy", "CartPole-v1", policy_kwargs=SMALL, seed=0)
    algorithm.learn("cartpole/mixed-v0", 1).save(tmp_path / "saved")
    for env in ("CartPole-v1", SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2)):
        DeMa.load(tmp_path / "saved", env)
    with pytest.raises(ValueError, match="the observation space is Box"):
        DeMa.load(tmp_path / "saved", "Pendulum-v1")
    with pytest.raises(gym.error.NameNotFound, match="`CartPola`"):
        DeMa.load(tmp_path / "saved", "CartPola-v1")


@pytest.mark.parametrize(
    ("module", "log", "bar", "extra"),
    [
        ("stable_baselines3.common.utils.SummaryWriter", "board", False, "tensorboard"),
        ("stable_baselines3.common.callbacks.tqdm", None, True, "progress"),
    ],
)
def test_what_is_not_installed_is_named_with_the_command_and_nothing_is_lost(
    module: str, log: str | None, bar: bool, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny_trajectories(False)
    algorithm = tiny_algorithm().learn(data, 3)
    algorithm.tensorboard_log = log
    monkeypatch.setattr(module, None)  # as where it is not installed
    with pytest.raises(ImportError, match=rf"pip install 'decision-policies\[{extra}\]'"):
        algorithm.learn(data, 1, progress_bar=bar)
    assert algorithm.num_timesteps == 3
