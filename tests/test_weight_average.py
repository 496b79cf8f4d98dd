"""ema_decay: the policy acts with a moving average of the weights that are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from decision_policies import DeMa
from decision_policies.errors import TrainingDivergedError
from decision_policies.laws.cases import Case


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
    assert all(bool(w.isfinite().all()) for w in weights(algorithm.policy.model))


def test_a_saved_average_cannot_be_resumed_without_one(tmp_path: Path) -> None:
    algorithm, data = learner()
    algorithm.learn(data, 3)
    algorithm.save(tmp_path / "m")
    loaded = DeMa.load(tmp_path / "m")
    loaded.ema_decay = None
    with pytest.raises(ValueError, match=r"does not fit the model.*trained\."):
        loaded.learn(data, 1, reset_num_timesteps=False)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"DeMa\(ema_decay=\.\.\.\) must be from 0.0 to 0.999999"):
        DeMa(ema_decay=decay)
