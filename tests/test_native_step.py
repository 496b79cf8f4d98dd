"""A written step, native or by NumPy: the model's own actions, whatever rows and weights do."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from decision_policies import AD, BC, DC, DM, DMM, DT, DeMa, MambaDM, SequenceAlgorithm
from decision_policies.batch import Step
from decision_policies.contexts import (
    Context,
    Executed,
    NativeContext,
    NativeWindowContext,
    RecurrentContext,
    WindowContext,
    make_context,
)
from decision_policies.laws.cases import sample
from decision_policies.learning.optimisation import make_optimizer
from decision_policies.models import SequenceModel, TokenModel, native_runner
from decision_policies.models.native_step import ACTIVATIONS
from decision_policies.models.numpy_activations import ACTIVATE
from decision_policies.ops.backends import backends
from decision_policies.ops.native import library
from decision_policies.spaces import model_shape
from tests.kernels import reason

BOX = spaces.Box(-np.inf, np.inf, (5,))
SYSTEMS: dict[str, SequenceAlgorithm] = {
    "DeMa": DeMa(d_model=24),
    "DeMa-post": DeMa(d_model=33, n_layers=2, block="post", d_state=5, d_conv=3, expand=2),
    "DeMa-tanh": DeMa(d_model=17, n_layers=1, embedding="tanh", d_conv=1),
    "DMM": DMM(d_model=20, n_layers=2),
    "DM": DM(d_model=16, n_layers=2, max_ep_len=7),
    "AD": AD(d_model=16, n_layers=2, backbone="mamba"),
    "DT": DT(d_model=24, n_layers=2, n_heads=3, max_ep_len=7, context_length=20),
    "DT-narrow": DT(
        d_model=130, n_layers=2, context_length=20, attention_window=2, activation="gelu"
    ),
    "AD-transformer": AD(d_model=32, n_layers=1, n_heads=2, context_length=3),
    "MambaDM": MambaDM(d_model=24, n_layers=2),
    "MambaDM-sum": MambaDM(d_model=64, n_layers=2, fuse="sum", window=3, local_expand=2),
    "BC": BC(d_model=24, n_layers=2, context_length=3),
    "DC": DC(d_model=24, n_layers=2, max_ep_len=0),
    "DC-hybrid": DC(d_model=64, n_layers=2, conv_proj=True, hybrid=True, window=4, max_ep_len=9),
}
SPACES: list[tuple[gym.Space[Any], gym.Space[Any]]] = [
    (BOX, spaces.Box(-2, 3, (3,))),
    (spaces.Discrete(4, start=-1), spaces.Discrete(5, start=2)),
    (spaces.Box(-1, 1, (2, 3)), spaces.Box(-np.inf, np.inf, ())),
    (BOX, spaces.Box(-1, 1, (70,))),
    (spaces.Dict({"a": BOX, "b": spaces.Discrete(3)}), spaces.Discrete(2)),
]


pytestmark = pytest.mark.usefixtures("looked_for_again")


def model_of(
    name: str, observation: gym.Space[Any] = BOX, action: gym.Space[Any] = SPACES[0][1]
) -> SequenceModel:
    """Make a model with weights and statistics that are nothing special."""
    model = SYSTEMS[name].make_policy(observation, action, target_return=50.0).model
    shape = torch.Size(model_shape(observation))
    model.set_statistics(torch.linspace(-1, 1, shape.numel()).view(shape), torch.full(shape, 1.7))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in model.parameters():
            x.add_(0.1 * torch.randn(x.shape, generator=generator))
    return model.eval()


class Life:
    """Random steps of n rows that begin anew, or are idle, by a chance."""

    def __init__(self, model: SequenceModel, rows: int, seed: int = 0, chance: float = 0.2) -> None:
        self.model, self.rows, self.chance = model, rows, chance
        self.rng = np.random.default_rng(seed)
        self.first = True
        self.clock = np.zeros(rows, np.int64)

    def step(self) -> tuple[Executed | None, np.ndarray[Any, Any] | None, Step, Any]:
        """Draw what `Context.advance` takes."""
        rng, n, spec = self.rng, self.rows, self.model.spec
        executed, clear, idle = None, None, None
        if not self.first:
            action = torch.from_numpy(sample(rng, spec.action_space, n))
            executed = Executed(action, torch.from_numpy(rng.normal(size=n).astype(np.float32)))
            self.clock += 1
            clear = rng.random(n) < self.chance
            self.clock[clear] = 0
            idle = ~clear & (rng.random(n) < self.chance)
        self.first = False
        if isinstance(spec.observation_space, spaces.Dict):
            drawn = rng.normal(size=(n, *model_shape(spec.observation_space))).astype(np.float32)
        else:
            drawn = sample(rng, spec.observation_space, n)
        wanted = torch.from_numpy(rng.normal(20, 5, n).astype(np.float32))
        step = Step(torch.from_numpy(drawn), wanted, torch.from_numpy(self.clock.copy()))
        marked = (None if x is None or not x.any() else x for x in (clear, idle))
        return executed, next(marked), step, next(marked)


@pytest.fixture(params=[*library.INSTRUCTION_SETS, "numpy"])
def engine(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, looked_for_again: None
) -> None:
    """Each instruction set that this processor has, which must be right, and NumPy."""
    if request.param == "numpy":
        reason(monkeypatch, "off")
        return
    why = reason(monkeypatch, request.param)
    if library.native().library is None:
        pytest.skip(why)
    assert why == ""


def native_of(model: SequenceModel, rows: int) -> NativeContext:
    context = make_context(model, rows, "recurrent")
    assert isinstance(context, NativeContext)
    return context


def difference(left: Context, right: Context, life: Life, steps: int) -> float:
    """Live on in both; give the largest difference of what they say of rows that are not idle."""
    worst = 0.0
    for _ in range(steps):
        given = life.step()
        counts = np.ones(life.rows, bool) if given[3] is None else ~given[3]
        error = left.advance(*given).action - right.advance(*given).action
        if counts.any():
            worst = max(worst, float(error[torch.from_numpy(counts)].abs().amax()))
    return worst


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


@pytest.mark.parametrize("space", SPACES[:2], ids=str)
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.usefixtures("library_is_there")
def test_native_and_torch_windows_predict_the_same(
    name: str, space: tuple[gym.Space[Any], gym.Space[Any]]
) -> None:
    model = model_of(name, *space)
    for rows, length in ((1, 1), (2, 3), (7, 4)):
        ours = NativeWindowContext(model, rows, length)
        theirs = WindowContext(model, rows, length)
        assert difference(ours, theirs, Life(model, rows), 12) < 2e-5


@pytest.mark.parametrize("name", ["DT", "DT-narrow", "AD-transformer"])
@pytest.mark.usefixtures("engine")
def test_attention_goes_on_when_its_places_have_all_been_used(name: str) -> None:
    model = model_of(name)
    for rows in (1, 3):
        ours, theirs = native_of(model, rows), RecurrentContext(model, rows)
        assert difference(ours, theirs, Life(model, rows, chance=0.02), 90) < 2e-5


@pytest.mark.parametrize("name", ["DeMa", "DMM", "DM", "DT", "MambaDM", "DC"])
@pytest.mark.usefixtures("library_is_there")
def test_windows_of_more_tokens_than_go_together_predict_the_same(name: str) -> None:
    model = model_of(name)
    ours, theirs = NativeWindowContext(model, 2, 50), WindowContext(model, 2, 50)
    assert difference(ours, theirs, Life(model, 2, chance=0.02), 70) < 2e-5


@pytest.mark.parametrize("name", ["DeMa", "DMM", "DT", "MambaDM", "DC"])
@pytest.mark.usefixtures("library_is_there")
def test_windows_are_the_same_alone_among_others_and_copied(name: str) -> None:
    model = model_of(name)
    many, one = (NativeWindowContext(model, rows, 4) for rows in (5, 1))
    life = Life(model, 5)
    for _ in range(12):
        executed, clear, step, _ = life.step()
        row = slice(3, 4)
        alone = Step(*(x[row] for x in (step.observations, step.returns_to_go, step.timesteps)))
        done = None if executed is None else Executed(*(x[row] for x in executed))
        among = many.advance(executed, clear, step).action[row]
        cleared = None if clear is None or not clear[3] else clear[row]
        one = copy.deepcopy(one)
        assert torch.equal(among, one.advance(done, cleared, alone).action)


@pytest.mark.parametrize("name", ["DeMa", "DT"])
@pytest.mark.usefixtures("instruction_set")
def test_a_row_is_bit_equal_alone_and_among_others(name: str) -> None:
    model = model_of(name)
    many, one, life = native_of(model, 7), native_of(model, 1), Life(model, 7)
    for _ in range(12):
        executed, clear, step, _ = life.step()
        row = slice(3, 4)
        alone = Step(*(x[row] for x in (step.observations, step.returns_to_go, step.timesteps)))
        done = None if executed is None else Executed(*(x[row] for x in executed))
        among = many.advance(executed, clear, step).action[row]
        cleared = None if clear is None or not clear[3] else clear[row]
        assert torch.equal(among, one.advance(done, cleared, alone).action)


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


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.usefixtures("engine")
def test_a_copy_goes_on_by_itself(copied: Callable[[NativeContext], NativeContext]) -> None:
    model = model_of("DeMa")
    ours, life = native_of(model, 3), Life(model, 3)
    for _ in range(3):
        ours.advance(*life.step())
    other, twin = copied(ours), copy.deepcopy(life)
    left = [ours.advance(*life.step()).action for _ in range(3)]
    right = [other.advance(*twin.step()).action for _ in range(3)]
    assert all(map(torch.equal, left, right))


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
    monkeypatch.setattr(native_runner, "TOLERANCE", 1e-12)
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
    assert backends()["step"] == "numpy"
    model = model_of("DeMa")
    assert isinstance(make_context(model, 1, "recurrent"), NativeContext)
    assert isinstance(make_context(model, 1, "window"), WindowContext)


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
    with pytest.raises(RuntimeError, match=r"call policy\.reset\(\)"):
        ours.advance(*life.step())
