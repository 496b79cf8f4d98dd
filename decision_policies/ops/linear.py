"""The linear map, by oneDNN where torch's own matrix product is slow: CPUs not made by Intel.

On a CPU torch multiplies float32 matrices by MKL, which runs at half speed or less on other
makers' processors. The choice depends on the machine and the shape only, never on a timing, so
equal runs stay bit-equal.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LEAST_ROWS = 128
"""With fewer rows than this, torch's own product and gradient have less to set up."""

LEAST_PRODUCTS = 2**21
"""The same of multiplications where no gradients are wanted, whatever the number of rows."""

LEAST_WIDTH = 32
"""Narrower products than this are slower in oneDNN, the gradient of the weights many times."""

SWITCH = "DECISION_POLICIES_LINEAR"
"""Environment variable: "torch" or "onednn" overrides the choice."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Map x W^T + b, as `torch.nn.functional.linear` does.

    Args:
        x: (..., I).
        weight: (O, I).
        bias: (O,).

    Returns:
        (..., O). Gradients are of first order only where oneDNN is used, which is never while torch
        compiles or exports: then the choice is not ours.
    """
    fits = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    fits = fits and min(weight.shape) >= LEAST_WIDTH and not torch.is_autocast_enabled("cpu")
    learning = torch.is_grad_enabled()
    rows = LEAST_ROWS if learning else LEAST_PRODUCTS / max(weight.numel(), 1)
    fits = fits and x.numel() >= rows * x.shape[-1] and not torch.compiler.is_compiling()
    if fits and onednn():
        # Every third token is a view with gaps: oneDNN needs a hundred times as long for it.
        flat = x.reshape(-1, x.shape[-1]).contiguous()
        if learning:
            y: Tensor = _Linear.apply(flat, weight, bias)  # type: ignore[no-untyped-call]
        else:
            y = _product(flat, weight, bias)
        return y.view(*x.shape[:-1], -1)
    return F.linear(x, weight, bias)


@cache
def onednn() -> bool:
    """Whether large products go to oneDNN: it is there, right, and the processor wants it."""
    choice = os.environ.get(SWITCH, "")
    if choice not in ("", "torch", "onednn"):
        raise ValueError(f"{SWITCH} must be 'torch' or 'onednn', got {choice!r}")
    if choice == "torch" or (not choice and _intel()):
        return False
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(LEAST_ROWS, 48, generator=generator) for _ in range(2))
    try:
        error = (_product(x, w, None) - F.linear(x, w)).abs().max()
    except (AttributeError, NotImplementedError, RuntimeError):  # no oneDNN in this torch
        return False
    return bool(error < 1e-4)


def _intel() -> bool:
    """Whether the processor is Intel's, or nothing is known of it."""
    information = Path("/proc/cpuinfo")
    return not information.exists() or "GenuineIntel" in information.read_text()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply (R, I) by (O, I) transposed; the operator that torch's own compiler makes use of."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


class _Linear(torch.autograd.Function):
    """The product and its two gradients, which are products too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        gradient = gradient.contiguous()
        return (
            _product(gradient, weight.t(), None) if wanted[0] else None,
            _product(gradient.t(), x.t(), None) if wanted[1] else None,
            gradient.sum(0) if wanted[2] else None,
        )
