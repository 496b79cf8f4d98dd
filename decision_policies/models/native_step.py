"""Write a model as the list of operations that `ops/native/step.c` runs: a whole step in one call.

Where there is no native library, `numpy_step.py` runs the same list.

A step of a small network is a hundred torch operators of a few microseconds each, most of which
is the cost of calling them. Models that this file does not know act by torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decision_policies.models.embedding import StepEmbedding
from decision_policies.models.encoders import FlatEncoder, IndexEncoder, VectorEncoder
from decision_policies.models.heads import ContinuousHead, DiscreteHead
from decision_policies.models.model import SequenceModel, TokenModel
from decision_policies.nets import Chain, DenseWindow, Mamba, Mixer, Pointwise, Residual

PANEL, TILE, VECTOR = 64, 6, 16
"""Columns of a packed matrix that lie together, and tokens that go through the network together,
as in `native/step.h`; floats in the widest vector."""

EMBED, LOOKUP, LINEAR, NORM, CONVOLVE, SILU, SCAN, WINDOW = range(8)
ACTIVATIONS = ("none", "tanh", "softplus", "relu", "gelu", "gelu_tanh")
BEFORE, NOW = 1, 2
SLOTS = (
    "code", "from_", "from_row", "from_token", "to", "to_row", "to_token", "in_", "out", "weight",
    "bias", "activation", "add", "state", "token", "extra", "table", "places",
)  # fmt: skip
"""Fields of `struct op`, in order."""

Floats = NDArray[np.float32]


class NotNativeError(Exception):
    """The model has a part that cannot be written down."""


class Buffer(NamedTuple):
    """Room for a vector of each token in scratch memory, in floats."""

    offset: int
    row: int
    token: int

    def shifted(self, floats: int) -> Buffer:
        """Give what begins that many floats into each vector."""
        return self._replace(offset=self.offset + floats)


@dataclass
class NativeStep:
    """A model's step, written down.

    Attributes:
        ops: The operations, (count, slots).
        arrays: What their addresses point to.
        rooms: The buffers, in the order of their offsets.
        done: Tokens of a step's end.
        given: Tokens of what is known of the next step.
        width: Floats of a row's input.
        size: Floats of a row's state.
        scratch: Floats of scratch memory.
        parameters: Width of the prediction.
        parts: Where each modality stands in the input.
        tensors: Weights and statistics that were written down.
        copies: Their values then.
        version: How often they had been changed then, by torch's count.
    """

    done: int
    given: int
    ops: list[list[int]] = field(default_factory=list)
    arrays: list[NDArray[np.generic]] = field(default_factory=list)
    rooms: list[Buffer] = field(default_factory=list)
    width: int = 0
    size: int = 0
    scratch: int = 0
    parameters: int = 0
    parts: dict[str, slice] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    copies: list[Tensor] = field(default_factory=list)
    version: int = 0

    def current(self) -> bool:
        """Whether no change of the weights has been counted since they were written down."""
        return sum([x._version for x in self.tensors]) == self.version

    def describes(self, model: SequenceModel) -> bool:
        """Whether a model's weights are what was written down, where not all changes count.

        Some go past torch's count, and `model.to` and new parameters change what is to be counted.
        """
        tensors = _tensors(model)
        return (
            len(tensors) == len(self.tensors)
            and all(x is y for x, y in zip(tensors, self.tensors, strict=True))
            and all(
                x.dtype == y.dtype and x.device == y.device and torch.equal(x, y)
                for x, y in zip(tensors, self.copies, strict=True)
            )
            and self.current()
        )

    def keep(self, array: NDArray[np.generic]) -> int:
        """Keep an array, and give its address."""
        array = np.ascontiguousarray(array)
        self.arrays.append(array)
        return array.ctypes.data

    def add(self, code: int, source: Buffer, target: Buffer, **slots: int) -> None:
        """Append an operation; slots that are not given are 0."""
        slots |= {"code": code, "from_": source.offset, "from_row": source.row}
        slots |= {"from_token": source.token, "to": target.offset, "to_row": target.row}
        slots |= {"to_token": target.token}
        self.ops.append([slots.pop(name, 0) for name in SLOTS])
        assert not slots

    def buffer(self, width: int, before: int = 0) -> Buffer:
        """Make room for a vector of each token; `before` tokens more in front of each row."""
        tokens, token = self.done + self.given, _whole(width, PANEL)
        made = Buffer(self.scratch, (tokens + before) * token, token)
        self.rooms.append(made)
        self.scratch += TILE // self.given * made.row + PANEL
        return made

    def remembered(self, floats: int) -> int:
        """Make room in a row's state, and give its offset."""
        self.size += floats
        return self.size - floats

    def linear(self, layer: nn.Linear, source: Buffer, target: Buffer, **slots: int) -> None:
        """Append a linear map."""
        self.product(_array(layer.weight), layer.bias, source, target, **slots)

    def product(
        self, weight: Floats, bias: Tensor | None, source: Buffer, target: Buffer, **slots: int
    ) -> None:
        """Append the product with a matrix (O, I)."""
        out, into = weight.shape
        address = 0 if bias is None else self.keep(_padded(_array(bias), PANEL))
        packed = self.keep(_packed(weight))
        self.add(LINEAR, source, target, in_=into, out=out, weight=packed, bias=address, **slots)

    def norm(self, norm: nn.LayerNorm, source: Buffer, target: Buffer, **slots: int) -> None:
        """Append a LayerNorm."""
        width = norm.normalized_shape[0]
        weight, bias = self.keep(_array(norm.weight)), self.keep(_array(norm.bias))
        epsilon = self.keep(np.array([norm.eps], np.float32))
        widths = {"in_": width, "out": width}
        self.add(NORM, source, target, weight=weight, bias=bias, table=epsilon, **widths, **slots)


