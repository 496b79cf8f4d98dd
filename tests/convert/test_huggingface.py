"""Decision Transformers of transformers predict here what they predict there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from gymnasium import spaces
from torch import Tensor

import decision_policies
from decision_policies.convert import dt_from_transformers
from decision_policies.errors import ConversionError
from tests.convert.cases import acting_error, damaged, task, window_error


def make(**changes: Any) -> Any:
    """Make a small random model whose every vector matters."""
    values = {"state_dim": 3, "act_dim": 2, "hidden_size": 16, "n_layer": 2, "max_ep_len": 40}
    ends = {"bos_token_id": None, "eos_token_id": None}
    config = transformers.DecisionTransformerConfig(**{**values, **ends, **changes})
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = transformers.DecisionTransformerModel(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, float(parameter.ndim == 1), 0.3)
    return model


def predict(model: Any) -> Any:
    def function(states: Tensor, actions: Tensor, returns: Tensor, steps: Tensor) -> Tensor:
        done: Tensor = model(
            states=states, actions=actions, returns_to_go=returns, timesteps=steps
        ).action_preds
        return done

    return function


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_new"])
def test_predicts_what_the_model_predicts(heads: int, activation: str) -> None:
    model = make(n_head=heads, activation_function=activation)
    algorithm = dt_from_transformers(model, task())
    assert window_error(algorithm, predict(model)) < 1e-5
    assert acting_error(algorithm, predict(model)) < 1e-5


def test_head_without_tanh() -> None:
    model = make(action_tanh=False)
    unbounded = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    algorithm = dt_from_transformers(model, task(action_space=unbounded))
    assert window_error(algorithm, predict(model)) < 1e-5
    with pytest.raises(ConversionError, match="unbounded"):
        dt_from_transformers(model, task())


@pytest.fixture
def folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """Save a model as transformers does, progress bar and all."""
    make(n_inner=64).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_folder_and_state_dict_and_model_are_the_same(folder: Path, tmp_path: Path) -> None:
    model = make(n_inner=64)
    ways = [
        dt_from_transformers(model, task()),
        dt_from_transformers(folder, task()),
        dt_from_transformers(str(folder), task()),
        dt_from_transformers(model.state_dict(), task(), config=model.config.to_dict()),
    ]
    ways[1].save(tmp_path / "policy")
    ways.append(decision_policies.DT.load(tmp_path / "policy", device="cpu"))
    assert len({window_error(way, predict(model)) for way in ways}) == 1
    assert acting_error(ways[-1], predict(model)) < 1e-5


def test_masks_of_older_versions_are_left_aside() -> None:
    model = make()
    old = dict(model.state_dict())
    for index in range(2):
        old[f"encoder.h.{index}.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
        old[f"encoder.h.{index}.attn.masked_bias"] = torch.tensor(-1e4)
    algorithm = dt_from_transformers(old, task(), config=model.config.to_dict())
    assert window_error(algorithm, predict(model)) < 1e-5


@pytest.mark.parametrize("how", ["missing", "renamed", "wider", "not finite"])
def test_every_damaged_tensor_is_named(how: str) -> None:
    model = make(n_layer=3)
    config, weights = model.config.to_dict(), model.state_dict()
    unused = ("wte", "predict_state", "predict_return")
    for name in (n for n in weights if not any(part in n for part in unused)):
        with pytest.raises(ConversionError) as caught:
            dt_from_transformers(damaged(weights, name, how), task(), config=config)
        assert name in str(caught.value), f"{name}: {caught.value}"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("layer_norm_epsilon", 1e-6),
        ("n_inner", 48),
        ("activation_function", "tanh"),
        ("model_type", "gpt2"),
        ("hidden_size", 32),
        ("n_layer", 4),
        ("max_ep_len", 100),
    ],
)
def test_option_that_cannot_be_converted_is_named(option: str, value: object) -> None:
    model = make()
    config = {**model.config.to_dict(), option: value}
    with pytest.raises(ConversionError, match=option):
        dt_from_transformers(model.state_dict(), task(), config=config)


def test_configuration_belongs_to_a_state_dict() -> None:
    model = make()
    with pytest.raises(ConversionError, match="a configuration belongs to a state dict"):
        dt_from_transformers(model.state_dict(), task())
    with pytest.raises(ConversionError, match="a configuration belongs to a state dict"):
        dt_from_transformers(model, task(), config=model.config.to_dict())
    with pytest.raises(ConversionError, match="a Linear is no model of transformers"):
        dt_from_transformers(torch.nn.Linear(2, 2), task())


def test_pickle_is_refused_with_the_cure(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConversionError, match=r"pytorch_model\.bin is a pickle.*to safetensors"):
        dt_from_transformers(folder, task())


def test_folder_that_is_not_there_or_not_whole_is_refused(folder: Path) -> None:
    with pytest.raises(ConversionError, match="download the folder first"):
        dt_from_transformers("someone/some-model", task())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text("{")
    with pytest.raises(ConversionError, match=r"config\.json: not valid JSON"):
        dt_from_transformers(folder, task())
    (folder / "config.json").unlink()
    with pytest.raises(ConversionError, match="cannot be read"):
        dt_from_transformers(folder, task())
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ConversionError, match="no valid safetensors file"):
        dt_from_transformers(folder, task())
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"holds no model\.safetensors, only config\.json"):
        dt_from_transformers(folder, task())
