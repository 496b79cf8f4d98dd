"""return_mode: what each step asks for, from the hyper-parameter to the acting policy."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from decision_policies import DeMa
from decision_policies.analysis import logged_episode
from tests.laws.cases import dema, trajectories


@pytest.mark.parametrize(("mode", "left"), [("decrement", -45.0), ("constant", 5.0)])
def test_rewards_lower_what_is_asked_for_unless_it_is_the_whole_episodes(
    mode: str, left: float, tmp_path: Path
) -> None:
    algorithm = dema(return_mode=mode, target_return=5.0).learn(trajectories(), 1)
    algorithm.save(tmp_path / "m")
    for made in (algorithm, DeMa.load(tmp_path / "m")):
        policy = made.policy
        assert policy is not None
        assert policy.spec.return_mode == mode
        policy.predict(trajectories().observations[0])
        policy.observe(50.0)
        assert policy.returns_to_go is not None
        assert policy.returns_to_go.tolist() == [left]


def test_a_policy_that_needs_no_rewards_does_not_ask_for_them() -> None:
    observation = trajectories().observations[0]
    constant = dema(return_mode="constant").learn(trajectories(), 1).policy
    decrement = dema().learn(trajectories(), 1).policy
    assert constant is not None
    assert decrement is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            constant.predict(observation)
    decrement.predict(observation)
    with pytest.warns(UserWarning, match="no reward was reported"):
        decrement.predict(observation)


def test_training_sees_whole_returns_in_constant_mode_and_those_to_go_else() -> None:
    for mode, held in (("constant", True), ("decrement", False)):
        algorithm = dema(return_mode=mode).learn(trajectories(), 1)
        assert algorithm._training is not None
        returns = algorithm._training.sampler.sample().returns_to_go
        assert bool((returns == returns[:, :1]).all()) is held


def test_a_logged_episode_asks_for_what_its_policy_was_taught() -> None:
    data = trajectories()
    to_go = logged_episode(data, 0).returns_to_go
    whole = logged_episode(data, 0, "constant").returns_to_go
    np.testing.assert_allclose(to_go[0], data.returns_to_go[: data.lengths[0]])
    assert torch.equal(whole, to_go[:, :1].expand_as(whole))
    assert not torch.equal(whole, to_go)


@pytest.mark.parametrize("change", [{"return_mode": "constant"}, {"ema_decay": 0.9}])
def test_what_a_policy_was_made_for_cannot_change(change: dict[str, object]) -> None:
    algorithm = dema().learn(trajectories(), 1)
    for name, value in change.items():
        setattr(algorithm, name, value)
    with pytest.raises(ValueError, match=r"return_mode and ema_decay were 'decrement' and None"):
        algorithm.learn(trajectories(), 1)
