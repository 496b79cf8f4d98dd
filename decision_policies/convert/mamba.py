"""Mamba blocks of mamba_ssm and of transformers, alone or inside a published policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from decision_policies.convert.layout import Layout
from decision_policies.nets import Mamba


class MambaSizes(NamedTuple):
    """Sizes of a Mamba block.

    Attributes:
        inner: Inner width E.
        state: State size N of each channel.
        conv: Width W of the convolution; None where there is none.
        rank: Rank R of the step-size projection.
    """

    inner: int
    state: int
    conv: int | None
    rank: int


def mamba_from_published(
    weights: Mapping[str, Tensor],
    *,
    prefix: str = "",
    convolution: bool = True,
    conv_bias: bool = True,
    bias: bool = False,
) -> Mamba:
    """Make a Mamba block of the weights of mamba_ssm's `Mamba` or transformers' `MambaMixer`.

    Both use the same names; the sizes are read from the shapes.

    Args:
        weights: Name and tensor of each weight.
        prefix: What the names of the block begin with, such as "backbone.layers.0.mixer.";
            others are left aside.
        convolution: Whether the block has its convolution; Decision MetaMamba's has not.
        conv_bias: Whether the convolution has a bias (transformers' `use_conv_bias`).
        bias: Whether the input and output projections have biases (transformers' `use_bias`).

    Returns:
        The block, in float32 on the CPU.

    Raises:
        ConversionError: The weights are not those of such a block; lists every difference.

    Example:
        >>> from decision_policies.nets import Mamba
        >>> block = mamba_from_published(Mamba(d_model=8, d_state=4).state_dict())
        >>> block.d_inner, block.d_state
        (16, 4)
    """
    chosen = weights
    if prefix and isinstance(weights, Mapping):
        named = [name for name in weights if str(name).startswith(prefix)]
        chosen = {name.removeprefix(prefix): weights[name] for name in named}
    layout = Layout("a Mamba block (mamba_ssm, transformers)", chosen)
    width = layout.size(("in_proj.weight", 1), ("out_proj.weight", 0))
    sizes = read_mamba(layout, [""], convolution=convolution)
    expand = read_expand(layout, sizes, width)
    declare_mamba(layout, "", "", sizes, width, conv_bias=conv_bias, bias=bias)
    layout.check()
    with torch.random.fork_rng([]):
        block = Mamba(
            width,
            sizes.state,
            sizes.conv,
            expand,
            dt_rank=sizes.rank,
            conv_bias=conv_bias,
            bias=bias,
        )
    layout.load_into(block)
    return block


def read_mamba(layout: Layout, blocks: list[str], *, convolution: bool = True) -> MambaSizes:
    """Read the sizes that several blocks have in common.

    Args:
        layout: The published weights.
        blocks: What the names of each block begin with.
        convolution: Whether the blocks have a convolution.

    Raises:
        ConversionError: There is nothing to read them from.
    """
    inner = layout.size(
        *((f"{block}{name}", 0) for block in blocks for name in ("A_log", "D", "dt_proj.bias")),
        *(
            (f"{block}{name}", 1)
            for block in blocks
            for name in ("x_proj.weight", "out_proj.weight")
        ),
    )
    states: dict[str, int | None] = {}
    ranks: dict[str, int | None] = {}
    for block in blocks:
        rows = layout.axis(f"{block}x_proj.weight", 0)
        state = states[f"{block}A_log"] = layout.axis(f"{block}A_log", 1)
        rank = ranks[f"{block}dt_proj.weight"] = layout.axis(f"{block}dt_proj.weight", 1)
        if rows is not None and rank is not None:
            states[f"{block}x_proj.weight less {block}dt_proj.weight"] = (rows - rank) // 2
        if rows is not None and state is not None:
            ranks[f"{block}x_proj.weight less {block}A_log"] = rows - 2 * state
    conv = layout.size(*((f"{block}conv1d.weight", 2) for block in blocks)) if convolution else None
    return MambaSizes(inner, layout.vote(states), conv, layout.vote(ranks))


def read_expand(layout: Layout, sizes: MambaSizes, width: int) -> int:
    """Say how many times as wide a block is inside; that must be a whole number."""
    if sizes.inner % max(width, 1) or not sizes.inner:
        layout.complain(f"the inner width {sizes.inner} is no multiple of the width {width}")
        return 1
    return sizes.inner // width


def declare_mamba(
    layout: Layout,
    ours: str,
    theirs: str,
    sizes: MambaSizes,
    width: int,
    *,
    conv_bias: bool = True,
    bias: bool = False,
) -> None:
    """Declare a block.

    Args:
        layout: The published weights.
        ours: What the names of our block begin with.
        theirs: What the names of the published block begin with.
        sizes: Its sizes.
        width: Token width D.
        conv_bias: Whether the convolution has a bias.
        bias: Whether the input and output projections have biases.
    """
    inner, state, conv, rank = sizes
    layout.linear(f"{ours}in_proj", f"{theirs}in_proj", width, 2 * inner, bias=bias)
    if conv is not None:
        layout.copy(f"{ours}conv1d.weight", f"{theirs}conv1d.weight", inner, 1, conv)
        if conv_bias:
            layout.copy(f"{ours}conv1d.bias", f"{theirs}conv1d.bias", inner)
    layout.linear(f"{ours}x_proj", f"{theirs}x_proj", inner, rank + 2 * state, bias=False)
    layout.linear(f"{ours}dt_proj", f"{theirs}dt_proj", rank, inner)
    layout.copy(f"{ours}A_log", f"{theirs}A_log", inner, state)
    layout.copy(f"{ours}D", f"{theirs}D", inner)
    layout.linear(f"{ours}out_proj", f"{theirs}out_proj", inner, width, bias=bias)
