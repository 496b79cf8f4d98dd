"""The selective scan in plain torch operators: a cache-sized scan to train, a short one to act.

The state of a block of rows is kept as (b, N, E), so each operator runs along contiguous
channels. Decays, states and adjoints exist for one block of rows and one chunk of tokens at a
time, in buffers that every block reuses; nothing of size B * L * E * N is ever made.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

from decision_policies.ops.scan_gradients import Inputs, differentiable

CHUNK = 12
"""Tokens between two checkpoints of the state; the backward recomputes one chunk at a time."""

BLOCK = 1 << 16
"""State elements (b * N * E) scanned together on a CPU: few enough for its cache, and enough
to hide what it costs to call an operator."""

BLOCK_ON_ACCELERATOR = 1 << 24
"""The same on any other device, where only the number of operators matters."""

SHORT = 4
"""Longest sequence scanned by the short path when no gradient is wanted."""

SHORT_ELEMENTS = 1 << 19
"""Most elements (B * L * N * E) that the short path holds at once; beyond it, memory costs more
than calls."""

LOG2_E = math.log2(math.e)
"""exp(x) is computed as exp2(x * log2(e)): on a CPU, torch's exp2 is several times faster."""


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan with the short path when acting and with the blocked path otherwise.

    Arguments and results are those of ``decision_policies.ops.selective_scan``.

    Raises:
        ValueError: if a gradient is wanted of mixed number types.
    """
    length = u.shape[1]
    tensors = (u, delta, A, B, C, D, state)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        types = {str(x.dtype) for x in tensors if x is not None}
        if len(types) > 1:
            raise ValueError(f"the scan mixes {sorted(types)}: cast all its arguments to one type.")
        return _blocks(*tensors)
    if length <= SHORT and u.numel() * A.shape[1] <= SHORT_ELEMENTS:
        return _scan_short(u, delta, A, B, C, D, state)
    return _blocks(*tensors)


def _scan_short(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scan a few tokens of all rows at once, with as few operators as possible."""
    rows, length, width = u.shape
    h = torch.mul((delta * LOG2_E).unsqueeze(2), A.t().contiguous()).exp2_()
    written = (delta * u).unsqueeze(2).unbind(1)
    previous = torch.zeros_like(h[:, 0]) if state is None else state
    for h_t, x_t, B_t in zip(h.unbind(1), written, B.unsqueeze(3).unbind(1), strict=True):
        previous = h_t.mul_(previous).addcmul_(x_t, B_t)
    n = A.shape[1]
    y = torch.bmm(C.reshape(rows * length, 1, n), h.reshape(rows * length, n, width))
    return torch.addcmul(y.view(rows, length, width), u, D), previous


class _Memory(threading.local):
    """One flat buffer per thread, kept between calls, for fresh memory pages are dear.

    It grows to what the largest block needed: about 10 MB in float32 at the sizes above.
    """

    flat: Tensor | None = None

    def take(self, elements: int, like: Tensor) -> Tensor:
        """Give that many elements of unknown content, of the type and place of ``like``."""
        if type(like) is not Tensor or like.device.type != "cpu":
            return like.new_empty(elements)
        if self.flat is None or self.flat.dtype != like.dtype or self.flat.numel() < elements:
            with torch.inference_mode(False):
                self.flat = torch.empty(elements, dtype=like.dtype)
        return self.flat[:elements]


_MEMORY = _Memory()