def written(model: SequenceModel) -> NativeStep:
    """Write down a model's step.

    Raises:
        NotNativeError: The model has a part that is unknown here.
    """
    if type(model) is not TokenModel or not model.embedding.interleaved:
        raise NotNativeError(f"{type(model).__name__} is not a TokenModel of the layout B3LD")
    tensors = _tensors(model)
    floats = [x for x in tensors if x.is_floating_point()]
    if any(x.dtype != torch.float32 or x.device.type != "cpu" or x.is_inference() for x in floats):
        raise NotNativeError("its weights are not float32 on the CPU")
    embedding = model.embedding
    given = embedding.acting_token + 1
    if embedding.tokens_per_step > TILE:
        raise NotNativeError(f"a step has {embedding.tokens_per_step} tokens")
    step = NativeStep(embedding.tokens_per_step - given, given, tensors=tensors)
    step.version = sum([x._version for x in tensors])
    x = step.buffer(embedding.d_model)
    _write_embedding(step, model, embedding, x)
    _write_mixer(step, model.backbone, x)
    y = step.buffer(embedding.d_model)
    step.norm(model.norm, x, y, token=1)
    head = model.head
    if type(head) not in (ContinuousHead, DiscreteHead):
        raise NotNativeError(f"it has a {type(head).__name__}")
    assert isinstance(head, ContinuousHead | DiscreteHead)
    squash = "tanh" if isinstance(head, ContinuousHead) and head.bounded else "none"
    step.parameters = head.n_features
    out = step.buffer(head.n_features)
    step.linear(head.linear, y, out, token=1, activation=ACTIVATIONS.index(squash))
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
            table = _array(embedding.action.weight).T
            if embedding.action.bias is not None:
                table = table + _array(embedding.action.bias)
        elif name == "observation":
            encoder = embedding.observation
            if type(encoder) is IndexEncoder:
                table = _array(encoder.table.weight)
            elif type(encoder) in (VectorEncoder, FlatEncoder):
                assert isinstance(encoder, VectorEncoder)
                weight, bias = _array(encoder.linear.weight), encoder.linear.bias
            else:
                raise NotNativeError(f"it has a {type(encoder).__name__}")
        else:
            layer = {"action": "action", "return": "returns", "reward": "reward"}[name]
            linear = getattr(embedding, layer)
            weight, bias = _array(linear.weight), linear.bias
        into = 1 if table is not None else weight.shape[1]
        columns = slice(step.width, step.width + into)
        step.width = columns.stop
        step.parts[name] = columns
        squash = "none" if embedding.norm is not None else "tanh"
        slots = {"token": token}
        if embedding.timestep is not None:
            slots["extra"] = BEFORE if token < step.done else NOW
            slots["table"] = step.keep(_array(embedding.timestep.weight))
            slots["places"] = embedding.timestep.num_embeddings
        source = Buffer(columns.start, 0, 0)
        if table is not None:
            rows = step.keep(np.tanh(table) if squash == "tanh" else table)
            step.add(LOOKUP, source, x, out=embedding.d_model, weight=rows, **slots)
        else:
            address = 0 if bias is None else step.keep(_padded(_array(bias), PANEL))
            step.add(
                EMBED, source, x, in_=into, out=embedding.d_model, bias=address,
                weight=step.keep(_packed(weight)), activation=ACTIVATIONS.index(squash), **slots,
            )  # fmt: skip
    if embedding.norm is not None:
        step.norm(embedding.norm, x, x)


