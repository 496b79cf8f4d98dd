"""The linear map, by oneDNN where torch's own matrix product is slow: CPUs not made by Intel.

On a CPU torch multiplies float32 matrices by MKL, which runs at half speed or less on other
makers' processors. The choice depends on the machine and the shape only, never on a timing, so
equal runs stay bit-equal.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from decision_policies.ops.tracing import compiling_to_train

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
        (..., O). Gradients are of first order only where oneDNN is used. A program that is written
        down does without oneDNN; one that is compiled to train does not.
    """
    fits = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    fits = fits and min(weight.shape) >= LEAST_WIDTH and not torch.is_autocast_enabled("cpu")
    learning = torch.is_grad_enabled()
    rows = LEAST_ROWS if learning else LEAST_PRODUCTS / max(weight.numel(), 1)
    fits = fits and x.numel() >= rows * x.shape[-1]
    compiling = torch.compiler.is_compiling()
    if fits and (compiling_to_train() and True in _COMPILED if compiling else onednn()):
        # Every third token is a view with gaps: oneDNN needs a hundred times as long for it.
        flat = x.reshape(-1, x.shape[-1]).contiguous()
        bias = None if bias is None else bias.contiguous()  # oneDNN would read past its gaps
        if compiling:
            y: Tensor = _whole_product(flat, weight, bias)
        elif learning:
            y = _Linear.apply(flat, weight, bias)  # type: ignore[no-untyped-call]
        else:
            y = _product(flat, weight, bias)
        return y.view(*x.shape[:-1], -1)
    return F.linear(x, weight, bias)


_COMPILED: set[bool] = set()
"""Whether compiled models are to use oneDNN: that cannot be found out while compiling."""


def choose_for_compiled() -> None:
    """Check oneDNN for models that will be compiled."""
    _COMPILED.clear()
    _COMPILED.add(onednn())


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


@torch.library.custom_op(
    "decision_policies::linear",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
)
def _whole_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same, kept whole: that compiler takes the other one with constant weights only."""
    return _product(x, weight, bias)


@_whole_product.register_fake
def _shape(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(len(x), len(weight))


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _gradients(
    product: Callable[..., Tensor], ctx: Any, gradient: Tensor
) -> tuple[Tensor | None, ...]:
    """The two gradients of a product, which are products too, and the bias's."""
    x, weight = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    gradient = gradient.contiguous()
    return (
        product(gradient, weight.t(), None) if wanted[0] else None,
        product(gradient.t(), x.t(), None) if wanted[1] else None,
        gradient.sum(0) if wanted[2] else None,
    )


_whole_product.register_autograd(partial(_gradients, _whole_product), setup_context=_save)


class _Linear(torch.autograd.Function):
    """The same for autograd where nothing is compiled: it costs less to call."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        _save(ctx, (x, weight), x)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(_product, ctx, gradient)
