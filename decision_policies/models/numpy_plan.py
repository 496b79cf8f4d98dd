"""The operations of a written step, bound to NumPy's arrays: `numpy_step.py` runs such plans."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from decision_policies.models.native_step import (
    ACTIVATIONS,
    ATTEND,
    BAND,
    CONVOLVE,
    EMBED,
    LINEAR,
    LOOKUP,
    MODAL,
    NORM,
    NOW,
    PANEL,
    SCAN,
    SILU,
    SLOTS,
    WINDOW,
    Floats,
    NativeStep,
    whole,
)
from decision_policies.models.numpy_activations import ACTIVATE, silu
from decision_policies.models.numpy_runs import Ring, band

Call = Callable[[], None]
"""A part of a step, bound to the arrays that it reads and writes."""


class Rows(NamedTuple):
    """What a step of n rows reads and writes.

    Attributes:
        values: What was taken in, (n, width).
        before: Clocks of the last step, (n,).
        now: Clocks of this step, (n,).
        state: What the rows remember, (n, size).
        output: The predictions, (n, P).
    """

    values: Floats
    before: NDArray[np.int64]
    now: NDArray[np.int64]
    state: Floats
    output: Floats

    def picked(self, which: NDArray[np.bool_]) -> Rows:
        """Copy some rows."""
        arrays: tuple[NDArray[Any], ...] = self
        return Rows(*(x[which] for x in arrays))


class Plan:
    """A step of rows in the same situation, bound to arrays.

    Args:
        step: The step.
        rows: What the rows read and write.
        fresh: Whether they begin with it, and so have no last step.
        matrices: Unpacked matrices by their addresses, which plans share.
    """

    def __init__(
        self, step: NativeStep, rows: Rows, fresh: bool, matrices: dict[int, Floats]
    ) -> None:
        self.step, self.rows, self._matrices = step, rows, matrices
        self.skipped = step.done if fresh else 0
        self.tokens = step.done + step.given - self.skipped
        self._known = {x.ctypes.data: x for x in step.arrays}
        self._rooms: dict[int, Floats] = {}
        for room in step.rooms:
            before = room.row // room.token - step.tokens
            shape = (len(rows.values), before + self.tokens, room.token)
            self._rooms[room.offset] = np.zeros(shape, np.float32)
        makers = {
            EMBED: self._embed, LOOKUP: self._embed, LINEAR: self._linear, NORM: self._norm,
            CONVOLVE: self._convolve, SILU: self._silu, SCAN: self._scan, WINDOW: self._window,
            ATTEND: self._attend, MODAL: self._modal, BAND: self._band,
        }  # fmt: skip
        ops = [_Operation(*slots) for slots in step.ops]
        made = (makers[op.code](op) for op in ops)
        self._calls = [call for call in made if call is not None]
        head = ops[-1]
        self._answer = self._view(head.to, head.to_token, head.out)[:, -1]

    def run(self) -> None:
        """Make the step."""
        with np.errstate(over="ignore"):  # exp(-x) of a sigmoid: infinite where the sigmoid is 0
            for call in self._calls:
                call()
        self.rows.output[:] = self._answer

    def _view(self, offset: int, token: int, width: int) -> Floats:
        """A buffer's vectors, (n, tokens, width)."""
        base = max(start for start in self._rooms if start <= offset)
        room = self._rooms[base]
        if token == room.shape[2] and width <= token:
            return room[:, -self.tokens :, offset - base : offset - base + width]
        strides = (room.strides[0], token * room.itemsize, room.itemsize)  # runs that overlap
        return as_strided(room, (len(room), self.tokens, width), strides)

    def _ends(self, op: _Operation) -> tuple[Floats, Floats]:
        """The input and the output of an operation on each token, or on the last one only."""
        views = (
            self._view(op.from_, op.from_token, op.in_),
            self._view(op.to, op.to_token, op.out),
        )
        if op.last:
            return views[0][:, -1], views[1][:, -1]
        x, y = views
        if all(v.strides[0] == self.tokens * v.strides[1] for v in views):  # one matrix
            return _flat(x), _flat(y)
        return x, y

    def _weight(self, op: _Operation) -> Floats:
        """The matrix (I, O) of an operation."""
        if op.weight not in self._matrices:
            panels = self._array(op.weight).transpose(1, 0, 2)  # (I, O / 64, 64)
            self._matrices[op.weight] = panels.reshape(op.in_, -1)[:, : op.out].copy()
        return self._matrices[op.weight]

    def _array(self, address: int) -> Any:
        return self._known[address]

    def _kept(self, op: _Operation, vectors: int) -> Floats:
        """Vectors of each row's state, (n, vectors, width)."""
        part = self.rows.state[:, op.state : op.state + vectors * op.out]
        return part.reshape(len(part), vectors, op.out)

    def _embed(self, op: _Operation) -> Call | None:
        token = op.token - self.skipped
        if token < 0:
            return None
        y = self._view(op.to, op.to_token, op.out)[:, token]
        clock = self.rows.now if op.extra == NOW else self.rows.before
        times = self._array(op.table).reshape(op.places, op.out) if op.extra else None
        if op.code == EMBED:
            x = self.rows.values[:, op.from_ : op.from_ + op.in_]
            product = _product(x, y, self._weight(op), self._bias(op), op)
        else:
            rows, index = self._array(op.weight), self.rows.values[:, op.from_]

            def product() -> None:
                y[:] = rows[index.astype(np.int64)]

        if times is None:
            return product

        def call() -> None:
            product()
            np.add(y, times[np.minimum(clock, op.places - 1)], out=y)

        return call

    def _bias(self, op: _Operation) -> Floats | None:
        return self._array(op.bias)[: op.out] if op.bias else None

    def _linear(self, op: _Operation) -> Call:
        x, y = self._ends(op)
        return _product(x, y, self._weight(op), self._bias(op), op)

    def _norm(self, op: _Operation) -> Call:
        x, y = self._ends(op)
        weight, bias = self._array(op.weight), self._array(op.bias)
        epsilon, average = self._array(op.table), np.full((op.in_, 1), 1 / op.in_, np.float32)

        def call() -> None:
            np.subtract(x, x @ average, out=y)
            scale = (y * y) @ average
            scale += epsilon
            scale[np.isinf(scale)] = np.nan  # divided by infinity, an overflow would be hidden
            np.divide(y, np.sqrt(scale, out=scale), out=y)
            np.multiply(y, weight, out=y)
            np.add(y, bias, out=y)

        return call

    def _silu(self, op: _Operation) -> Call:
        x, y = self._view(op.from_, op.from_token, op.out), self._view(op.to, op.to_token, op.out)
        return lambda: silu(x, y)

    def _convolve(self, op: _Operation) -> Call:
        past = op.in_ - 1
        x, y = self._view(op.from_, op.from_token, op.out), self._view(op.to, op.to_token, op.out)
        kept, taps, bias = self._kept(op, past), self._array(op.weight), self._array(op.bias)
        run = np.zeros((len(x), past + self.tokens, op.out), np.float32)
        strides = (run.strides[0], run.strides[1], *run.strides[1:])
        windows = as_strided(run, (len(x), self.tokens, op.in_, op.out), strides)
        sums = np.empty_like(run[:, past:])

        def call() -> None:
            run[:, :past] = kept
            run[:, past:] = x
            kept[:] = run[:, self.tokens :]
            np.einsum("ntke,ke->nte", windows, taps, out=sums)
            np.add(sums, bias, out=sums)
            silu(sums, y)

        return call

    def _scan(self, op: _Operation) -> Call:
        n, states, channels = len(self.rows.values), op.in_, op.out
        selection = self._view(op.from_, op.from_token, 2 * states)
        write, read = selection[..., :states, None], selection[:, :, None, states:]
        delta, u, z = (
            self._view(offset, op.to_token, channels) for offset in (op.to, op.extra, op.token)
        )
        rates = self._array(op.weight) * np.float32(math.log(2))
        skip, kept = self._array(op.bias), self._kept(op, states)
        decay = np.empty((n, self.tokens, states, channels), np.float32)
        h, part, gate = np.empty_like(decay), np.empty_like(delta), np.empty_like(delta)
        pairs = [(decay[:, t], h[:, t]) for t in range(self.tokens)]

        def call() -> None:
            np.multiply(delta[:, :, None], rates, out=decay)
            np.exp(decay, out=decay)
            np.multiply(delta, u, out=part)
            np.multiply(part[:, :, None], write, out=h)
            past = kept
            for factor, state in pairs:
                np.multiply(factor, past, out=factor)
                np.add(state, factor, out=state)
                past = state
            kept[:] = past
            np.multiply(u, skip, out=part)
            np.add(part, np.matmul(read, h)[:, :, 0], out=part)
            silu(z, gate)
            np.multiply(part, gate, out=delta)

        return call

    def _window(self, op: _Operation) -> Call:
        past, width = op.in_ - 1, op.out
        x, kept = self._view(op.from_, op.from_token, width), self._kept(op, past)
        room = self._rooms[op.to]
        strides = (room.strides[0], width * room.itemsize, room.itemsize)
        run = as_strided(room, (len(room), past + self.tokens, width), strides)

        def call() -> None:
            run[:, :past] = kept
            run[:, past:] = x
            kept[:] = run[:, self.tokens :]

        return call

    def _runs(self, op: _Operation, tokens: int) -> Floats:
        """The tokens that end at each, (n, tokens, as many, width), of a buffer without gaps."""
        room = self._rooms[op.from_]
        step = op.from_token * room.itemsize
        strides = (room.strides[0], step, step, room.itemsize)
        return as_strided(room, (len(room), self.tokens, tokens, op.from_token), strides)

    def _modal(self, op: _Operation) -> Call:
        runs, y = self._runs(op, op.in_), self._view(op.to, op.to_token, op.out)
        places = (np.arange(self.tokens) + self.skipped) % (self.step.done + self.step.given)
        filters, bias = self._array(op.weight)[places], self._array(op.bias)[places]

        def call() -> None:
            mixed = np.einsum("ntkd,tkd->ntd", runs, filters)
            mixed += bias
            y[:] = y + mixed if op.add else mixed

        return call

    def _band(self, op: _Operation) -> Call:
        runs, z = self._runs(op, op.places), self._view(op.to, op.to_token, op.out)
        rates = self._array(op.weight) * np.float32(math.log(2))
        step, u = runs[..., : op.out], runs[..., op.token : op.token + op.out]
        write, read = np.split(runs[..., op.extra : op.extra + 2 * op.in_], 2, -1)
        skip, gate = self._array(op.bias), np.empty_like(z)

        def call() -> None:
            y = band(step, u, rates, write, read[:, :, -1])
            y += skip * u[:, :, -1]
            silu(z, gate)
            np.multiply(y, gate, out=z)

        return call

    def _attend(self, op: _Operation) -> Call:
        width, behind = op.out, whole(op.out, PANEL)
        looking = self._view(op.from_, op.from_token, behind + 2 * width)
        queries, keys = looking[..., :width], looking[..., behind : behind + width]
        values, looked = looking[..., behind + width :], self._view(op.to, op.to_token, width)
        ring = Ring(self.rows.state[:, op.state :], op.places, width, op.in_, op.token)

        def call() -> None:
            ring.put(keys, values)
            looked[:] = ring.look(queries)

        return call


class _Operation(NamedTuple):
    """Fields of an operation, as `SLOTS` names them."""

    code: int
    from_: int
    from_row: int
    from_token: int
    to: int
    to_row: int
    to_token: int
    in_: int
    out: int
    weight: int
    bias: int
    activation: int
    add: int
    state: int
    token: int
    last: int
    extra: int
    table: int
    places: int


assert _Operation._fields == SLOTS


def _flat(x: Floats) -> Floats:
    """See (n, tokens, width), whose tokens lie at one distance, as (n tokens, width)."""
    return as_strided(x, (x.shape[0] * x.shape[1], x.shape[2]), x.strides[1:])


def _product(x: Floats, y: Floats, weight: Floats, bias: Floats | None, op: _Operation) -> Call:
    """Set y to activation(x weight + bias), or add that to what y holds."""
    made = np.empty(y.shape, np.float32) if op.add else y
    activate = ACTIVATE[ACTIVATIONS[op.activation]]

    def call() -> None:
        np.matmul(x, weight, out=made)
        if bias is not None:
            np.add(made, bias, out=made)
        if activate is not None:
            activate(made)
        if op.add:
            np.add(y, made, out=y)

    return call
