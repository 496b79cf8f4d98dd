"""The selective scan by the package `mamba_ssm`, where there is one and no initial state."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from decision_policies.ops import scan_common, scan_torch

KIND = "cuda"
"""Kind of device whose tensors it takes."""

LARGEST_STATE = 256
"""Largest N that its kernels are made for."""

TAKES = (
    "it takes float32, bfloat16 and float16 tensors on a GPU, no initial state, and N up to "
    f"{LARGEST_STATE}"
)


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: None = None
) -> tuple[Tensor, Tensor]:
    """Scan; arguments and results are those of ``decision_policies.ops.selective_scan``.

    All tensors are float32 on a GPU. `mamba_ssm` lays sequences out as (B, E, L) and the state as
    (B, E, N). It leaves the gradient of the last state out; where that is wanted, it is computed by
    `scan_torch`, which scans once more.
    """
    along = [x.transpose(1, 2).contiguous() for x in (u, delta, B, C)]
    y, last = _kernel()(
        along[0], along[1], A.contiguous(), along[2], along[3], D, return_last_state=True
    )
    last = _Last.apply(last.detach().transpose(1, 2), u, delta, A, B, C, D)  # type: ignore[no-untyped-call]
    return y.transpose(1, 2), last


def fits(tensors: tuple[Tensor | None, ...]) -> bool:
    """Whether its kernels can take them."""
    a = tensors[2]
    small = a is not None and a.shape[1] <= LARGEST_STATE
    return tensors[6] is None and small and scan_common.takes(tensors, KIND)


@cache
def problem() -> str:
    """Say why the package cannot be used, in one line, and log it; nothing where it can.

    Before the first use a scan of odd sizes is compared with `scan_torch`, values and gradients.
    """
    why = scan_common.fault_of_package("mamba_ssm", _kernel, selective_scan, KIND, with_state=False)
    return scan_common.pass_over("mamba_ssm", why)


@cache
def _kernel() -> Any:
    """Import its scan."""
    module = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    return module.selective_scan_fn


class _Last(torch.autograd.Function):
    """The last state, with the gradient that `mamba_ssm` leaves out."""

    @staticmethod
    def forward(ctx: Any, last: Tensor, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        return last.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_last: Tensor) -> Any:
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in ctx.saved_tensors]
            _, last = scan_torch.selective_scan(*leaves)
            return None, *torch.autograd.grad(last, leaves, grad_last)
