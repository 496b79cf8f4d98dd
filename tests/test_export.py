"""An exported step does what the policy does, without the package, or says why it cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

import decision_policies
from decision_policies import (
    AD,
    DMM,
    DT,
    DeMa,
    DMHybrid,
    SequenceAlgorithm,
    SequencePolicy,
    export_step,
)
from decision_policies.errors import ExportError
from decision_policies.export import exporting
from decision_policies.export.step import ActingStep, Likeliest
from decision_policies.models import make_head
from decision_policies.nets import Attention
from tests.fixtures import tiny_policy, tiny_spaces

ROOT = Path(__file__).parent.parent
SMALL = {"d_model": 16, "n_layers": 1, "context_length": 6, "seed": 0}


class Onnx:
    """An exported policy in one environment, by onnxruntime and numpy."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path)
        inputs = self.session.get_inputs()
        self.names = [entry.name for entry in inputs]
        types = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}
        self.state = [np.zeros(entry.shape, types[entry.type]) for entry in inputs[5:]]

    def __call__(self, *given: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        feed = dict(zip(self.names, (*given, *self.state), strict=True))
        action, parameters, *self.state = self.session.run(None, feed)
        return action, parameters


def policy_of(system: Any, discrete: bool, **changes: Any) -> SequencePolicy:
    algorithm: SequenceAlgorithm = system(**{**SMALL, **changes})
    policy = algorithm.make_policy(*tiny_spaces(discrete), target_return=5.0)
    return policy.fork(inference="recurrent")


def parameters_of(policy: SequencePolicy, monkeypatch: pytest.MonkeyPatch) -> list[NDArray[Any]]:
    """What the policy's head is given from now on."""
    seen: list[NDArray[Any]] = []
    act = type(policy.model.head).act

    def spy(self: Any, parameters: NDArray[Any], *rest: Any) -> NDArray[Any]:
        seen.append(parameters)
        return act(self, parameters, *rest)

    monkeypatch.setattr(type(policy.model.head), "act", spy)
    return seen


@pytest.mark.parametrize("discrete", [False, True], ids=["box", "discrete"])
@pytest.mark.parametrize("system", [DeMa, DMM])
def test_twenty_steps_of_onnx_equal_the_policys(
    system: type[SequenceAlgorithm],
    discrete: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = policy_of(system, discrete)
    export_step(policy, tmp_path / "policy.onnx")
    exported = Onnx(tmp_path / "policy.onnx")
    seen = parameters_of(policy, monkeypatch)
    rng = np.random.default_rng(0)
    last, reward, asked = np.zeros_like(policy.action_space.sample())[None], 0.0, 5.0
    for t in (*range(12), *range(8)):  # two episodes
        given: Any = rng.integers(4) if discrete else rng.normal(size=3)
        if t == 0:
            asked = 5.0
        action, _ = policy.predict(given, episode_start=[t == 0], reward=reward)
        chosen, parameters = exported(
            np.array([given], np.int64 if discrete else np.float32),
            np.array([asked], np.float32),
            np.array([t]),
            last,
            np.array([reward], np.float32),
        )
        np.testing.assert_allclose(parameters, seen[-1], rtol=0, atol=1e-5)
        np.testing.assert_allclose(chosen[0], action, rtol=0, atol=1e-5)
        assert chosen.dtype == policy.action_space.dtype
        last, reward = chosen, rng.normal()
        asked -= reward
    assert str(ROOT).encode() not in (tmp_path / "policy.onnx").read_bytes()
    about = exported.session.get_modelmeta().custom_metadata_map["decision_policies"]
    assert json.loads(about) == {
        "target_return": 5.0,
        "counts_down": True,
        "clip_rewards": False,
        "inference": "recurrent",
        "version": decision_policies.__version__,
    }


@pytest.mark.parametrize(("system", "changes"), [(DeMa, {"layout": "BL3D"}), (DT, {})])
def test_two_rows_with_episodes_of_their_own_are_exported_for_torch(
    system: type[SequenceAlgorithm], changes: dict[str, Any], tmp_path: Path
) -> None:
    policy = policy_of(system, True, **changes).fork(inference="staggered")
    export_step(policy, tmp_path / "policy.pt2", format="torch", rows=2)
    extra = {"decision_policies.json": ""}
    program = torch.export.load(tmp_path / "policy.pt2", extra_files=extra)
    assert json.loads(extra["decision_policies.json"])["inference"] == "staggered"
    step, (example, _) = program.module(), program.example_inputs
    rng, state = np.random.default_rng(0), list(example[5:])
    last, reward, asked = example[3], torch.zeros(2), np.full(2, 5.0)
    timestep = torch.tensor([-1, -1])
    for t in range(20):
        starts = np.array([t % 9 == 0, t in (0, 4)])
        timestep = (timestep + 1).masked_fill(torch.from_numpy(starts), 0)
        asked = np.where(starts, 5.0, asked - reward.numpy())
        given = rng.integers(4, size=2)
        expected, _ = policy.predict(given, episode_start=starts, reward=reward)
        asked_for = torch.from_numpy(asked.astype(np.float32))
        action, _, *state = step(torch.from_numpy(given), asked_for, timestep, last, reward, *state)
        np.testing.assert_array_equal(action, expected)
        last, reward = action, torch.from_numpy(rng.normal(size=2).astype(np.float32))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4, start=-2),
        spaces.Box(-2.0, 3.0, (2, 2), np.float64),
        spaces.Box(0, 9, (4,), np.uint8),
        spaces.Box(-np.inf, np.inf, (4,)),
        spaces.MultiDiscrete(np.array([[2], [3]]), start=np.array([[0], [-1]])),
        spaces.MultiBinary((2, 2)),
    ],
    ids=str,
)
def test_the_action_is_the_heads_own(space: spaces.Space[Any]) -> None:
    head: Any = make_head(8, space)
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(50, head.linear.out_features, generator=generator)
    expected = head.act(parameters.numpy(), True, np.random.default_rng())
    chosen = Likeliest(head)(parameters).numpy()
    assert chosen.dtype == expected.dtype
    np.testing.assert_allclose(chosen, expected, rtol=1e-6)


