"""Decision Transformers in the layout of their authors' code (continuous control)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from decision_policies.algorithms import DT
from decision_policies.convert.layout import Layout
from decision_policies.convert.task import Task, declare_ends, declare_timesteps, fill, read_sizes
from decision_policies.nets.compose import Activation


def dt_from_published(
    weights: Mapping[str, Tensor],
    task: Task,
    *,
    n_heads: int = 1,
    activation: Activation = "relu",
    action_tanh: bool = True,
    remove_act_embs: bool = False,
) -> DT:
    """Make a Decision Transformer of weights in the layout of its authors' code.

    The code that Decision ConvFormer and Decision Mamba compare themselves with has the same
    layout, without the heads for observations and returns, which nothing reads.

    A file that torch wrote is a pickle and is never read here. Load it yourself, with torch's own
    loader and its `weights_only=True`, which admits tensors and nothing that could run.

    Args:
        weights: Name and tensor of each weight: the trained module's `state_dict()`.
        task: What it was trained for.
        n_heads: Number of attention heads, which no weight tells.
        activation: Of the MLP; "gelu_tanh" is what transformers calls "gelu_new".
        action_tanh: Whether the head ends in a tanh.
        remove_act_embs: Whether the actions were left out of the tokens.

    Returns:
        A DT whose policy predicts what the published module predicts for windows without padding.

    Raises:
        ConversionError: The weights are in another layout, or do not fit the task.

    References:
        Chen et al., "Decision Transformer", arXiv 2106.01345; github.com/kzl/decision-transformer,
        gym/decision_transformer/models.
    """
    layout = Layout("the Decision Transformer (kzl/decision-transformer, gym)", weights)
    sizes = read_sizes(layout, task, tanh=action_tanh)
    blocks = layout.count("transformer.h")
    declare_ends(layout, sizes, "transformer.ln_f", with_actions=not remove_act_embs)
    max_ep_len = declare_timesteps(layout, sizes)
    for index in range(blocks):
        declare_block(layout, index, f"transformer.h.{index}", sizes.width)
    heads = [f"{head}.{part}" for head in UNUSED_HEADS for part in ("weight", "bias")]
    layout.ignore("transformer.wte.weight", *heads)
    algorithm = DT(
        context_length=task.context_length,
        d_model=sizes.width,
        n_layers=blocks,
        n_heads=n_heads,
        activation=activation,
        max_ep_len=max_ep_len,
        remove_act_embs=remove_act_embs,
        inference="window",
        device=task.device,
    )
    return fill(algorithm, layout, task)


UNUSED_HEADS = ("predict_state", "predict_return")
"""Heads of the published module that no action depends on."""


def declare_block(layout: Layout, index: int, theirs: str, width: int) -> None:
    """Declare a GPT-2 block, whose linear maps hold their weights transposed."""
    ours = f"backbone.layers.{index}.layers"
    attention = f"{ours}.0.inner"
    layout.norm(f"{ours}.0.norm", f"{theirs}.ln_1", width)
    layout.linear(f"{attention}.c_attn", f"{theirs}.attn.c_attn", width, 3 * width, transposed=True)
    layout.linear(f"{attention}.c_proj", f"{theirs}.attn.c_proj", width, width, transposed=True)
    layout.ignore(f"{theirs}.attn.bias", f"{theirs}.attn.masked_bias")  # the causal mask
    layout.norm(f"{ours}.1.norm", f"{theirs}.ln_2", width)
    layout.linear(f"{ours}.1.inner.up", f"{theirs}.mlp.c_fc", width, 4 * width, transposed=True)
    layout.linear(f"{ours}.1.inner.down", f"{theirs}.mlp.c_proj", 4 * width, width, transposed=True)


def declare_perceptron(layout: Layout, index: int, theirs: str, norm: str, width: int) -> None:
    """Declare a block's MLP with its norm, made of plain linear maps."""
    ours = f"backbone.layers.{index}.layers.1"
    layout.norm(f"{ours}.norm", norm, width)
    layout.linear(f"{ours}.inner.up", f"{theirs}.0", width, 4 * width)
    layout.linear(f"{ours}.inner.down", f"{theirs}.2", 4 * width, width)
