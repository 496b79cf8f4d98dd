"""The selective scan by Triton on a GPU: states in registers, one launch for each direction."""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

from decision_policies.ops import scan_common
from decision_policies.ops.scan_common import dense
from decision_policies.ops.scan_gradients import Inputs, differentiable

CHUNK = 16
"""Tokens between two states that the forward pass keeps."""

CHANNELS = 32
"""Channels of a program: one for each thread of a warp."""

STATES_OF_A_WARP = 16
"""States, rounded up to a power of two, that one warp holds; a program has more warps for more."""

KIND = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
"""Kind of device whose tensors it takes; Triton's interpreter, for tests, takes the CPU's."""

TAKES = "it takes float32, bfloat16 and float16 tensors on a GPU only"


def fits(tensors: tuple[Tensor | None, ...]) -> bool:
    """Whether the kernels can take them."""
    return scan_common.takes(tensors, KIND)


@cache
def problem() -> str:
    """Say why the kernels cannot be used, in one line, and log it; nothing where they can.

    Before the first use a scan of odd sizes is compared with `scan_torch`, values and gradients.
    """
    why = scan_common.fault_of_package("triton", _kernels, selective_scan, KIND)
    return scan_common.pass_over("triton", why)


@cache
def _kernels() -> Any:
    """Import the kernels, and Triton with them."""
    return importlib.import_module("decision_policies.ops.triton_kernels")


def _launch(name: str, inputs: tuple[Tensor, ...], others: tuple[Tensor | None, ...]) -> None:
    """Run a kernel over u, delta, A, B, C, D and the others, unless there is nothing to scan."""
    u, delta, A, B, C, _ = inputs
    rows, length, width = u.shape
    n = A.shape[1]
    if u.numel() == 0:
        return
    states = 1 << (n - 1).bit_length()
    strides = [step for x in (u, delta, B, C) for step in x.stride()[:2]]
    with torch.cuda.device_of(u):  # type: ignore[no-untyped-call]
        getattr(_kernels(), name)[rows, -(-width // CHANNELS)](
            *inputs,
            *others,
            *(length, width, n),
            *strides,
            *A.stride(),
            STATES=states,
            CHANNELS=CHANNELS,
            CHUNK=CHUNK,
            num_warps=min(8, max(1, states // STATES_OF_A_WARP)),
        )


class _Triton:
    """Both directions, a `scan_gradients.Kernel`.

    For gradients the state is kept every `CHUNK` tokens and computed again in between: memory grows
    with B * E * N * (CHUNK + L / CHUNK).
    """

    def room(self, u: Tensor, A: Tensor) -> Tensor:
        return u.new_empty(len(u), -(-u.shape[1] // CHUNK), A.shape[1], A.shape[0])

    def scan(
        self, inputs: Inputs, state: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        u, _, A, *_ = inputs
        y, last = u.new_empty(u.shape), u.new_empty(len(u), A.shape[1], A.shape[0])
        state = None if state is None else state.contiguous()
        _launch("scan_forward", _laid_out(inputs), (state, y, last, kept))
        return y, last

    def gradients(self, inputs: Inputs, kept: Tensor, grad_y: Tensor, carry: Tensor) -> Inputs:
        u, _, _, B, _, _ = inputs
        rows, _, width = u.shape
        again = u.new_empty(rows, CHUNK, *carry.shape[1:])
        grad_u, grad_delta = u.new_empty(u.shape), u.new_empty(u.shape)
        of_A, of_D = torch.empty_like(carry), u.new_empty(rows, width)
        of_B, of_C = (u.new_empty(-(-width // CHANNELS), *B.shape) for _ in range(2))
        out = (grad_u, grad_delta, of_A, of_B, of_C, of_D)
        _launch("scan_backward", _laid_out(inputs), (kept, again, grad_y, carry, *out))
        return grad_u, grad_delta, of_A.sum(0).t(), of_B.sum(0), of_C.sum(0), of_D.sum(0)


def _laid_out(inputs: Inputs) -> Inputs:
    """The same with the neighbours that the kernels want."""
    u, delta, A, B, C, D = inputs
    return dense(u), dense(delta), A, dense(B), dense(C), D.contiguous()


selective_scan = differentiable("triton", _Triton())
"""Scan float32 tensors on a GPU as ``decision_policies.ops.selective_scan`` does."""
