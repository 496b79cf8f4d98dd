"""Decision Transformers of the transformers library: a live model, a folder, or its weights."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from decision_policies.algorithms import DT
from decision_policies.convert.layout import Layout
from decision_policies.convert.task import Task, declare_ends, declare_timesteps, fill, read_sizes
from decision_policies.convert.transformer import UNUSED_HEADS, declare_block
from decision_policies.errors import CheckpointError, ConversionError
from decision_policies.nets.compose import Activation
from decision_policies.strict_json import parse_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"

ONLY = {
    "model_type": "decision_transformer",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "layer_norm_epsilon": 1e-5,
}
"""Options whose other values make another function of the same weights."""

ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def dt_from_transformers(
    source: nn.Module | Mapping[str, Tensor] | str | PathLike[str],
    task: Task,
    *,
    config: Mapping[str, Any] | None = None,
) -> DT:
    """Make a Decision Transformer of transformers' `DecisionTransformerModel`.

    transformers itself is not needed. The vector that the library adds to every token (row 0 of
    `wpe`) becomes part of the embedding norm's bias; the heads for observations and returns, which
    no action depends on, are left aside.

    Args:
        source: A live model; the folder that its `save_pretrained` wrote, with config.json and
            model.safetensors; or its state dict, together with `config`.
        task: What it was trained for.
        config: The model's configuration as a mapping (`model.config.to_dict()`), with a state
            dict only.

    Returns:
        A DT whose policy predicts what the model predicts for windows without padding.

    Raises:
        ConversionError: The folder holds no such model, or only a pickle; the configuration has a
            value that this package's DT cannot express; or the weights do not fit.
    """
    if isinstance(source, Mapping) != (config is not None):
        raise ConversionError(
            "a configuration belongs to a state dict, and to nothing else: pass a model, a folder, "
            "or dt_from_transformers(state_dict, task, config=model.config.to_dict())"
        )
    if isinstance(source, nn.Module):
        weights, options = source.state_dict(), _config_of(source)
    elif isinstance(source, Mapping):
        weights, options = dict(source), dict(config or {})
    else:
        weights, options = _read(Path(source))
    return _convert(weights, options, task)


def _convert(weights: Mapping[str, Tensor], config: Mapping[str, Any], task: Task) -> DT:
    activation = _check_config(config)
    layout = Layout("transformers' DecisionTransformerModel", weights)
    sizes = read_sizes(layout, task, tanh=config.get("action_tanh", True))
    blocks = layout.count("encoder.h")
    declare_ends(layout, sizes, "encoder.ln_f")
    positions = layout.axis("encoder.wpe.weight", 0) or 1
    layout.make(  # each token is given position 0
        "embedding.norm.bias",
        lambda bias, table: bias + table[0],
        ("embed_ln.bias", (sizes.width,)),
        ("encoder.wpe.weight", (positions, sizes.width)),
    )
    max_ep_len = declare_timesteps(layout, sizes)
    for index in range(blocks):
        declare_block(layout, index, f"encoder.h.{index}", sizes.width)
    heads = [f"{head}.{part}" for head in UNUSED_HEADS for part in ("weight", "bias")]
    layout.ignore("encoder.wte.weight", *heads)
    found = {
        "hidden_size": sizes.width,
        "n_layer": blocks,
        "state_dim": sizes.observation,
        "act_dim": sizes.action,
        "max_ep_len": max_ep_len,
    }
    for name, size in found.items():
        if config.get(name, size) != size:
            layout.complain(f"{name} is {config[name]!r} in the configuration, {size} by weights")
    algorithm = DT(
        context_length=task.context_length,
        d_model=sizes.width,
        n_layers=blocks,
        n_heads=config.get("n_head", 1),
        activation=activation,
        max_ep_len=max_ep_len,
        inference="window",
        device=task.device,
    )
    return fill(algorithm, layout, task)


def _check_config(config: Mapping[str, Any]) -> Activation:
    """Refuse what cannot be expressed, and return the activation.

    Raises:
        ConversionError: Names the first such option.
    """
    for name, value in ONLY.items():
        if config.get(name, value) != value:
            raise ConversionError(
                f"the configuration has {name}={config[name]!r}; only {value!r} can be converted"
            )
    hidden, inner = config.get("hidden_size"), config.get("n_inner")
    if inner is not None and (hidden is None or inner != 4 * hidden):
        raise ConversionError(
            f"the configuration has n_inner={inner!r}; only four times hidden_size={hidden!r} can "
            "be converted"
        )
    name = config.get("activation_function", "relu")
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ConversionError(f"the configuration has activation_function={name!r}, not {known}")
    return ACTIVATIONS[name]


def _config_of(model: nn.Module) -> dict[str, Any]:
    to_dict = getattr(getattr(model, "config", None), "to_dict", None)
    if not callable(to_dict):
        raise ConversionError(
            f"a {type(model).__name__} is no model of transformers: it has no config; for one in "
            "its authors' layout there is dt_from_published"
        )
    return dict(to_dict())


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the two files that `save_pretrained` writes.

    Raises:
        ConversionError: They are not there, or damaged.
    """
    if not folder.is_dir():
        raise ConversionError(
            f"there is no folder {str(folder)!r}; of a model on the Hub, download the folder first "
            "(huggingface_hub.snapshot_download) and pass its path"
        )
    if not (folder / WEIGHTS).is_file():
        there = sorted(path.name for path in folder.iterdir())
        old = [name for name in there if name.endswith((".bin", ".pt", ".pth"))]
        if old:
            raise ConversionError(
                f"{folder / old[0]} is a pickle, which is never read, since it can run code: "
                "convert to safetensors, where you trust it, with transformers' "
                "DecisionTransformerModel.from_pretrained(folder).save_pretrained(new_folder)"
            )
        raise ConversionError(
            f"{folder} holds no {WEIGHTS}, only {', '.join(there) or 'nothing'}; expected the "
            "folder that save_pretrained wrote"
        )
    try:
        config = parse_json(folder / CONFIG, (folder / CONFIG).read_bytes())
        weights = safetensors.torch.load_file(folder / WEIGHTS)
    except OSError as error:
        raise ConversionError(f"{folder} cannot be read: {error}") from error
    except CheckpointError as error:
        raise ConversionError(str(error)) from error
    except Exception as error:  # SafetensorError derives from Exception only
        raise ConversionError(
            f"{folder / WEIGHTS} is no valid safetensors file: {error}"
        ) from error
    return weights, config
