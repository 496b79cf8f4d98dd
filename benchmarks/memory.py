"""Compare the memory that a selective scan takes with mambapy's: `python -m benchmarks.memory`."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

from benchmarks.ledger import Row, note

SHAPES = {(64, 60, 256, 16): 8.0, (8, 1000, 256, 16): 20.0}
"""Shapes (B, L, E, N), and how many times less than the peer both of our scans are to take."""
ROOT = Path(__file__).parents[1]


def extra(side: str, shape: tuple[int, ...]) -> float:
    """Scan forward and backward in a process of its own; give what that took at its peak, in MB.

    Args:
        side: "native", "torch" or "mambapy".
        shape: (B, L, E, N).

    Raises:
        RuntimeError: The process failed.
    """
    words = [sys.executable, "-m", "benchmarks.memory", side, *map(str, shape)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {side} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def measure(side: str, shape: tuple[int, ...]) -> float:
    """Do so in this process: the peak of resident memory above what was resident before, in MB."""
    import torch

    from benchmarks import scan

    torch.set_num_threads(1)
    scanner = scan.parallel if side == "mambapy" else scan.ours(side)  # type: ignore[arg-type]
    scan.forward_backward(scanner, scan.make_arguments(1, 2, 3, 4))()  # whatever it loads
    call = scan.forward_backward(scanner, scan.make_arguments(*shape))
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    gradients = call()
    assert all(bool(x.isfinite().all()) for x in gradients)
    return resident("VmHWM") - before


def resident(name: str) -> float:
    """Read a line of what the kernel knows of this process's memory, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main(repeats: int = 3) -> None:
    """Print and note a line for each shape and each of our scans: medians of processes."""
    if not Path("/proc/self/clear_refs").exists():
        print("not measured: only Linux tells a process's peak of memory and lets it begin anew")
        return
    from decision_policies.ops import scan_native

    sides = ["torch"] if scan_native.problem() else ["native", "torch"]
    print("peak of memory above the inputs, forward and backward of a selective scan, float32")
    for shape, wanted in SHAPES.items():
        found = {
            side: sorted(extra(side, shape) for _ in range(repeats))[repeats // 2]
            for side in [*sides, "mambapy"]
        }
        for side in sides:
            ours, theirs = found[side], found["mambapy"]
            print(f"{shape!s:20} {side:8} {ours:7.1f} MB {theirs:9.1f} MB {theirs / ours:6.1f}x")
            what = f"{side} scan, forward+backward, peak of memory, (B, L, E, N) = {shape}"
            note(Row(what, ours, "mambapy", theirs, None, wanted, unit="MB"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(sys.argv[1], tuple(map(int, sys.argv[2:]))))
    else:
        main()
