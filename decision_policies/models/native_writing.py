"""Write a model as the list of operations that the native library or NumPy runs.

Models that this file does not know act by torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from decision_policies.models.embedding import StepEmbedding
from decision_policies.models.encoders import FlatEncoder, IndexEncoder, VectorEncoder
from decision_policies.models.heads import ContinuousHead, DiscreteHead
from decision_policies.models.model import SequenceModel, TokenModel
from decision_policies.models.native_step import (
    ACTIVATIONS,
    ATTEND,
    BEFORE,
    CONVOLVE,
    EMBED,
    HEADER,
    LOOKUP,
    NOW,
    PANEL,
    SCAN,
    SILU,
    TILE,
    TOKENS,
    VECTOR,
    WINDOW,
    Buffer,
    Floats,
    NativeStep,
    NotNativeError,
    array,
    packed,
    padded,
    tensors_of,
    whole,
)
from decision_policies.nets import Attention, Chain, DenseWindow, Mamba, Mixer, Pointwise, Residual


def written(model: SequenceModel, steps: int = 1) -> NativeStep:
    """Write down a model's step, or its pass over a window.

    Args:
        model: The model.
        steps: Steps of a window at most; 1 writes a single step.

    Raises:
        NotNativeError: The model has a part that is unknown here.
    """
    if type(model) is not TokenModel or not model.embedding.interleaved:
        raise NotNativeError(f"{type(model).__name__} is not a TokenModel of the layout B3LD")
    tensors = tensors_of(model)
    floats = [x for x in tensors if x.is_floating_point()]
    if any(x.dtype != torch.float32 or x.device.type != "cpu" or x.is_inference() for x in floats):
        raise NotNativeError("its weights are not float32 on the CPU")
    embedding = model.embedding
    given = embedding.acting_token + 1
    if embedding.tokens_per_step > TILE:
        raise NotNativeError(f"a step has {embedding.tokens_per_step} tokens")
    chunk = min(steps, TOKENS // embedding.tokens_per_step)
    step = NativeStep(embedding.tokens_per_step - given, given, chunk, tensors=tensors)
    step.version = sum([x._version for x in tensors])
    x = step.buffer(embedding.d_model)
    _write_embedding(step, model, embedding, x)
    _write_mixer(step, model.backbone, x)
    y = step.buffer(embedding.d_model)
    step.norm(model.norm, x, y, last=1)
    head = model.head
    if type(head) not in (ContinuousHead, DiscreteHead):
        raise NotNativeError(f"it has a {type(head).__name__}")
    assert isinstance(head, ContinuousHead | DiscreteHead)
    squash = "tanh" if isinstance(head, ContinuousHead) and head.bounded else "none"
    step.parameters = head.n_features
    out = step.buffer(head.n_features)
    step.linear(head.linear, y, out, last=1, activation=ACTIVATIONS.index(squash))
    step.copies = [x.detach().clone() for x in tensors]
    return step


def _write_embedding(
    step: NativeStep, model: TokenModel, embedding: StepEmbedding, x: Buffer
) -> None:
    """Write how the tokens of a step's end and of the next step come about, in this order."""
    names = embedding.modalities[step.given :] + embedding.modalities[: step.given]
    for token, name in enumerate(names):
        table: Floats | None = None
        weight: Floats = np.empty(0, np.float32)
        bias: Tensor | None = None
        if name == "action" and isinstance(model.head, DiscreteHead):
            table = array(embedding.action.weight).T
            if embedding.action.bias is not None:
                table = table + array(embedding.action.bias)
        elif name == "observation":
            encoder = embedding.observation
            if type(encoder) is IndexEncoder:
                table = array(encoder.table.weight)
            elif type(encoder) in (VectorEncoder, FlatEncoder):
                assert isinstance(encoder, VectorEncoder)
                weight, bias = array(encoder.linear.weight), encoder.linear.bias
            else:
                raise NotNativeError(f"it has a {type(encoder).__name__}")
        else:
            layer = {"action": "action", "return": "returns", "reward": "reward"}[name]
            linear = getattr(embedding, layer)
            weight, bias = array(linear.weight), linear.bias
        into = 1 if table is not None else weight.shape[1]
        columns = slice(step.width, step.width + into)
        step.width = columns.stop
        step.parts[name] = columns
        squash = "none" if embedding.norm is not None else "tanh"
        slots = {"token": token}
        if embedding.timestep is not None:
            slots["extra"] = BEFORE if token < step.done else NOW
            slots["table"] = step.keep(array(embedding.timestep.weight))
            slots["places"] = embedding.timestep.num_embeddings
        source = Buffer(columns.start, 0, 0)
        if table is not None:
            rows = step.keep(np.tanh(table) if squash == "tanh" else table)
            step.add(LOOKUP, source, x, out=embedding.d_model, weight=rows, **slots)
        else:
            address = 0 if bias is None else step.keep(padded(array(bias), PANEL))
            step.add(
                EMBED, source, x, in_=into, out=embedding.d_model, bias=address,
                weight=step.keep(packed(weight)), activation=ACTIVATIONS.index(squash), **slots,
            )  # fmt: skip
    if embedding.norm is not None:
        step.norm(embedding.norm, x, x)


