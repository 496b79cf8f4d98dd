"""ema_decay: the policy acts with a moving average of the weights that are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from decision_policies import DeMa
from decision_policies.errors import TrainingDivergedError
from decision_policies.laws.cases import Case
from decision_policies.learning.optimisation import WeightAverage


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def learner(**options: Any) -> tuple[DeMa, Any]:
    case = Case(DeMa, "box-box", {"ema_decay": 0.6, **options})
    algorithm = case.make()
    assert isinstance(algorithm, DeMa)
    return algorithm, case.data()


def test_the_policy_acts_with_the_average_of_the_trained_weights() -> None:
    algorithm, data = learner()
    trained: list[list[torch.Tensor]] = []

    def remember(local: dict[str, Any], _: dict[str, Any]) -> bool:
        trained.append(weights(local["training"].model))
        return True

    algorithm.learn(data, 0)
    assert algorithm.policy is not None
    average = weights(algorithm.policy.model)
    algorithm.learn(data, 20, callback=remember)
    for n, now in enumerate(trained[:-1], start=1):  # no loss has judged the last ones
        decay = min(0.6, (1 + n) / (10 + n))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, now, strict=True)]
    assert not any(torch.equal(w, a) for w, a in zip(trained[-1], average, strict=True))
    for found, wanted in zip(weights(algorithm.policy.model), average, strict=True):
        torch.testing.assert_close(found, wanted)


def test_without_a_decay_the_trained_model_is_the_one_that_acts() -> None:
    algorithm, data = learner(ema_decay=None)
    algorithm.learn(data, 1)
    assert algorithm.policy is not None
    assert algorithm._training is not None
    assert algorithm._training.model is algorithm.policy.model


def test_a_diverged_training_leaves_the_average_finite() -> None:
    algorithm, data = learner(learning_rate=1e30, warmup_steps=0)
    with pytest.raises(TrainingDivergedError):
        algorithm.learn(data, 20)
    assert algorithm.policy is not None
    assert algorithm._training is not None
    for model in (algorithm.policy.model, algorithm._training.model):
        assert all(bool(w.isfinite().all()) for w in weights(model))


def test_a_saved_average_cannot_be_resumed_without_one(tmp_path: Path) -> None:
    algorithm, data = learner()
    algorithm.learn(data, 3)
    algorithm.save(tmp_path / "m")
    loaded = DeMa.load(tmp_path / "m")
    loaded.ema_decay = None
    with pytest.raises(ValueError, match=r"does not fit the model.*trained\."):
        loaded.learn(data, 1, reset_num_timesteps=False)


def test_an_average_cannot_be_resumed_where_none_was_saved(tmp_path: Path) -> None:
    algorithm, data = learner(ema_decay=None)
    algorithm.learn(data, 3)
    algorithm.save(tmp_path / "m")
    loaded = DeMa.load(tmp_path / "m")
    loaded.ema_decay = 0.9
    with pytest.raises(ValueError, match="was saved without ema_decay"):
        loaded.learn(data, 1, reset_num_timesteps=False)


def test_buffers_of_the_trained_model_act_as_they_are() -> None:
    acting, trained = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    average = WeightAverage(acting, trained, 0.5)
    trained(torch.randn(64, 2, generator=torch.Generator().manual_seed(0)) * 5 + 3)
    average.update(1)
    assert acting.running_mean is not None and trained.running_mean is not None
    assert float(trained.running_mean.abs().min()) > 0.1
    assert torch.equal(acting.running_mean, trained.running_mean)


def test_another_learn_goes_on_averaging_where_it_was() -> None:
    algorithm, data = learner(ema_decay=0.999, learning_rate=1e-2)
    algorithm.learn(data, 60)
    assert algorithm._training is not None
    assert algorithm.policy is not None
    before = weights(algorithm.policy.model)
    apart = max(
        float((a - b).abs().max())
        for a, b in zip(before, weights(algorithm._training.model), strict=True)
    )
    algorithm.learn(data, 1)
    moved = max(
        float((a - b).abs().max())
        for a, b in zip(before, weights(algorithm.policy.model), strict=True)
    )
    assert 0 < moved < 0.3 * apart


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"DeMa\(ema_decay=\.\.\.\) must be from 0.0 to 0.999999"):
        DeMa(ema_decay=decay)
