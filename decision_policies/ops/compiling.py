"""torch.compile for what trains, with our kernels in it as whole operators."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import ParamSpec, TypeVar, cast

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

    What comes out does not depend on what was compiled before. torch keeps eight programs of one
    function's code and runs it uncompiled beyond them: a copy of the code has eight of its own.
    And each is for fixed shapes, where torch would allow for shapes that it has seen elsewhere.

    Args:
        function: What a gradient is taken of: a plain function, without a closure.
        kind: Kind of device that its tensors are on.
    """
    choose_kernels(kind)
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    return cast(Callable[P, R], torch.compile(copy, dynamic=False))
