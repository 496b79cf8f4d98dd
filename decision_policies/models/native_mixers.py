"""Write mixers as lists of operations; those that this file does not know act by torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
from torch import nn

from decision_policies.models.native_step import (
    ACTIVATIONS,
    ATTEND,
    BAND,
    CONVOLVE,
    HEADER,
    MODAL,
    PANEL,
    SCAN,
    SILU,
    TILE,
    VECTOR,
    WINDOW,
    Buffer,
    Floats,
    NativeStep,
    NotNativeError,
    array,
    padded,
    whole,
)
from decision_policies.nets import (
    Attention,
    Chain,
    ChunkAttention,
    DenseWindow,
    Fuse,
    LocalMamba,
    Mamba,
    Mixer,
    ModalConv,
    Pointwise,
    Residual,
)


def write_mixer(step: NativeStep, mixer: Mixer, x: Buffer, width: int) -> Buffer:
    """Write a chain of mixers and residual branches from the tokens x on, and say where they end.

    Only the last token is read in the end, so from the last layer that mixes tokens on only its
    outputs are computed.
    """
    return write_layers(step, list(layers_of(mixer)), x, width)


def write_layers(step: NativeStep, layers: list[Mixer], x: Buffer, width: int) -> Buffer:
    """Write layers that follow one another; see `write_mixer`."""
    narrow = max((i for i, layer in enumerate(layers) if not layer.tokenwise), default=0)
    for index, layer in enumerate(layers):
        last = int(index >= narrow)
        if type(layer) is not Residual:
            before, x = x, step.buffer(width)
            _write_inner(step, layer, before, x, last=last, add=0)
            continue
        with step.branch():
            y = step.buffer(width)
            step.norm(layer.norm, x, y, last=int(last and layer.tokenwise))
            _write_inner(step, layer.inner, y, x, last=last, add=1)
    return x


def _write_inner(step: NativeStep, mixer: Mixer, y: Buffer, x: Buffer, **slots: int) -> None:
    """Write a mixer from y to x.

    Args:
        step: The list.
        mixer: The mixer.
        y: Its input.
        x: Its output.
        slots: `last`, whether only the last token's output is wanted, and `add`, whether to add to
            what x holds.
    """
    write = _WRITERS.get(type(mixer))
    if write is None:
        raise NotNativeError(f"it has a {type(mixer).__name__}")
    write(step, mixer, y, x, **slots)


def layers_of(mixer: Mixer) -> Iterator[Mixer]:
    """Go through the layers of nested chains."""
    if type(mixer) is Chain:
        for layer in mixer.layers:
            yield from layers_of(cast(Mixer, layer))
    else:
        yield mixer


def _write_mamba(step: NativeStep, block: Mamba, y: Buffer, x: Buffer, last: int, add: int) -> None:
    """Write a Mamba block from y to x; channels are padded to whole vectors."""
    channels, states, rank = block.d_inner, block.d_state, block.dt_rank
    width = whole(channels, VECTOR)
    half = whole(width, PANEL)
    # u, z and the step sizes have strides of their own in common, so that one pair serves them.
    uz, u, delta = (step.buffer(2 * half) for _ in range(3))
    _write_halves(step, block.in_proj, y, uz, half, last)
    if block.d_conv is None:
        step.add(SILU, uz, u, out=width)
    else:
        taps = padded(array(block.conv1d.weight)[:, 0].T, VECTOR)
        zeros = np.zeros(channels, np.float32)
        bias = zeros if block.conv1d.bias is None else array(block.conv1d.bias)
        step.add(
            CONVOLVE, uz, u, in_=block.d_conv, out=width, weight=step.keep(taps),
            bias=step.keep(padded(bias, VECTOR)),
            state=step.remembered((block.d_conv - 1) * width),
        )  # fmt: skip
    selection = step.buffer(rank + 2 * states)
    step.linear(block.x_proj, u, selection)
    step.linear(block.dt_proj, selection, delta, activation=ACTIVATIONS.index("softplus"))
    rates, skip = _rates(block)
    step.add(
        SCAN, selection.shifted(rank), delta, in_=states, out=width,
        weight=step.keep(rates), bias=step.keep(skip),
        state=step.remembered(states * width), extra=u.offset, token=uz.offset + half, last=last,
    )  # fmt: skip
    step.linear(block.out_proj, delta, x, add=add, last=last)


def _write_halves(
    step: NativeStep, layer: nn.Linear, y: Buffer, uz: Buffer, half: int, last: int
) -> None:
    """Write the map to u and z, the second of which only the wanted tokens need."""
    channels = layer.out_features // 2
    weight, bias = array(layer.weight), layer.bias
    for part in range(2):
        rows = slice(part * channels, (part + 1) * channels)
        mine = None if bias is None else bias[rows]
        target = uz.shifted(part * half)
        step.product(weight[rows], mine, y, target, last=last * part)


def _write_attention(
    step: NativeStep, block: Attention, y: Buffer, x: Buffer, last: int, add: int
) -> None:
    """Write attention from y to x; queries are needed of the wanted tokens only."""
    width = block.c_proj.in_features
    behind = whole(width, PANEL)
    looking, looked = step.buffer(behind + 2 * width), step.buffer(width)
    weight, bias = array(block.c_attn.weight), block.c_attn.bias
    step.product(weight[:width], bias[:width], y, looking, last=last)
    step.product(weight[width:], bias[width:], y, looking.shifted(behind))
    places = whole(block.window - 1 + TILE, PANEL)
    step.add(
        ATTEND, looking, looked, in_=block.n_heads, out=width, places=places, token=block.window,
        state=step.remembered(HEADER + 2 * places * width + VECTOR),
        extra=step.floats(TILE * places), last=last,
    )  # fmt: skip
    step.linear(block.c_proj, looked, x, add=add, last=last)


def _write_pointwise(
    step: NativeStep, block: Pointwise, y: Buffer, x: Buffer, last: int, add: int
) -> None:
    """Write a perceptron from y to x."""
    hidden = step.buffer(block.up.out_features)
    step.linear(block.up, y, hidden, activation=ACTIVATIONS.index(block.activation), last=last)
    step.linear(block.down, hidden, x, add=add, last=last)


def _write_dense_window(
    step: NativeStep, block: DenseWindow, y: Buffer, x: Buffer, last: int, add: int
) -> None:
    """Write a dense window from y to x: a token's is a run of the tokens that lie together."""
    dense = _write_run(step, y, len(block.weight), block.window)
    step.product(array(block.weight), block.bias, dense, x, add=add, last=last)


