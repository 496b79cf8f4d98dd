"""The selective scan by the native library: states in registers, rows shared out over threads."""

from __future__ import annotations

import ctypes
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from decision_policies.ops import scan_common
from decision_policies.ops.native.library import function, native
from decision_policies.ops.scan_common import dense
from decision_policies.ops.scan_gradients import Inputs, differentiable

CHUNK = 16
"""Tokens between two states that the forward pass keeps; `native/scan.h` has the same number."""

WORTH_A_THREAD = 1 << 18
"""Elements (B * L * E * N) that each thread must have to scan, or fewer threads are woken."""

TAKES = "it takes float32 and bfloat16 tensors on the CPU only"


class _Rows(NamedTuple):
    """The tensors of `struct scan` in native/scan.h whose first axis is the row, in its order."""

    u: Tensor
    delta: Tensor
    B: Tensor
    C: Tensor
    state: Tensor | None
    y: Tensor | None = None
    last: Tensor | None = None
    kept: Tensor | None = None
    grad_y: Tensor | None = None
    grad_state: Tensor | None = None
    grad_u: Tensor | None = None
    grad_delta: Tensor | None = None
    grad_B: Tensor | None = None
    grad_C: Tensor | None = None

    def cut(self, start: int, end: int) -> _Rows:
        """Give the same of some rows."""
        u, delta, B, C = (x[start:end] for x in self[:4])
        return _Rows(u, delta, B, C, *(None if x is None else x[start:end] for x in self[4:]))


def fits(tensors: tuple[Tensor | None, ...]) -> bool:
    """Whether the library can take them: plain float32 tensors on the CPU, and no tracing."""
    return scan_common.takes(tensors, "cpu")


@cache
def problem() -> str:
    """Say why the library cannot be used, in one line; nothing where it can.

    Before the first use a scan of odd sizes is compared with `scan_torch`, values and gradients.
    """
    if native().library is None:
        return native().reason
    why = scan_common.pass_over("native", scan_common.fault(selective_scan, "cpu"))
    return f"{native().reason}: {why}" if why else ""


def _rates(A: Tensor) -> Tensor:
    """Lay the decay rates (E, N) out as the library wants them, (N, E)."""
    return A.detach().t().contiguous()


class _Native:
    """The library's two directions, a `scan_gradients.Kernel`.

    Sums over rows are taken thread by thread, so the gradients of A and D depend on the number of
    torch's threads in their last digit; nothing else does.
    """

    def room(self, u: Tensor, A: Tensor) -> Tensor:
        return u.new_empty(len(u), -(-u.shape[1] // CHUNK), A.shape[1], A.shape[0])

    def scan(
        self, inputs: Inputs, state: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        u, delta, A, B, C, D = inputs
        rates = _rates(A)
        y, last = u.new_empty(u.shape), u.new_empty(len(u), *rates.shape)
        state = None if state is None else state.contiguous()
        rows = _Rows(dense(u), dense(delta), dense(B), dense(C), state, y, last, kept)
        _call("scan_forward", rows, rates, D.contiguous())
        return y, last

    def gradients(self, inputs: Inputs, kept: Tensor, grad_y: Tensor, carry: Tensor) -> Inputs:
        u, delta, A, B, C, D = inputs
        u, delta, B, C = (dense(x) for x in (u, delta, B, C))
        grads = [u.new_empty(x.shape) for x in (u, delta, B, C)]
        rows = _Rows(u, delta, B, C, None, None, None, kept, grad_y, carry, *grads)
        grad_A, grad_D = _call("scan_backward", rows, _rates(A), D.contiguous())
        return grads[0], grads[1], grad_A.t(), grads[2], grads[3], grad_D


def _call(name: str, rows: _Rows, rates: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """Share the rows out over torch's number of threads; give the gradients of A (N, E) and D."""
    count = len(rows.u)
    elements = rows.u.numel() * len(rates)
    threads = min(torch.get_num_threads(), count, elements // WORTH_A_THREAD)
    if threads <= 1:
        return _scan(name, rows, rates, D)
    borders = [count * i // threads for i in range(threads + 1)]
    parts = pairwise(borders[1:])
    jobs = [_POOL.get().submit(_scan, name, rows.cut(*part), rates, D) for part in parts]
    grad_A, grad_D = _scan(name, rows.cut(0, borders[1]), rates, D)
    for job in jobs:
        of_A, of_D = job.result()
        grad_A, grad_D = grad_A + of_A, grad_D + of_D
    return grad_A, grad_D


def _scan(name: str, rows: _Rows, rates: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """Call the library in this thread; ctypes lets the interpreter go meanwhile."""
    backward = rows.grad_y is not None
    sums = (torch.zeros_like(rates), torch.zeros_like(D)) if backward else (rates, D)
    sequences, others = rows[:4], rows[4:]
    slots = [
        *rows.u.shape,
        len(rates),
        *(x.data_ptr() for x in sequences),
        *(s for x in sequences for s in x.stride()[:2]),
        rates.data_ptr(),
        D.data_ptr(),
        *(0 if x is None else x.data_ptr() for x in others),
        *(x.data_ptr() for x in sums),
    ]
    function(name)((ctypes.c_int64 * len(slots))(*slots))
    return sums


class _Pool:
    """Threads for the rows, made when first wanted; a forked process makes its own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin without threads."""
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def get(self) -> ThreadPoolExecutor:
        """Give the threads."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(os.cpu_count(), "decision-policies-scan")
            return self._executor


selective_scan = differentiable("native", _Native())
"""Scan float32 tensors on the CPU as ``decision_policies.ops.selective_scan`` does."""

_POOL = _Pool()
if hasattr(os, "register_at_fork"):  # threads are not forked, and the lock may be held just then
    os.register_at_fork(after_in_child=_POOL.forget)
