"""Streams: steps of one environment in the order in which they were made, cut into episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.errors import DatasetError

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
"""An observation that is told twice may have been rounded in between."""
CHUNK = 4096
"""Observations that are compared at once; buffers of images are large."""


@dataclass(frozen=True)
class Stream:
    """Steps of one environment, N of them, one episode after the other.

    Attributes:
        observations: (N, ...), or a mapping of such arrays.
        actions: (N, ...).
        rewards: (N,).
        terminations: Steps that ended an episode, (N,), bool.
        truncations: Steps after which one was cut off, (N,), bool.
        next_observations: What followed each step, before any reset, like `observations`; None:
            unknown.
        headless: Whether the first step may lie within an episode.
    """

    observations: Any
    actions: NDArray[Any]
    rewards: NDArray[Any]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    next_observations: Any = None
    headless: bool = False

    def episodes(self, *, keep_incomplete: bool = False) -> Iterator[dict[str, Any]]:
        """Cut the stream at its ends, and where the next step does not follow from the one before.

        Args:
            keep_incomplete: Also give episodes whose start or end is missing.

        Returns:
            Episodes as `Trajectories.from_episodes` takes them, with `terminations` and
            `truncations`.
        """
        ends = self.terminations | self.truncations
        borders = np.flatnonzero(ends | self._interrupted()) + 1
        start = 0
        for stop in [*borders.tolist(), *([len(ends)] if not ends[-1:].any() else [])]:
            whole = ends[stop - 1 : stop].any() and not (self.headless and start == 0)
            if stop > start and (whole or keep_incomplete):
                yield self._episode(start, stop)
            start = stop

    def _interrupted(self) -> NDArray[np.bool_]:
        """Mark steps whose next observation is not the one that the following step begins with."""
        marks = np.zeros(len(self.terminations), bool)
        if self.next_observations is None:
            return marks
        pairs = zip(_arrays(self.next_observations), _arrays(self.observations), strict=True)
        for following, observed in pairs:
            for start in range(0, len(marks) - 1, CHUNK):
                before = following[start : min(start + CHUNK, len(marks) - 1)]
                after = observed[start + 1 : start + 1 + len(before)]
                same = np.isclose(before, after, equal_nan=True, **CLOSE)
                marks[start : start + len(before)] |= ~same.reshape(len(before), -1).all(1)
        return marks

    def _episode(self, start: int, stop: int) -> dict[str, Any]:
        observations = _each(self.observations, lambda array: array[start:stop])
        if self.next_observations is not None:
            last = _each(self.next_observations, lambda array: array[stop - 1 : stop])
            observations = _joined(observations, last)
        names = ("actions", "rewards", "terminations", "truncations")
        return {
            "observations": observations,
            **{name: getattr(self, name)[start:stop] for name in names},
        }


def box_of(name: str, array: NDArray[Any], low: float, high: float) -> spaces.Box:
    """Make the space of arrays whose bounds nobody has said.

    Args:
        name: The argument that says them, for messages.
        array: (N, ...).
        low: Bound that is usual.
        high: The other.

    Raises:
        DatasetError: The values are no floats, or go beyond.
    """
    shape = array.shape[1:]
    if array.dtype.kind != "f":
        raise DatasetError(
            f"{name} must be said, since {array.dtype} may mean many things: {name}=Discrete(n) or "
            f"{name}=Box(low, high, {shape})"
        )
    if array.size and (np.nanmin(array) < low or np.nanmax(array) > high):
        raise DatasetError(
            f"{name} must be said, since values go from {np.nanmin(array):.6g} to "
            f"{np.nanmax(array):.6g}, beyond [{low:g}, {high:g}]: {name}=Box(low, high, {shape})"
        )
    return spaces.Box(low, high, shape, np.float32)


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _each(part, change) for key, part in value.items()}
    return change(value)


def _arrays(value: Any) -> list[NDArray[Any]]:
    if isinstance(value, Mapping):
        return [array for key in sorted(value) for array in _arrays(value[key])]
    return [value]


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, Mapping):
        return {key: _joined(part, second[key]) for key, part in first.items()}
    return np.concatenate((first, second))
