"""A written step, native or by NumPy: the model's own actions, whatever rows and weights do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from decision_policies import DT, DeMa, MambaDM, SequenceAlgorithm
from decision_policies.contexts import (
    NativeContext,
    RecurrentContext,
    StaggeredContext,
    WindowContext,
    make_context,
)
from decision_policies.learning.optimisation import make_optimizer
from decision_policies.models import TokenModel, native_check, native_runner
from decision_policies.models.native_step import ACTIVATIONS
from decision_policies.models.numpy_activations import ACTIVATE
from decision_policies.ops.backends import backends
from tests.kernels import reason
from tests.written_steps import SPACES, SYSTEMS, Life, alone, difference, model_of, native_of

pytestmark = pytest.mark.usefixtures("looked_for_again")


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.usefixtures("engine")
def test_the_written_step_and_torch_predict_the_same(
    name: str, space: tuple[gym.Space[Any], gym.Space[Any]]
) -> None:
    model = model_of(name, *space)
    for rows in (1, 2, 7):
        ours, theirs = native_of(model, rows), RecurrentContext(model, rows)
        assert difference(ours, theirs, Life(model, rows), 12) < 2e-5


@pytest.mark.parametrize("name", ["DeMa", "DT"])
@pytest.mark.usefixtures("instruction_set")
def test_a_row_is_bit_equal_alone_and_among_others(name: str) -> None:
    model = model_of(name)
    many, one, life = native_of(model, 7), native_of(model, 1), Life(model, 7)
    for _ in range(12):
        executed, clear, step, _ = life.step()
        among = many.advance(executed, clear, step).action[3:4]
        assert torch.equal(among, one.advance(*alone(3, executed, clear, step)).action)


@pytest.mark.usefixtures("engine")
def test_weights_that_change_are_taken_over() -> None:
    model = model_of("DMM")
    ours, theirs, life = native_of(model, 3), RecurrentContext(model, 3), Life(model, 3)
    assert difference(ours, theirs, life, 3) < 2e-5
    learnt = {name for name, _ in model.named_parameters()}
    weights = {k: 1.5 * x if k in learnt else x for k, x in model.state_dict().items()}
    model.load_state_dict(weights)
    assert difference(ours, theirs, life, 5) < 2e-5


@pytest.mark.usefixtures("library_is_there")
def test_learning_on_is_seen_at_once_and_any_change_at_the_next_beginning() -> None:
    model = model_of("DeMa")
    known = native_runner.native_step(model)
    assert known is not None
    optimiser = make_optimizer(model, weight_decay=0.1, betas=(0.9, 0.999))
    sum((x.sum() for x in model.parameters()), torch.zeros(())).backward()
    optimiser.param_groups[0]["lr"] = 1e-3
    optimiser.step()
    assert not known.current()
    known = native_runner.native_step(model)
    assert known is not None and known.current()
    next(model.parameters()).data.mul_(1.5)  # torch does not count what goes by `data`
    again = native_runner.native_step(model)
    assert again is not None and again is not known
    assert native_runner.native_step(model) is again
    assert isinstance(model, TokenModel)
    model.norm.weight = torch.nn.Parameter(2 * model.norm.weight.detach())
    assert native_runner.native_step(model) is not again


@pytest.mark.usefixtures("engine")
def test_weights_that_are_no_numbers_are_the_policy_s_to_report() -> None:
    algorithm = DeMa(d_model=16)
    policy = algorithm.make_policy(*SPACES[0], target_return=50.0)
    policy.predict(np.zeros(5))
    with torch.no_grad():
        policy.model.head.linear.weight.fill_(torch.nan)  # type: ignore[union-attr, operator]
    with pytest.raises(ValueError, match="the model's output is not finite"):
        policy.predict(np.zeros(5), reward=1.0)


@pytest.mark.usefixtures("library_is_there")
def test_models_that_are_not_known_act_by_torch(caplog: pytest.LogCaptureFixture) -> None:
    unknown: list[SequenceAlgorithm]
    unknown = [MambaDM(d_model=16, local_mode="chunk"), MambaDM(d_model=16, fuse="gated")]
    unknown += [DT(d_model=16, token_positions=True), DeMa(d_model=16, layout="BL3D")]
    for algorithm in unknown:
        with caplog.at_level(logging.INFO):
            model = algorithm.make_policy(*SPACES[0]).model
            for _ in range(2):
                assert isinstance(make_context(model, 1, "recurrent"), RecurrentContext)
    assert caplog.text.count("the model acts by torch") == 4  # once each
    low = model_of("DeMa")
    assert native_runner.native_step(low) is not None
    assert native_runner.native_step(low.bfloat16()) is None


@pytest.mark.usefixtures("library_is_there")
def test_a_step_that_differs_from_its_model_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("DeMa")
    monkeypatch.setattr(native_check, "TOLERANCE", 1e-12)
    assert native_runner.native_step(model.train()) is None
    assert model.training


@pytest.mark.usefixtures("library_is_there")
def test_torch_s_defaults_of_type_and_device_change_nothing() -> None:
    model = model_of("DeMa")
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        assert native_runner.native_step(model) is not None
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_without_the_library_numpy_carries_and_torch_encodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert reason(monkeypatch, "off")
    assert backends()["step"].startswith("numpy for a few rows")
    model = model_of("DeMa")
    assert isinstance(make_context(model, 1, "recurrent"), NativeContext)
    assert isinstance(make_context(model, 1, "window"), WindowContext)
    assert isinstance(make_context(model, 9, "recurrent"), RecurrentContext)
    assert type(make_context(model, 5, "staggered")) is StaggeredContext


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_numpy_s_activations_are_torch_s(activation: str) -> None:
    exact: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "none": lambda x: x,
        "tanh": torch.tanh,
        "softplus": torch.nn.functional.softplus,
        "relu": torch.relu,
        "gelu": torch.nn.functional.gelu,
        "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    }
    x = np.concatenate((np.linspace(-12, 12, 999), [-200, -40, 40, 200])).astype(np.float32)
    wanted = exact[activation](torch.from_numpy(x.copy()))
    if (activate := ACTIVATE[activation]) is not None:
        activate(x)
    torch.testing.assert_close(torch.from_numpy(x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("library_is_there")
def test_a_model_that_can_no_longer_act_natively_says_so() -> None:
    model = model_of("DeMa")
    ours, life = native_of(model, 1), Life(model, 1)
    ours.advance(*life.step())
    model.double()
    with torch.no_grad():
        next(model.parameters()).zero_()
    with pytest.raises(RuntimeError, match=r"not float32 on the CPU.* call policy\.reset\(\)"):
        ours.advance(*life.step())
