"""Decision ConvFormers in the layout of their authors' code (continuous control)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from decision_policies.algorithms import DC
from decision_policies.convert.layout import Layout
from decision_policies.convert.task import Task, declare_ends, declare_timesteps, fill, read_sizes
from decision_policies.convert.transformer import declare_perceptron

KINDS = ("rtg", "obs", "act")
"""The published names of the modalities, in the order of the tokens."""


def dc_from_published(
    weights: Mapping[str, Tensor],
    task: Task,
    *,
    n_heads: int = 1,
    remove_act_embs: bool = False,
) -> DC:
    """Make a Decision ConvFormer of weights in the layout of its authors' code.

    A last block with attention ("conv-attn", the hybrid) and a linear map behind the convolutions
    (`conv_proj`) are known by their names. The authors have both in their Atari code only, whose
    embeddings (a timestep that all tokens of a window share) DC has not; blocks of that kind are
    read, its embeddings are not.

    The published policy pads a short context on the left with zeros, which it does not mask; this
    one does not pad, so the two differ in the first K - 1 steps of an episode, and agree from then
    on.

    A file that torch wrote is a pickle and is never read here. Load it yourself, with torch's own
    loader and its `weights_only=True`.

    Args:
        weights: Name and tensor of each weight: the trained module's `state_dict()`.
        task: What it was trained for.
        n_heads: Number of heads of the hybrid's attention, which no weight tells.
        remove_act_embs: Whether the actions were left out of the tokens.

    Returns:
        A DC whose policy predicts what the published module predicts for windows without padding.

    Raises:
        ConversionError: The weights are in another layout, or do not fit the task.

    References:
        Kim et al., "Decision ConvFormer", arXiv 2310.03022;
        github.com/beanie00/Decision-ConvFormer, gym.
    """
    layout = Layout("the Decision ConvFormer (beanie00/Decision-ConvFormer, gym)", weights)
    sizes = read_sizes(layout, task)
    count = layout.count("transformer.h")
    hybrid = layout.has(f"transformer.h.{count - 1}.attn.")
    convolutions = range(count - hybrid)
    kinds = KINDS[:2] if remove_act_embs else KINDS
    names = [f"transformer.h.{i}.conv.{k}_conv1d.weight" for i in convolutions for k in kinds]
    window = layout.size(*((name, 2) for name in names))
    project = any(layout.has(f"transformer.h.{i}.conv.fc.") for i in convolutions)
    declare_ends(layout, sizes, "transformer.ln_f", with_actions=not remove_act_embs)
    max_ep_len = declare_timesteps(layout, sizes)
    for index in range(count):
        ours, theirs = f"backbone.layers.{index}.layers.0", f"transformer.h.{index}"
        layout.norm(f"{ours}.norm", f"{theirs}.ln_1", sizes.width)
        if index in convolutions:
            _declare_convolution(layout, ours, theirs, kinds, (sizes.width, 1, window))
            if project:
                layout.linear(
                    f"{ours}.inner.project", f"{theirs}.conv.fc", sizes.width, sizes.width
                )
        else:
            _declare_attention(layout, ours, theirs, sizes.width)
        declare_perceptron(layout, index, f"{theirs}.mlp", f"{theirs}.ln_2", sizes.width)
    algorithm = DC(
        context_length=task.context_length,
        d_model=sizes.width,
        n_layers=count,
        window=window,
        conv_proj=project,
        hybrid=hybrid,
        n_heads=n_heads,
        activation="gelu",
        max_ep_len=max_ep_len,
        remove_act_embs=remove_act_embs,
        inference="window",
        device=task.device,
    )
    return fill(algorithm, layout, task)


def _declare_convolution(
    layout: Layout, ours: str, theirs: str, kinds: tuple[str, ...], shape: tuple[int, int, int]
) -> None:
    """Declare the modalities' convolutions, which are one module of ours."""
    names = [f"{theirs}.conv.{kind}_conv1d" for kind in kinds]
    layout.make(
        f"{ours}.inner.weight",
        lambda *filters: torch.stack([f.squeeze(1).t() for f in filters]),
        *((f"{name}.weight", shape) for name in names),
    )
    layout.make(
        f"{ours}.inner.bias",
        lambda *biases: torch.stack(biases),
        *((f"{name}.bias", shape[:1]) for name in names),
    )


def _declare_attention(layout: Layout, ours: str, theirs: str, width: int) -> None:
    """Declare the hybrid's attention, whose queries, keys and values are one map of ours."""
    names = [f"{theirs}.attn.{name}" for name in ("query", "key", "value")]
    for part, shape in (("weight", (width, width)), ("bias", (width,))):
        layout.make(
            f"{ours}.inner.c_attn.{part}",
            lambda *parts: torch.cat(parts),
            *((f"{name}.{part}", shape) for name in names),
        )
    layout.linear(f"{ours}.inner.c_proj", f"{theirs}.attn.proj", width, width)
    layout.ignore(f"{theirs}.attn.mask")
