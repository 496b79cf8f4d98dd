"""Activations of NumPy arrays, in place, for steps that are run without the native library."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from decision_policies.models.native_step import Floats


def silu(x: Floats, y: Floats) -> None:
    """Set y to x sigmoid(x)."""
    part = np.negative(x)
    np.exp(part, out=part)
    np.add(part, 1, out=part)
    np.divide(x, part, out=y)


def _softplus(x: Floats) -> None:
    part = np.minimum(x, 30)  # above, softplus(x) = x
    np.exp(part, out=part)
    np.log1p(part, out=part)
    np.maximum(x, part, out=x)


def _gelu(x: Floats) -> None:
    """With the error function of Abramowitz and Stegun, 7.1.26, as in `native/vector.h`."""
    a = np.abs(x) * np.float32(math.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * a)
    p = np.float32(1.061405429) * t
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p += np.float32(coefficient)
        p *= t
    np.multiply(x, 0.5 * (1 + np.copysign(1 - p * np.exp(-a * a), x)), out=x)


def _gelu_tanh(x: Floats) -> None:
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    np.multiply(x, 0.5 * (1 + np.tanh(inner)), out=x)


ACTIVATE: dict[str, Callable[[Floats], object] | None] = {
    "none": None,
    "tanh": lambda x: np.tanh(x, out=x),
    "softplus": _softplus,
    "relu": lambda x: np.maximum(x, 0, out=x),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
"""By the names of `native_step.ACTIVATIONS`."""
