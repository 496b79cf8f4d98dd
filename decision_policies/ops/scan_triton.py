"""The selective scan by Triton on a GPU: states in registers, one launch for each direction."""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from decision_policies.ops import scan_common
from decision_policies.ops.scan_common import dense

CHUNK = 16
"""Tokens between two states that the forward pass keeps."""

CHANNELS = 32
"""Channels of a program: one for each thread of a warp."""

STATES_OF_A_WARP = 16
"""States, rounded up to a power of two, that one warp holds; a program has more warps for more."""

KIND = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
"""Kind of device whose tensors it takes; Triton's interpreter, for tests, takes the CPU's."""

TAKES = "it takes float32, bfloat16 and float16 tensors on a GPU only"


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan; arguments and results are those of ``decision_policies.ops.selective_scan``.

    All tensors are float32 on a GPU. For gradients the state is kept every `CHUNK` tokens and
    computed again in between: memory grows with B * E * N * (CHUNK + L / CHUNK).
    """
    tensors = (u, delta, A, B, C, D, state)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        y, last = _Scan.apply(*tensors)  # type: ignore[no-untyped-call]
        return y, last
    return _forward((dense(u), dense(delta), A, dense(B), dense(C), D), state, None)


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


def _forward(
    inputs: tuple[Tensor, ...], state: Tensor | None, kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    u, _, A, *_ = inputs
    y, last = u.new_empty(u.shape), u.new_empty(len(u), A.shape[1], A.shape[0])
    state = None if state is None else state.contiguous()
    _launch("scan_forward", (*inputs[:5], inputs[5].contiguous()), (state, y, last, kept))
    return y, last


class _Scan(torch.autograd.Function):
    """The scan with its gradients, for which the states of a chunk are computed again."""

    @staticmethod
    def forward(ctx: Any, *tensors: Any) -> Any:
        u, delta, A, B, C, D, state = tensors
        inputs = (dense(u), dense(delta), A, dense(B), dense(C), D)
        kept = u.new_empty(len(u), -(-u.shape[1] // CHUNK), A.shape[1], A.shape[0])
        ctx.save_for_backward(*inputs, kept)
        ctx.set_materialize_grads(False)
        return _forward(inputs, state, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        grad_y, grad_last = gradients
        *inputs, kept = ctx.saved_tensors
        u, _, _, B, _, D = inputs
        rows, _, width = u.shape
        grad_y = u.new_zeros(u.shape) if grad_y is None else grad_y.contiguous()
        carry = torch.zeros_like(kept[:, 0], memory_format=torch.contiguous_format)
        if grad_last is not None:
            carry.copy_(grad_last)
        again = u.new_empty(rows, CHUNK, *carry.shape[1:])
        grad_u, grad_delta = u.new_empty(u.shape), u.new_empty(u.shape)
        of_A, of_D = torch.empty_like(carry), u.new_empty(rows, width)
        of_B, of_C = (u.new_empty(-(-width // CHANNELS), *B.shape) for _ in range(2))
        out = (grad_u, grad_delta, of_A, of_B, of_C, of_D)
        _launch("scan_backward", (*inputs[:5], D.contiguous()), (kept, again, grad_y, carry, *out))
        grad_state = carry if ctx.needs_input_grad[6] else None
        sums = of_A.sum(0).t(), of_B.sum(0), of_C.sum(0), of_D.sum(0)
        return grad_u, grad_delta, *sums, grad_state
