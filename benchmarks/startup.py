"""Compare the way to a first action with importing torch: `python -m benchmarks.startup`."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.ledger import Row, note

ROOT = Path(__file__).parent.parent
SIDES = {
    "import torch": "import torch",
    "import decision_policies": "import decision_policies",
    "load and act": (
        "import numpy as np; from decision_policies import DeMa; "
        "DeMa.load('hub/hopper').predict(np.zeros(11, np.float32))"
    ),
}
"""What each process runs."""
TIMES, SECONDS = 1.5, 0.3
"""A first action may take so many times as long as importing torch does, and so much longer."""


class Spent(NamedTuple):
    """What a process took from its start to its end.

    Attributes:
        wall: Seconds that passed.
        cpu: Seconds of processor time, of all its threads.
    """

    wall: float
    cpu: float


def run(code: str, home: Path) -> Spent:
    """Run code in a process of its own, with one thread and a home that is empty.

    Raises:
        RuntimeError: It failed.
    """
    variables = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    variables["PYTHONPATH"] = str(ROOT)
    start = time.perf_counter()
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", code], variables)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    if status:
        raise RuntimeError(f"a process ended with {os.waitstatus_to_exitcode(status)}: {code}")
    return Spent(wall, usage.ru_utime + usage.ru_stime)


def measure(repeats: int, warmup: int) -> dict[str, Spent]:
    """Run all sides in turn, round after round.

    Args:
        repeats: Rounds that count.
        warmup: Rounds before those, which fill the disk's cache.

    Returns:
        The medians of each side.
    """
    samples: dict[str, list[Spent]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(warmup + repeats):
            for name, code in SIDES.items():
                samples[name].append(run(code, Path(home)))
    return {
        name: Spent(*map(statistics.median, zip(*spent[warmup:], strict=True)))
        for name, spent in samples.items()
    }


def main(repeats: int = 15, warmup: int = 1) -> None:
    """Print one line a side, and how far the first action is from what it may take."""
    found = measure(repeats, warmup)
    torch, act = found["import torch"], found["load and act"]
    print("whole processes of one thread, from start to end, with an empty home and no network;")
    print(f"medians of {repeats} alternating runs; load and act: DeMa.load('hub/hopper').predict")
    print(f"{'':26} {'wall':>9} {'CPU':>9}   against import torch: wall, CPU")
    for name, spent in found.items():
        ratios = f"{spent.wall / torch.wall:6.2f}x {spent.cpu / torch.cpu:6.2f}x"
        print(f"{name:26} {spent.wall:7.3f} s {spent.cpu:7.3f} s   {ratios}")
    whole, package = found["load and act"], found["import decision_policies"]
    note(Row("process that loads hub/hopper and acts", whole.cpu, "import torch", torch.cpu))
    note(
        Row("process that imports the package", package.cpu, "import torch", torch.cpu, at_least=20)
    )
    allowed = TIMES * torch.wall + SECONDS
    verdict = "within" if act.wall <= allowed else "beyond"
    print(f"{verdict} {TIMES} times import torch + {SECONDS} s: {act.wall:.2f} of {allowed:.2f} s")


if __name__ == "__main__":
    main()
