"""A model that torch has compiled learns the same, and our kernels are whole operators in it."""

from __future__ import annotations

import copy
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from decision_policies import BC, DT, DeMa, DMHybrid, SequenceAlgorithm, Trajectories
from decision_policies.laws.cases import Case, trajectories
from decision_policies.nets import Mamba
from decision_policies.ops import backends
from decision_policies.ops.compiling import choose_kernels, compiled
from tests.fixtures import BOX_ACTION
from tests.laws.systems import SYSTEMS
from tests.test_extractors import CASES, made
from tests.test_spaces import Space, episodes

Copier: TypeAlias = Callable[[SequenceAlgorithm], SequenceAlgorithm]
COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++"))), None)
DIFFERENT = (
    *("DeMa-B3LD-pre", "DeMa-rnn-BL3D", "DeMa-predicted-rewards", "MambaDM-sliding-linear"),
    *("DMM", "DM", "DT", "DC-hybrid", "BC", "AD-mamba"),
)
"""Systems that have every kind of part; one takes some seconds to trace."""


@pytest.fixture(autouse=True)
def _clean() -> None:
    """Forget what other tests had compiled: a function is compiled for a few shapes at most."""
    torch.compiler.reset()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torch trace as ever, but run what it has traced without generating C++ for it."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def learnt(
    system: type[SequenceAlgorithm], settings: dict[str, Any], **more: Any
) -> SequenceAlgorithm:
    """Learn for three updates."""
    case = Case(system, hyperparameters={**settings, **more})
    return case.make().learn(trajectories("box-box"), 3)


def weights(algorithm: SequenceAlgorithm) -> list[Tensor]:
    """Give an algorithm's weights."""
    assert algorithm.policy is not None
    return [x.detach() for x in algorithm.policy.model.parameters()]


def doubled(x: Tensor) -> Tensor:
    """Something to compile."""
    return x * 2


def assert_close(ours: SequenceAlgorithm, theirs: SequenceAlgorithm) -> None:
    """Assert that two algorithms have learnt the same, to rounding."""
    for left, right in zip(weights(ours), weights(theirs), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=2e-5)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", DIFFERENT)
def test_every_system_learns_the_same_compiled(name: str) -> None:
    plain = learnt(*SYSTEMS[name])
    assert_close(learnt(*SYSTEMS[name], torch_compile=True), plain)


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch's own
def test_generated_code_learns_the_same() -> None:
    wide = {"d_model": 64, "n_layers": 1}  # wide enough for oneDNN to be asked
    assert_close(learnt(DeMa, wide, torch_compile=True), learnt(DeMa, wide))


@pytest.mark.usefixtures("traced")
def test_compiled_training_resumes_to_the_last_bit(tmp_path: Path) -> None:
    data = trajectories("box-box")
    whole = Case(DeMa, hyperparameters={"torch_compile": True}).make().learn(data, 4)
    first = Case(DeMa, hyperparameters={"torch_compile": True}).make().learn(data, 2)
    first.save(tmp_path / "saved")
    resumed = DeMa.load(tmp_path / "saved")
    assert resumed.torch_compile
    resumed.learn(data, 2, reset_num_timesteps=False)
    assert all(map(torch.equal, weights(resumed), weights(whole)))


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_s_compiled_training_is_its_own(copied: Copier) -> None:
    data = trajectories("box-box")
    first = learnt(BC, {}, torch_compile=True)
    before = [x.clone() for x in weights(first)]
    second = copied(first).learn(data, 1, reset_num_timesteps=False)
    assert all(map(torch.equal, weights(first), before))
    first.learn(data, 1, reset_num_timesteps=False)
    assert all(map(torch.equal, weights(first), weights(second)))
    assert not all(map(torch.equal, weights(first), before))


def test_however_many_were_compiled_before_the_next_is_compiled_as_the_first() -> None:
    sizes: list[int | torch.SymInt] = []

    def note(graph: torch.fx.GraphModule, given: list[Any]) -> Callable[..., Any]:
        sizes.extend(x for x in given if isinstance(x, torch.SymInt))
        sizes.append(given[0].shape[0])
        return graph.forward

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "compile", partial(torch.compile, backend=note))
        for rows in range(2, 12):
            compiled(doubled, "cpu")(torch.ones(rows, requires_grad=True))
    assert sizes == list(range(2, 12))


def without_unknown_numbers(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
    """Run a graph in which no number is read off a tensor: inductor refuses those of NumPy."""
    assert not [n for n in graph.graph.nodes if n.name.startswith(("item", "wrapped_item"))]
    return graph.forward


def whole(
    algorithm: SequenceAlgorithm, data: Trajectories, backend: Any = without_unknown_numbers
) -> None:
    """Compile a pass over a batch, which is to be one graph, and compare its loss."""
    algorithm.learn(data, 0)
    assert algorithm.policy is not None
    window = algorithm.sampler_for(data, None).sample()
    choose_kernels("cpu")
    one = torch.compile(algorithm.policy.model.losses, fullgraph=True, backend=backend)
    plain = algorithm.policy.model.losses(window)[0]["loss"]
    torch.testing.assert_close(one(window, None)[0]["loss"], plain)


@pytest.mark.parametrize("kind", ["box-discrete", "binary-choices", "choices-binary"])
def test_a_pass_with_choices_is_one_graph(kind: str) -> None:
    whole(Case(BC, kind).make(), trajectories(kind))


def test_a_pass_with_frozen_weights_is_one_graph() -> None:
    algorithm = Case(DeMa).make().learn(trajectories("box-box"), 0)
    assert algorithm.policy is not None
    algorithm.policy.model.requires_grad_(False)
    whole(algorithm, trajectories("box-box"))


@pytest.mark.parametrize(("space", "extractor", "options"), CASES)
def test_a_pass_with_an_extractor_is_one_graph(
    space: Space, extractor: type, options: dict[str, Any]
) -> None:
    data = Trajectories.from_episodes(episodes(space, BOX_ACTION), space, BOX_ACTION)
    whole(made(extractor, options), data)


@pytest.mark.parametrize("system", [DeMa, DT])
def test_a_compiled_pass_is_one_graph_with_our_kernels_in_it(
    system: type[SequenceAlgorithm],
) -> None:
    called: list[str] = []

    def note(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        called.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    whole(Case(system, hyperparameters={"d_model": 64}).make(), trajectories("box-box"), note)
    ours = {name.split(".")[1] for name in called if name.startswith("decision_policies.")}
    used = backends()
    wanted = {"linear"} if used["linear"] == "onednn" else set()
    if system is DeMa:
        wanted.add(f"scan_{used['scan'].split()[0]}")
    assert ours == wanted


def test_what_is_exported_after_a_compiled_training_holds_torchs_operators_only() -> None:
    class Part(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mamba = Mamba(64)

        def forward(self, x: Tensor) -> Tensor:
            return self.mamba(x)[0]

    choose_kernels("cpu")
    program = torch.export.export(Part(), (torch.randn(32, 5, 64),))
    assert not [n for n in program.graph.nodes if "decision_policies" in str(n.target)]


def test_what_cannot_be_compiled_says_so_and_loses_nothing() -> None:
    algorithm = learnt(DMHybrid, {})
    before = [x.clone() for x in weights(algorithm)]
    algorithm.torch_compile = True
    with pytest.raises(ValueError, match="shapes in a HybridModel follow the data"):
        algorithm.learn(trajectories("box-box"), 1)
    assert all(map(torch.equal, weights(algorithm), before))
    assert algorithm.num_timesteps == 3