@pytest.mark.parametrize("system", [AD, DMHybrid])
def test_a_memory_over_episodes_is_refused(system: type[SequenceAlgorithm], tmp_path: Path) -> None:
    policy = policy_of(system, True)
    with pytest.raises(ExportError, match="memory='lifetime'"):
        export_step(policy, tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


def test_a_policy_without_a_state_is_told_how_to_have_one(tmp_path: Path) -> None:
    policy = tiny_policy().fork(inference="window")
    with pytest.raises(ExportError, match=r"policy\.fork\(inference='recurrent'\)"):
        export_step(policy, tmp_path / "policy.onnx")


def test_a_model_of_another_class_is_refused(tmp_path: Path) -> None:
    policy = tiny_policy().fork(inference="recurrent")
    policy.model = type("Mine", (type(policy.model),), {"__init__": lambda self: None})()
    with pytest.raises(ExportError, match="a Mine cannot be exported"):
        export_step(policy, tmp_path / "policy.onnx")


def test_a_state_that_grows_without_end_is_refused(tmp_path: Path) -> None:
    policy = policy_of(DT, False)
    for part in policy.model.modules():
        if isinstance(part, Attention):
            part.window = 1000
    with pytest.raises(ExportError, match="still grows"):
        export_step(policy, tmp_path / "policy.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"format": "tflite"}, "onnx, torch; got 'tflite'"), ({"rows": 0}, "at least 1, got 0")],
)
def test_bad_options_are_named(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export_step(tiny_policy(), tmp_path / "policy.onnx", **options)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'decision-policies\[export\]'"):
        export_step(tiny_policy(inference="recurrent"), tmp_path / "policy.onnx")


def test_what_torch_cannot_export_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Failed to export\nlong story") from ValueError("no such\noperator")

    monkeypatch.setattr(torch.export, "export", fail)
    with pytest.raises(ExportError, match=r"as format='torch': ValueError: no such$"):
        export_step(tiny_policy(inference="recurrent"), tmp_path / "policy.pt2", format="torch")
    assert not list(tmp_path.iterdir())


def test_a_function_that_differs_from_the_policy_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tiny_policy(inference="recurrent")

    def write(step: Any, example: Any, about: str) -> tuple[bytes, Any]:
        for parameter in step.model.head.parameters():
            parameter += 0.01
        other = ActingStep(policy, 1)
        return b"", lambda given: other(*given)

    monkeypatch.setattr(exporting, "to_torch", write)
    with pytest.raises(ExportError, match=r"differs from the policy by \d.* in step 0"):
        export_step(policy, tmp_path / "policy.pt2", format="torch")
    assert not list(tmp_path.iterdir())
