"""What torch makes of the code that it traces: a program to train, or one to be written down."""

from __future__ import annotations

from collections.abc import Callable

import torch

_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", bool)  # not in torch 2.6


def compiling_to_train() -> bool:
    """Whether torch compiles what gradients are wanted of, which may hold operators of ours.

    A program that is exported, or has no gradients, is to run where this package is not.
    """
    return torch.compiler.is_compiling() and torch.is_grad_enabled() and not _exporting()
