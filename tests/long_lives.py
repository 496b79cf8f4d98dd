"""Policies act for a million steps: memory stays flat and actions finite (`make long-lives`)."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from decision_policies import DT, DeMa, SequenceAlgorithm
from decision_policies.contexts import (
    NativeContext,
    NativeWindowContext,
    StaggeredContext,
)
from decision_policies.spec import Inference
from tests.fixtures import tiny_spaces

LIMIT = 5 << 20
"""Bytes that a process may grow in a life."""

WARM = 500
"""Steps after which everything has been made once."""

TORCH = 10
"""Lives that torch computes are shorter by this, being so much slower."""


@dataclass(frozen=True)
class Life:
    """What became of a policy.

    Attributes:
        name: System and memory.
        steps: Steps that it acted.
        grown: Bytes of private memory that the process has more than after `WARM` steps.
        finite: Whether all actions were.
        native: Whether the native library acted.
        seconds: Time it took.
    """

    name: str
    steps: int
    grown: int
    finite: bool
    native: bool
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether it may go on for ever."""
        return self.finite and self.grown < LIMIT

    def __str__(self) -> str:
        by = "native" if self.native else "torch"
        ms = 1000 * self.seconds / self.steps
        return (
            f"{self.name:16} {by:6} {self.steps:9,} steps  {self.grown / 1024:7.0f} KiB grown  "
            f"{'finite' if self.finite else 'NOT finite'}  {ms:.3f} ms a step"
        )


def live(algorithm: SequenceAlgorithm, mode: Inference, steps: int) -> Life:
    """Act in two environments: episodes of 700 steps in one, a single one in the other."""
    policy = algorithm.make_policy(*tiny_spaces(discrete=False), target_return=50.0)
    policy = policy.fork(inference=mode)
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(997, 2, 3)).astype(np.float32)
    rewards = rng.normal(size=(1009, 2)) / 100
    finite, before = True, 0
    policy.predict(observations[0])
    assert policy._session is not None
    context = policy._session.context
    inner = context.inner if isinstance(context, StaggeredContext) else context
    native = isinstance(inner, NativeContext | NativeWindowContext)
    steps = steps if native else steps // TORCH
    start = time.perf_counter()
    for step in range(1, WARM + steps):
        if step == WARM:
            before, start = private(), time.perf_counter()
        policy.observe(rewards[step % 1009], terminated=[step % 700 == 0, False])
        action, _ = policy.predict(observations[step % 997])
        finite &= bool(np.isfinite(action).all())
    seconds = time.perf_counter() - start
    name = f"{type(algorithm).__name__} {mode}"
    return Life(name, steps, private() - before, finite, native, seconds)


def private() -> int:
    """Bytes of memory that are this process's own."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def lives(steps: int) -> list[Life]:
    """Live in every way to remember, by the native library and by torch."""
    made = []
    for system in (DeMa, DT):
        for mode in get_args(Inference):
            made.append(live(system(d_model=16, n_layers=1, context_length=6, seed=0), mode, steps))
            sys.stdout.write(f"{made[-1]}\n")
            sys.stdout.flush()
    return made


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.long_lives", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of each native life")
    torch.set_num_threads(1)
    return int(not all(life.sound for life in lives(parser.parse_args().steps)))


if __name__ == "__main__":
    sys.exit(main())
