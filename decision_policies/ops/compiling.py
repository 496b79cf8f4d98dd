"""torch.compile for what trains, with our kernels in it as whole operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from decision_policies.ops import linear
from decision_policies.ops.selective_scan import choose_for_compiled

P = ParamSpec("P")
R = TypeVar("R")


def choose_kernels(kind: str) -> None:
    """Check the kernels that compiled models may call: that cannot be done while compiling.

    Args:
        kind: Kind of device that the models are on.
    """
    choose_for_compiled(kind)
    linear.choose_for_compiled()


def compiled(function: Callable[P, R], kind: str) -> Callable[P, R]:
    """Compile a function of tensors, at its first call.

    Args:
        function: What a gradient is taken of.
        kind: Kind of device that its tensors are on.
    """
    choose_kernels(kind)
    return torch.compile(function)