class _Chunk:
    """The buffers of one block and one chunk, time-major, with their views token by token.

    ``delta``, ``written`` (delta * u) and ``grad`` (of y) are (t, b, E); ``B`` and ``C``
    (t, b, N); ``decay`` and ``adjoint`` (dL/dh) (t, b, N, E); ``state`` (t + 1, b, N, E) begins
    with the state before the chunk. The forward pass makes do without ``adjoint`` and ``state``.
    """

    def __init__(self, tokens: int, rows: int, log_decay: Tensor, backward: bool) -> None:
        n, width = log_decay.shape
        channels, states = tokens * rows * width, tokens * rows * n
        full = states * width
        sizes = [channels] * 3 + [states] * 2 + [full]
        if backward:
            sizes += [full, full + rows * n * width]
        parts = torch.split(_MEMORY.take(sum(sizes), log_decay), sizes)
        self.delta, self.written, self.grad = (x.view(tokens, rows, width) for x in parts[:3])
        self.B, self.C = (x.view(tokens, rows, n) for x in parts[3:5])
        self.decay, *others = (x.view(-1, rows, n, width) for x in parts[5:])
        self.decays = self.decay.unbind(0)
        self.log_decay = log_decay
        if backward:
            self.adjoint, self.state = others
            self.adjoints, self.states = self.adjoint.unbind(0), self.state.unbind(0)
            self.grads, self.reads = self.grad.unsqueeze(2).unbind(0), self.C.unsqueeze(3).unbind(0)
        else:
            self.inputs = self.written.unsqueeze(2).unbind(0)
            self.writes = self.B.unsqueeze(3).unbind(0)

    def load(self, u: Tensor, delta: Tensor, B: Tensor, C: Tensor) -> None:
        """Copy a chunk of the inputs, given as (t, b, ...) views, and compute its decays."""
        self.delta.copy_(delta)
        torch.mul(self.delta, u, out=self.written)
        self.B.copy_(B)
        self.C.copy_(C)
        torch.mul(self.delta.unsqueeze(2), self.log_decay, out=self.decay).exp2_()

    def scan(self, state: Tensor) -> Tensor:
        """Turn the decays into states, moving ``state`` (b, N, E) on; give sum_n C h (t, b, E)."""
        previous = state
        for h_t, x_t, B_t in zip(self.decays, self.inputs, self.writes, strict=True):
            previous = h_t.mul_(previous).addcmul_(x_t, B_t)
        state.copy_(previous)
        return _sum_over_states(self.C, self.decay, out=self.grad)

    def rescan(self, state: Tensor) -> None:
        """Recompute the states that follow ``state`` (b, N, E), and keep the decays."""
        self.states[0].copy_(state)
        torch.mul(self.written.unsqueeze(2), self.B.unsqueeze(3), out=self.state[1:])
        for t, decay_t in enumerate(self.decays):
            self.states[t + 1].addcmul_(decay_t, self.states[t])

    def scan_adjoints(self, carry: Tensor) -> None:
        """Run the adjoints backwards, and leave decay_t * dL/dh_t in place of decay_t.

        ``carry`` (b, N, E) is what later chunks add to dL/dh of the last token; it becomes what
        this chunk adds to dL/dh of the token before its first.
        """
        later = carry
        for t in reversed(range(len(self.decays))):
            torch.addcmul(later, self.grads[t], self.reads[t], out=self.adjoints[t])
            later = self.decays[t].mul_(self.adjoints[t])
        carry.copy_(later)


def _sum_over_states(weights: Tensor, states: Tensor, out: Tensor) -> Tensor:
    """Sum (t, b, N, E) over N with the weights (t, b, N) into ``out`` (t, b, E)."""
    t, b, n, width = states.shape
    matrices = states.view(t * b, n, width)
    torch.bmm(weights.view(t * b, 1, n), matrices, out=out.view(t * b, 1, width))
    return out


def _sum_over_channels(weights: Tensor, states: Tensor, out: Tensor) -> Tensor:
    """Sum (t, b, N, E) over E with the weights (t, b, E) into ``out`` (t, b, N)."""
    t, b, n, width = states.shape
    matrices = states.view(t * b, n, width).transpose(1, 2)
    torch.bmm(weights.view(t * b, 1, width), matrices, out=out.view(t * b, 1, n))
    return out


def _cuts(total: int, size: int) -> list[slice]:
    """Cut ``range(total)`` into slices of ``size``; the last one may be shorter."""
    return [slice(start, min(total, start + size)) for start in range(0, total, size)]