def _write_mixer(step: NativeStep, mixer: Mixer, x: Buffer) -> None:
    """Write a chain of residual branches upon the tokens x."""
    if type(mixer) is Chain:
        for layer in mixer.layers:
            assert isinstance(layer, Mixer)
            _write_mixer(step, layer, x)
    elif type(mixer) is Residual:
        y = step.buffer(mixer.norm.normalized_shape[0])
        step.norm(mixer.norm, x, y)
        branch = _BRANCHES.get(type(mixer.inner))
        if branch is None:
            raise NotNativeError(f"it has a {type(mixer.inner).__name__}")
        branch(step, mixer.inner, y, x)
    else:
        raise NotNativeError(f"it has a {type(mixer).__name__}")


def _write_mamba(step: NativeStep, block: Mamba, y: Buffer, x: Buffer) -> None:
    """Write a Mamba block from y, added to x; channels are padded to whole vectors."""
    channels, states, rank = block.d_inner, block.d_state, block.dt_rank
    width = _whole(channels, VECTOR)
    # u, z and the step sizes have strides of their own in common, so that one pair serves them.
    uz, u, delta = (step.buffer(2 * width) for _ in range(3))
    parts = _array(block.in_proj.weight).reshape(2, channels, -1)
    weight = np.pad(parts, ((0, 0), (0, width - channels), (0, 0))).reshape(2 * width, -1)
    bias = None
    if block.in_proj.bias is not None:
        halves = block.in_proj.bias.detach().view(2, channels)
        bias = nn.functional.pad(halves, (0, width - channels)).flatten()
    step.product(weight, bias, y, uz)
    if block.d_conv is None:
        step.add(SILU, uz, u, out=width)
    else:
        taps = _padded(_array(block.conv1d.weight)[:, 0].T, VECTOR)
        zeros = np.zeros(channels, np.float32)
        bias_ = zeros if block.conv1d.bias is None else _array(block.conv1d.bias)
        step.add(
            CONVOLVE, uz, u, in_=block.d_conv, out=width, weight=step.keep(taps),
            bias=step.keep(_padded(bias_, VECTOR)),
            state=step.remembered((block.d_conv - 1) * width),
        )  # fmt: skip
    selection = step.buffer(rank + 2 * states)
    step.linear(block.x_proj, u, selection)
    step.linear(block.dt_proj, selection, delta, activation=ACTIVATIONS.index("softplus"))
    rates = -np.exp(_array(block.A_log).T) * np.float32(math.log2(math.e))
    step.add(
        SCAN, selection.shifted(rank), delta, in_=states, out=width,
        weight=step.keep(_padded(rates, VECTOR)), bias=step.keep(_padded(_array(block.D), VECTOR)),
        state=step.remembered(states * width), extra=u.offset, token=uz.offset + width,
    )  # fmt: skip
    step.linear(block.out_proj, delta, x, add=1)


def _write_pointwise(step: NativeStep, block: Pointwise, y: Buffer, x: Buffer) -> None:
    """Write a perceptron from y, added to x."""
    hidden = step.buffer(block.up.out_features)
    step.linear(block.up, y, hidden, activation=ACTIVATIONS.index(block.activation))
    step.linear(block.down, hidden, x, add=1)


def _write_window(step: NativeStep, block: DenseWindow, y: Buffer, x: Buffer) -> None:
    """Write a dense window from y, added to x: a token's is a run of the tokens kept together."""
    width, window = len(block.weight), block.window
    full = step.buffer(width, before=window - 1)
    dense = Buffer(full.offset, full.row, width)
    state = step.remembered((window - 1) * width)
    step.add(WINDOW, y, dense, in_=window, out=width, state=state)
    step.product(_array(block.weight), block.bias, dense, x, add=1)


_BRANCHES: dict[type[Mixer], Callable[[NativeStep, Any, Buffer, Buffer], None]] = {
    Mamba: _write_mamba,
    Pointwise: _write_pointwise,
    DenseWindow: _write_window,
}


def _tensors(model: SequenceModel) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _whole(floats: int, unit: int) -> int:
    return -(-floats // unit) * unit


def _array(x: Tensor) -> Floats:
    return x.detach().numpy()


def _padded(x: Floats, unit: int) -> Floats:
    """Fill the last axis up with zeros to whole units."""
    gap = _whole(x.shape[-1], unit) - x.shape[-1]
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, gap)])


def _packed(weight: Floats) -> Floats:
    """Lay a matrix (O, I) out panel by panel: (O / 64, I, 64)."""
    padded = _padded(weight.T, PANEL)  # (I, whole panels)
    return np.ascontiguousarray(padded.reshape(len(padded), -1, PANEL).transpose(1, 0, 2))
