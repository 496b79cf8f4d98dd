"""Compile the Triton kernels for a GPU that is not there, by the calls that would launch them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from decision_policies.ops import scan_triton, triton_kernels
from tests.ops.test_selective_scan import make_arguments

SIZES = [(2, 1, 16, 16), (2, 60, 33, 17)]  # Triton compiles anew for 1 and for multiples of 16


class Driver:
    """What Triton asks a driver before it compiles."""

    def get_current_target(self) -> Any:
        return GPUTarget("cuda", 80, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """A kernel that is compiled where it would be launched."""

    def __init__(self, name: str) -> None:
        self.kernel = getattr(triton_kernels, name)

    def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
        return partial(self._compile, grid)

    def _compile(self, grid: tuple[int, int], *given: Any, **options: Any) -> None:
        made = self.kernel.warmup(*given, grid=grid, **options)
        target, name = made.metadata.target, self.kernel.__name__
        code = "machine code" if made.asm["cubin"] else "nothing"
        sys.stdout.write(f"{target.backend} {target.arch} {name} {grid}: {code}\n")


def main() -> None:
    """Print a line for each kernel that was compiled."""
    names = ("scan_forward", "scan_backward")
    kernels = SimpleNamespace(**{name: Compiled(name) for name in names})
    scan_triton._kernels = lambda: kernels  # type: ignore[assignment]
    driver.set_active(Driver())
    for size in SIZES:
        arguments = make_arguments(*size, dtype=torch.float32)
        scan_triton.selective_scan(*arguments[:6])
        y, last = scan_triton.selective_scan(*(x.requires_grad_() for x in arguments))
        (y.sum() + last.sum()).backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
