"""Compare the scans of a GPU with each other: `python -m benchmarks.gpu`; it wants a GPU."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.scan import (
    SHAPES,
    forward,
    forward_backward,
    largest_difference,
    make_arguments,
    ours,
)
from decision_policies.ops import Backend, backends
from decision_policies.ops.selective_scan import KERNELS

REPEATS = 50
SHAPE_OF_A_STEP = (64, 3, 256, 16)
SIDES: tuple[Backend, ...] = ("torch", "triton", "mamba_ssm")


def milliseconds(call: Callable[[], object], repeats: int = REPEATS, warmup: int = 3) -> float:
    """Give the median time of a call on the GPU, by its own clock."""
    for _ in range(warmup):
        call()
    times: list[float] = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(True), torch.cuda.Event(True)  # type: ignore[no-untyped-call]
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def peak_megabytes(call: Callable[[], object]) -> float:
    """Give the most memory that a call takes on top of what there is."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    torch.cuda.synchronize()
    del result
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def compare(shape: tuple[int, int, int, int]) -> None:
    """Print a line for each implementation that there is: its times, its memory and its error."""
    arguments = [x.detach().cuda().requires_grad_() for x in make_arguments(*shape)]
    exact = [x.detach().cpu().double().requires_grad_() for x in arguments]
    truth = forward_backward(ours("torch"), exact)()
    for name in SIDES:
        if name in KERNELS and KERNELS[name].problem():
            print(f"{shape!s:20} {name:10} not measured: {KERNELS[name].problem()}")
            continue
        both = forward_backward(ours(name), arguments)
        wrong = largest_difference(tuple(x.cpu() for x in both()), truth)
        print(
            f"{shape!s:20} {name:10} {milliseconds(forward(ours(name), arguments)):9.3f} ms"
            f" {milliseconds(both):9.3f} ms {peak_megabytes(both):9.1f} MB   {wrong:.0e}",
            flush=True,
        )


def main() -> int:
    """Print the table, or say that there is no GPU to measure; 2 in that case."""
    if not torch.cuda.is_available():
        print("not measured: torch can use no GPU here", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", end="")
    for package in ("triton", "mamba_ssm"):
        try:
            print(f", {package} {version(package)}", end="")
        except PackageNotFoundError:
            print(f", no {package}", end="")
    print(f"\nfloat32, medians of {REPEATS} calls; by itself: {backends()['scan_gpu']}")
    print(
        f"{'(B, L, E, N)':20} {'scan':10} {'forward':>12} {'+ backward':>12} {'memory':>12}   error"
    )
    for shape in (SHAPE_OF_A_STEP, *SHAPES):
        compare(shape)
    return 0


if __name__ == "__main__":
    sys.exit(main())
