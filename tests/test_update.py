"""An update in parts is the whole batch's, and one in low precision learns the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from decision_policies import AD, BC, DC, DM, DMM, DT, DeMa, MambaDM, SequenceAlgorithm
from decision_policies.laws.cases import Case, trajectories
from decision_policies.learning import training

SYSTEMS: list[tuple[type[SequenceAlgorithm], dict[str, Any]]] = [
    (DeMa, {}),
    (DeMa, {"kind": "rnn"}),
    (DMM, {}),
    (DM, {}),
    (DT, {}),
    (DC, {}),
    (MambaDM, {}),
    (BC, {}),
    (AD, {}),
]
names = pytest.mark.parametrize(
    ("system", "settings"), SYSTEMS, ids=lambda x: getattr(x, "__name__", str(x))
)


def learnt(
    system: type[SequenceAlgorithm], settings: dict[str, Any], updates: int = 2, **more: Any
) -> tuple[list[torch.Tensor], list[float]]:
    """Learn a little; give the weights, and the loss of each update."""
    case = Case(system, hyperparameters={**settings, **more})
    algorithm = case.make()
    curve: list[float] = []

    def note(found: dict[str, Any], _: dict[str, Any]) -> bool:
        curve.append(float(found["losses"]["loss"]))
        return True

    algorithm.learn(trajectories("box-box"), updates, callback=note)
    assert algorithm.policy is not None
    return [x.detach() for x in algorithm.policy.model.parameters()], curve


@names
def test_a_batch_in_parts_gives_the_whole_batch_s_update(
    system: type[SequenceAlgorithm], settings: dict[str, Any]
) -> None:
    whole, expected = learnt(system, settings)
    cut, curve = learnt(system, settings, gradient_accumulation_steps=3)
    assert curve == pytest.approx(expected, rel=1e-4)
    for ours, theirs in zip(cut, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5)


def test_more_parts_than_rows_are_as_many_as_rows() -> None:
    _, expected = learnt(BC, {})
    _, curve = learnt(BC, {}, gradient_accumulation_steps=100)
    assert curve == pytest.approx(expected, rel=1e-4)


@names
def test_low_precision_learns_nearly_the_same_and_keeps_its_weights_in_float32(
    system: type[SequenceAlgorithm], settings: dict[str, Any]
) -> None:
    _, expected = learnt(system, settings, updates=3)
    weights, curve = learnt(system, settings, updates=3, precision="bfloat16")
    assert curve != expected
    assert curve == pytest.approx(expected, rel=0.05)
    assert all(x.dtype == torch.float32 for x in weights)


@pytest.mark.parametrize("known", [True, False])
def test_a_processor_without_bfloat16_is_told_of(
    known: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(training, "knows_bfloat16", lambda: known)
    learnt(BC, {}, updates=1)
    assert not caplog.records
    learnt(BC, {}, updates=1, precision="bfloat16")
    assert ("this processor has no instructions for it" in caplog.text) is not known


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="'float32', 'bfloat16'; got 'float16'"):
        DeMa(precision="float16")  # type: ignore[arg-type]