def _write_run(step: NativeStep, y: Buffer, width: int, window: int) -> Buffer:
    """Put the last w - 1 tokens before the new ones without gaps: runs of w begin at each."""
    full = step.buffer(width, before=window - 1)
    run = Buffer(full.offset, full.row, width)
    state = step.remembered((window - 1) * width)
    step.add(WINDOW, y, run, in_=window, out=width, state=state)
    return run


def _write_convolution(
    step: NativeStep, block: ModalConv, y: Buffer, x: Buffer, last: int, add: int
) -> None:
    """Write a convolution by modality from y to x; filters in the order of a step's tokens."""
    kinds, window, width = block.weight.shape
    if kinds not in (1, step.done + step.given):
        raise NotNativeError(
            f"it has {kinds} modalities in steps of {step.done + step.given} tokens"
        )
    order = (np.arange(step.done + step.given) + step.given) % kinds
    filters = step.keep(array(block.weight)[order])
    bias = step.keep(array(block.bias)[order])
    run = _write_run(step, y, width, window)
    mixed = x if block.project is None else step.buffer(width)
    own = add if block.project is None else 0
    widths = {"in_": window, "out": width}
    step.add(MODAL, run, mixed, weight=filters, bias=bias, add=own, last=last, **widths)
    if block.project is not None:
        step.linear(block.project, mixed, x, add=add, last=last)


def _write_local(
    step: NativeStep, block: LocalMamba, y: Buffer, x: Buffer, last: int, add: int
) -> None:
    """Write a Mamba block that sees the last w tokens from y to x."""
    channels, states, rank = block.d_inner, block.d_state, block.dt_rank
    width = whole(channels, VECTOR)
    half = whole(width, PANEL)
    selected = rank + 2 * states
    uz, token = step.buffer(2 * half), step.buffer(2 * half + whole(selected, PANEL))
    u, selection = token.shifted(half), token.shifted(2 * half)
    _write_halves(step, block.in_proj, y, uz, half, last)
    step.add(SILU, uz, u, out=width)
    step.linear(block.x_proj, u, selection)
    step.linear(block.dt_proj, selection, token, activation=ACTIVATIONS.index("softplus"))
    run = _write_run(step, token, 2 * half + selected, block.window)
    rates, skip = _rates(block)
    step.add(
        BAND, run, uz.shifted(half), in_=states, out=width, weight=step.keep(rates),
        bias=step.keep(skip), token=half, extra=2 * half + rank, places=block.window, last=last,
    )  # fmt: skip
    step.linear(block.out_proj, uz.shifted(half), x, add=add, last=last)


def _rates(block: Mamba) -> tuple[Floats, Floats]:
    """Give the decay rates (N, E) times log2(e), and D, filled up to whole vectors."""
    rates = -np.exp(array(block.A_log).T) * np.float32(math.log2(math.e))
    return padded(rates, VECTOR), padded(array(block.D), VECTOR)


def _write_fuse(step: NativeStep, block: Fuse, y: Buffer, x: Buffer, last: int, add: int) -> None:
    """Write two mixers side by side from y to x."""
    if block.how == "gated":
        raise NotNativeError("it fuses mixers by a gate")
    if block.linear is None:
        _write_inner(step, block.first, y, x, last=last, add=add)
        _write_inner(step, block.second, y, x, last=last, add=1)
        return
    width = block.linear.out_features
    both = step.buffer(width + whole(width, PANEL))
    _write_inner(step, block.first, y, both, last=last, add=0)
    _write_inner(step, block.second, y, both.shifted(width), last=last, add=0)
    step.linear(block.linear, both, x, add=add, last=last)


_WRITERS: dict[type[Mixer], Callable[..., None]] = {
    Attention: _write_attention,
    ChunkAttention: _write_attention,
    DenseWindow: _write_dense_window,
    Fuse: _write_fuse,
    LocalMamba: _write_local,
    Mamba: _write_mamba,
    ModalConv: _write_convolution,
    Pointwise: _write_pointwise,
}