class _Plan:
    """How a batch is cut into blocks of rows and chunks of tokens, and the buffers for them."""

    def __init__(self, u: Tensor, A: Tensor, backward: bool) -> None:
        rows, length, _ = u.shape
        limit = BLOCK if u.device.type == "cpu" else BLOCK_ON_ACCELERATOR
        blocks = max(1, -(-rows * A.numel() // limit))
        self.blocks = _cuts(rows, max(1, -(-rows // blocks)))
        self.chunks = _cuts(length, CHUNK)
        self._log_decay, self._backward = A.t().contiguous() * LOG2_E, backward
        self._made: dict[tuple[int, int], _Chunk] = {}

    def buffers(self, block: slice, chunk: slice) -> _Chunk:
        """Give the buffers of this size, made the first time they are asked for."""
        size = (chunk.stop - chunk.start, block.stop - block.start)
        if size not in self._made:
            self._made[size] = _Chunk(*size, self._log_decay, self._backward)
        return self._made[size]


def _scan_blocks(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor | None,
    checkpoints: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Scan block by block; write the state before each chunk to (chunks, B, N, E), if given."""
    plan = _Plan(u, A, backward=False)
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    last = u.new_empty(u.shape[0], A.shape[1], A.shape[0])
    for block in plan.blocks:
        h = last[block].zero_() if state is None else last[block].copy_(state[block])
        for i, chunk in enumerate(plan.chunks):
            if checkpoints is not None:
                checkpoints[i, block].copy_(h)
            u_c, delta_c, B_c, C_c, y_c = (
                x[block, chunk].transpose(0, 1) for x in (u, delta, B, C, y)
            )
            buffers = plan.buffers(block, chunk)
            buffers.load(u_c, delta_c, B_c, C_c)
            torch.addcmul(buffers.scan(h), u_c, D, out=y_c)
    return y, last


class _Gradients:
    """The gradients of one backward pass, filled one block and one chunk at a time.

    With the adjoint G_t = dL/dh_t = C_t dL/dy_t + decay_{t+1} G_{t+1}, the exponent delta_t A
    receives W_t = G_t decay_t h_{t-1}: A takes the sum of delta W over rows and tokens, delta the
    sum of A W over states. The product delta u receives the sum of B G over states.
    """

    def __init__(self, u: Tensor, A: Tensor, B: Tensor, D: Tensor, y: Tensor) -> None:
        self.u = torch.mul(y, u).contiguous()
        self.D = self.u.sum((0, 1))
        self.delta = torch.empty_like(self.u)
        self.A = torch.zeros_like(A.t(), memory_format=torch.contiguous_format)
        self.B = torch.empty_like(B, memory_format=torch.contiguous_format)
        self.C = torch.empty_like(self.B)
        self._A, self._D = A.t().contiguous(), D
        self._ones = A.new_ones(1, 1)

    def collect(self, chunk: _Chunk, u: Tensor, at: tuple[slice, slice]) -> None:
        """Add the share of a chunk whose states and adjoints are known; uses up its buffers."""
        grad_u, grad_delta, grad_B, grad_C = (
            x[at].transpose(0, 1) for x in (self.u, self.delta, self.B, self.C)
        )
        tokens, rows, n, width = chunk.decay.shape
        grad_exponent = chunk.decay.mul_(chunk.state[:-1])
        grad_C.copy_(_sum_over_channels(chunk.grad, chunk.state[1:], out=chunk.C))
        grad_B.copy_(_sum_over_channels(chunk.written, chunk.adjoint, out=chunk.C))
        grad_written = _sum_over_states(chunk.B, chunk.adjoint, out=chunk.written)
        torch.mul(chunk.grad, self._D, out=grad_u).addcmul_(grad_written, chunk.delta)
        torch.sum(torch.mul(grad_exponent, self._A, out=chunk.adjoint), 2, out=chunk.grad)
        torch.addcmul(chunk.grad, grad_written, u, out=grad_delta)
        # A product with ones sums rows faster than sum() does, and adds to what is there.
        weighted = grad_exponent.mul_(chunk.delta.unsqueeze(2)).view(tokens * rows, n * width)
        self.A.view(1, -1).addmm_(self._ones.expand(1, tokens * rows), weighted)


class _Blocks:
    """The blocked scan; its gradients recompute one chunk at a time: a `scan_gradients.Kernel`."""

    def room(self, u: Tensor, A: Tensor) -> Tensor:
        return u.new_empty(-(-u.shape[1] // CHUNK), len(u), A.shape[1], A.shape[0])

    def scan(
        self, inputs: Inputs, state: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return _scan_blocks(*inputs, state, kept)

    def gradients(self, inputs: Inputs, kept: Tensor, grad_y: Tensor, carry: Tensor) -> Inputs:
        u, delta, A, B, C, D = inputs
        plan = _Plan(u, A, backward=True)
        grads = _Gradients(u, A, B, D, grad_y)
        for block in plan.blocks:
            for i in reversed(range(len(plan.chunks))):
                at = (block, plan.chunks[i])
                u_c, delta_c, B_c, C_c, grad_c = (
                    x[at].transpose(0, 1) for x in (u, delta, B, C, grad_y)
                )
                buffers = plan.buffers(*at)
                buffers.load(u_c, delta_c, B_c, C_c)
                buffers.grad.copy_(grad_c)
                buffers.rescan(kept[i, block])
                buffers.scan_adjoints(carry[block])
                grads.collect(buffers, u_c, at)
        return grads.u, grads.delta, grads.A.t(), grads.B, grads.C, grads.D


_blocks = differentiable("torch", _Blocks())
