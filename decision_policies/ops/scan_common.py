"""What fast scans have in common: which tensors they take, and the check before the first use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from decision_policies.ops import scan_torch
from decision_policies.ops.scan_gradients import Scan
from decision_policies.ops.tracing import compiling_to_train

TOLERANCE = 1e-4
"""Largest difference from `scan_torch` in float64, relative, that is let pass."""

SIZE = (3, 19, 19, 17)
"""B, L, E and N of the check: odd, and longer than a chunk of any of the kernels."""


def takes(tensors: tuple[Tensor | None, ...], kind: str) -> bool:
    """Whether they are plain float32 tensors on that kind of device.

    A program that is written down is not to hold kernels of ours; one compiled to train may.
    """
    plain = (Tensor, torch.nn.Parameter)
    written = torch.compiler.is_compiling() and not compiling_to_train()
    return not written and all(
        x is None or (x.dtype is torch.float32 and x.device.type == kind and type(x) in plain)
        for x in tensors
    )


def dense(x: Tensor) -> Tensor:
    """Give x with neighbours along the last axis; strides of the others may be any."""
    return x if x.stride(-1) == 1 else x.contiguous()


def fault(scan: Scan, kind: str, with_state: bool = True) -> str:
    """Compare a scan with `scan_torch`, values and gradients; say what is wrong, in one line.

    Args:
        scan: What is to be checked.
        kind: Kind of device whose tensors it takes.
        with_state: Whether it takes an initial state.

    Returns:
        Nothing where nothing is wrong.
    """
    arguments = _draw()[: 7 if with_state else 6]
    try:
        ours = _values_and_gradients(scan, [x.to(kind) for x in arguments])
    except Exception as error:  # whatever a compiler, a driver or a foreign package may raise
        return f"it failed its check ({_described(error)})"
    exact = _values_and_gradients(scan_torch.selective_scan, [x.double() for x in arguments])
    wrong = [
        float((left.cpu() - right).abs().max() / right.abs().max())
        for left, right in zip(ours, exact, strict=True)
    ]
    if all(error < TOLERANCE for error in wrong):
        return ""
    return f"it failed its check (relative errors {wrong})"


def fault_of_package(
    package: str, load: Callable[[], Any], scan: Scan, kind: str, with_state: bool = True
) -> str:
    """Say why a package's kernels cannot be used, in one line; nothing where they can.

    Args:
        package: Its name.
        load: Imports its kernels.
        scan: What is to be checked; it calls them.
        kind: See `fault`.
        with_state: See `fault`.
    """
    if kind == "cuda" and not torch.cuda.is_available():
        return "torch can use no GPU"
    try:
        load()
    except Exception as error:  # one that is broken, or built for another torch, may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            return f"{package} is not installed"
        return f"{package} cannot be imported ({_described(error)})"
    return fault(scan, kind, with_state)


def pass_over(name: str, why: str) -> str:
    """Log one line that says why kernels are not used, if they are not; give the reason back."""
    if why:
        logging.getLogger(__name__).info("%s kernels are not used: %s", name, why)
    return why


def _described(error: Exception) -> str:
    """Put an error into part of a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _draw() -> list[Tensor]:
    """Draw u, delta, A, B, C, D and state."""
    generator = torch.Generator().manual_seed(0)
    rows, length, width, n = SIZE
    shapes: list[tuple[int, ...]] = [(rows, length, width)] * 2
    shapes += [(width, n), (rows, length, n), (rows, length, n), (width,), (rows, n, width)]
    plain: dict[str, Any] = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
    drawn = [torch.randn(shape, **plain) for shape in shapes]
    drawn[1], drawn[2] = drawn[1].exp(), -drawn[2].exp()
    return drawn


def _values_and_gradients(scan: Scan, arguments: list[Tensor]) -> list[Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [x.clone().requires_grad_() for x in arguments]
        y, last = scan(*leaves)
        gradients = torch.autograd.grad((y.sin().sum() + last.sum(),), leaves)
    return [y.detach(), last.detach(), *gradients]