def _write_mixer(step: NativeStep, mixer: Mixer, x: Buffer) -> None:
    """Write a chain of residual branches upon the tokens x.

    Only the last token is read in the end, so from the last branch that mixes tokens on only its
    outputs are computed.
    """
    branches = list(_branches(mixer))
    narrow = max((i for i, branch in enumerate(branches) if not branch.tokenwise), default=0)
    for index, branch in enumerate(branches):
        write = _WRITERS.get(type(branch.inner))
        if write is None:
            raise NotNativeError(f"it has a {type(branch.inner).__name__}")
        with step.branch():
            y = step.buffer(branch.norm.normalized_shape[0])
            step.norm(branch.norm, x, y, last=int(branch.tokenwise and index >= narrow))
            write(step, branch.inner, y, x, int(index >= narrow))


def _branches(mixer: Mixer) -> Iterator[Residual]:
    """Go through the residual branches of nested chains."""
    if type(mixer) is Residual:
        yield mixer
    elif type(mixer) is Chain:
        for layer in mixer.layers:
            yield from _branches(cast(Mixer, layer))
    else:
        raise NotNativeError(f"it has a {type(mixer).__name__}")


def _write_mamba(step: NativeStep, block: Mamba, y: Buffer, x: Buffer, last: int) -> None:
    """Write a Mamba block from y, added to x; channels are padded to whole vectors."""
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
    rates = -np.exp(array(block.A_log).T) * np.float32(math.log2(math.e))
    step.add(
        SCAN, selection.shifted(rank), delta, in_=states, out=width,
        weight=step.keep(padded(rates, VECTOR)), bias=step.keep(padded(array(block.D), VECTOR)),
        state=step.remembered(states * width), extra=u.offset, token=uz.offset + half, last=last,
    )  # fmt: skip
    step.linear(block.out_proj, delta, x, add=1, last=last)


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


def _write_attention(step: NativeStep, block: Attention, y: Buffer, x: Buffer, last: int) -> None:
    """Write attention from y, added to x; queries are needed of the wanted tokens only."""
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
    step.linear(block.c_proj, looked, x, add=1, last=last)


def _write_pointwise(step: NativeStep, block: Pointwise, y: Buffer, x: Buffer, last: int) -> None:
    """Write a perceptron from y, added to x."""
    hidden = step.buffer(block.up.out_features)
    step.linear(block.up, y, hidden, activation=ACTIVATIONS.index(block.activation), last=last)
    step.linear(block.down, hidden, x, add=1, last=last)


def _write_window(step: NativeStep, block: DenseWindow, y: Buffer, x: Buffer, last: int) -> None:
    """Write a dense window from y, added to x: a token's is a run of the tokens kept together."""
    width, window = len(block.weight), block.window
    full = step.buffer(width, before=window - 1)
    dense = Buffer(full.offset, full.row, width)
    state = step.remembered((window - 1) * width)
    step.add(WINDOW, y, dense, in_=window, out=width, state=state)
    step.product(array(block.weight), block.bias, dense, x, add=1, last=last)


_WRITERS: dict[type[Mixer], Callable[[NativeStep, Any, Buffer, Buffer, int], None]] = {
    Attention: _write_attention,
    Mamba: _write_mamba,
    Pointwise: _write_pointwise,
    DenseWindow: _write_window,
}
