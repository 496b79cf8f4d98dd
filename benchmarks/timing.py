"""Time pieces of code against each other so that their ratios can be trusted."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Medians of two sides measured alternately in one process."""

    left: float
    """CPU time of one call of the left side, in seconds."""

    right: float
    """CPU time of one call of the right side, in seconds."""

    spread: tuple[float, float] = (math.nan, math.nan)
    """Quartiles of the rounds' own ratios."""

    @property
    def ratio(self) -> float:
        """How many times as long as the left side the right side takes."""
        return self.right / self.left


def paired(
    left: Callable[[], object], right: Callable[[], object], repeats: int, warmup: int = 1
) -> Timing:
    """Call both sides in turn, so that whatever slows the machine down slows both.

    The clock is the CPU time of the process, which other programs on the same core do not add
    to; it counts the time of all threads, so compare single-threaded code.

    Args:
        left: the first side; a call that takes well under 0.1 ms should loop by itself.
        right: the second side.
        repeats: timed calls of each side, at least 1.
        warmup: calls of each side that are not timed.

    Raises:
        ValueError: if ``repeats`` is below 1.
    """
    rounds = _rounds((left, right), repeats, warmup)
    ratios = sorted(right / left for left, right in rounds)
    quartiles = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    ours, theirs = _medians(rounds)
    return Timing(ours, theirs, quartiles)


def interleaved(
    calls: Sequence[Callable[[], object]], repeats: int, warmup: int = 1
) -> list[float]:
    """Call several sides in turn, in their order, round after round; see `paired`.

    Args:
        calls: The sides.
        repeats: Timed rounds, at least 1.
        warmup: Rounds that are not timed.

    Returns:
        The median of each side, in seconds of CPU time.

    Raises:
        ValueError: if ``repeats`` is below 1.
    """
    return _medians(_rounds(calls, repeats, warmup))


def _rounds(calls: Sequence[Callable[[], object]], repeats: int, warmup: int) -> list[list[float]]:
    if repeats < 1:
        raise ValueError(f"repeats={repeats} leaves nothing to take a median of: use at least 1.")
    for _ in range(warmup):
        for call in calls:
            call()
    return [[_cpu_seconds(call) for call in calls] for _ in range(repeats)]


def _medians(rounds: list[list[float]]) -> list[float]:
    return [statistics.median(samples) for samples in zip(*rounds, strict=True)]


def _cpu_seconds(call: Callable[[], object]) -> float:
    """Time one call; what it returns is freed outside the measurement."""
    start = time.process_time()
    result = call()
    seconds = time.process_time() - start
    del result
    return seconds
