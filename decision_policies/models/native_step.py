"""A model's step as a list of operations, which `ops/native/step.c` runs in one call.

Where there is no native library, `numpy_step.py` runs the same list; `native_writing.py` writes it.

A step of a small network is a hundred torch operators of a few microseconds each, most of which
is the cost of calling them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decision_policies.models.model import SequenceModel

PANEL, TILE, TOKENS, VECTOR = 64, 6, 128, 16
"""As in `native/step.h`: columns of a packed matrix that lie together, tokens whose sums are in
registers together, and tokens of a group of rows at most; floats in the widest vector."""

HEADER = 16
"""Floats before the keys that a row keeps, as in `native/attend.h`: the number of tokens so far, as
an integer of 64 bits."""

EMBED, LOOKUP, LINEAR, NORM, CONVOLVE, SILU, SCAN, WINDOW, ATTEND, MODAL, BAND, PLACE = range(12)
ACTIVATIONS = ("none", "tanh", "softplus", "relu", "gelu", "gelu_tanh")
BEFORE, NOW = 1, 2
SLOTS = (
    "code", "from_", "from_row", "from_token", "to", "to_row", "to_token", "in_", "out", "weight",
    "bias", "activation", "add", "state", "token", "last", "extra", "table", "places",
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
    """A model's step, or a window of steps, written down.

    Attributes:
        done: Tokens of a step's end.
        given: Tokens of what is known of the next step.
        chunk: Steps that go through the network together, at most.
        prompt: Whether a row that begins has a prompt in place of the last step's last token.
        ops: The operations, (count, slots).
        arrays: What their addresses point to.
        rooms: The buffers, in the order of their offsets.
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
    chunk: int = 1
    prompt: bool = False
    ops: list[list[int]] = field(default_factory=list)
    arrays: list[NDArray[np.generic]] = field(default_factory=list)
    rooms: list[Buffer] = field(default_factory=list)
    width: int = 0
    size: int = 0
    scratch: int = 0
    parameters: int = 0
    parts: dict[str, slice] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    copies: list[Tensor] = field(init=False)
    version: int = field(init=False)
    _taken: list[Buffer] = field(default_factory=list)
    _free: list[Buffer] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Note the weights that are going to be written down."""
        self.copies = [x.detach().clone() for x in self.tensors]
        self.version = version_of(self.tensors)

    @property
    def attends(self) -> bool:
        """Whether tokens attend to others, at a cost that grows with the square of a window."""
        return any(op[0] == ATTEND for op in self.ops)

    @property
    def tokens(self) -> int:
        """Tokens of a row that go through the network together, at most."""
        return self.chunk * (self.done + self.given)

    def current(self) -> bool:
        """Whether no change of the weights has been counted since they were written down."""
        return version_of(self.tensors) == self.version

    def describes(self, model: SequenceModel) -> bool:
        """Whether a model's weights are what was written down, where not all changes count.

        Some go past torch's count, and `model.to` and new parameters change what is to be counted.
        """
        tensors = tensors_of(model)
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
        """Keep a copy of an array, so that no change goes by the rest, and give its address."""
        array = np.array(array, order="C")
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
        token = whole(width, PANEL)
        row = (self.tokens + before) * token
        for room in self._free:
            if (room.row, room.token) == (row, token):
                self._free.remove(room)
                break
        else:
            rows = TILE // self.given if self.chunk == 1 else 1
            room = Buffer(self.floats(rows * row), row, token)
            self.rooms.append(room)
        self._taken.append(room)
        return room

    @contextmanager
    def branch(self) -> Iterator[None]:
        """Let what follows use the buffers that are made inside again: they stay in caches."""
        outside, self._taken = self._taken, []
        yield
        self._free += self._taken
        self._taken = outside

    def floats(self, count: int) -> int:
        """Make room in scratch memory, and give its offset."""
        self.scratch += count
        return self.scratch - count

    def takes(self, name: str, floats: int) -> slice:
        """Make room in a row's input under a name, and give its columns."""
        columns = self.parts[name] = slice(self.width, self.width + floats)
        self.width = columns.stop
        return columns

    def remembered(self, floats: int) -> int:
        """Make room in a row's state, and give its offset."""
        self.size += floats
        return self.size - floats

    def linear(self, layer: nn.Linear, source: Buffer, target: Buffer, **slots: int) -> None:
        """Append a linear map."""
        self.product(array(layer.weight), layer.bias, source, target, **slots)

    def product(
        self, weight: Floats, bias: Tensor | None, source: Buffer, target: Buffer, **slots: int
    ) -> None:
        """Append the product with a matrix (O, I)."""
        out, into = weight.shape
        address = 0 if bias is None else self.keep(padded(array(bias), PANEL))
        matrix = self.keep(packed(weight))
        self.add(LINEAR, source, target, in_=into, out=out, weight=matrix, bias=address, **slots)

    def norm(self, norm: nn.LayerNorm, source: Buffer, target: Buffer, **slots: int) -> None:
        """Append a LayerNorm."""
        width = norm.normalized_shape[0]
        weight, bias = self.keep(array(norm.weight)), self.keep(array(norm.bias))
        epsilon = self.keep(np.array([norm.eps], np.float32))
        widths = {"in_": width, "out": width}
        self.add(NORM, source, target, weight=weight, bias=bias, table=epsilon, **widths, **slots)


def tensors_of(model: SequenceModel) -> list[Tensor]:
    """List what a step depends on."""
    return [*model.parameters(), *model.buffers()]


def version_of(tensors: list[Tensor]) -> int:
    """How often tensors have been changed, by torch's count."""
    return sum([x._version for x in tensors])


def whole(floats: int, unit: int) -> int:
    """Round up to whole units."""
    return -(-floats // unit) * unit


def array(x: Tensor) -> Floats:
    """See a tensor as an array."""
    return x.detach().numpy()


def padded(x: Floats, unit: int) -> Floats:
    """Fill the last axis up with zeros to whole units."""
    gap = whole(x.shape[-1], unit) - x.shape[-1]
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, gap)])


def packed(weight: Floats) -> Floats:
    """Lay a matrix (O, I) out panel by panel: (O / 64, I, 64)."""
    columns = padded(weight.T, PANEL)  # (I, whole panels)
    return np.ascontiguousarray(columns.reshape(len(columns), -1, PANEL).transpose(1, 0, 2))
