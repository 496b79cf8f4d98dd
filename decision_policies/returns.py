"""ReturnStatistics: the returns of training data in a few figures, and words that ask by them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from decision_policies.errors import CheckpointError
from decision_policies.spaces import LARGEST

PERCENTS = (0, 1, *range(5, 100, 5), 99, 100)
TOPS = (1, 2, 5, 10, 20, 30, 50, 75, 100)
WORD = re.compile(r"max|p(?P<percent>[0-9]+(\.[0-9]+)?)|mean_top(?P<top>[0-9]+(\.[0-9]+)?)")


@dataclass(frozen=True)
class ReturnStatistics:
    """Returns of the episodes that a policy learnt from; stored in its checkpoint.

    Attributes:
        episodes: Number E of episodes.
        percentiles: The percentiles 0, 1, 5, 10, ..., 95, 99 and 100 of their returns.
        top_means: Mean returns of the best 1, 2, 5, 10, 20, 30, 50, 75 and 100 percent of them,
            rounded up to whole episodes.
    """

    episodes: int
    percentiles: tuple[float, ...]
    top_means: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: A figure is missing, not finite in float32, or out of order.
        """
        if type(self.episodes) is not int or self.episodes < 1:
            raise ValueError(f"returns.episodes must be at least 1, got {self.episodes!r}")
        rising, falling = self.percentiles, self.top_means[::-1]
        for name, figures, places in (
            ("percentiles", rising, PERCENTS),
            ("top_means", falling, TOPS),
        ):
            sound = len(figures) == len(places) and all(abs(x) <= LARGEST for x in figures)
            if not sound or any(a > b for a, b in pairwise(figures)):
                raise ValueError(f"returns.{name} must be {len(places)} finite numbers in order")

    @classmethod
    def of(cls, returns: ArrayLike) -> ReturnStatistics:
        """Take the figures of at least one episode's return."""
        ordered = np.sort(np.asarray(returns, np.float64))[::-1]
        kept = [-(-len(ordered) * top // 100) for top in TOPS]
        means = np.minimum([ordered[:n].mean() for n in kept], ordered[0])  # rounding aside
        return cls(
            episodes=len(ordered),
            percentiles=tuple(np.maximum.accumulate(np.percentile(ordered, PERCENTS)).tolist()),
            top_means=tuple(np.minimum.accumulate(means).tolist()),
        )

    def __str__(self) -> str:
        """Say the figures that one looks at first."""
        figures = ", ".join(f"p{p} {self.percentile(p):.5g}" for p in (0, 10, 50, 90, 100))
        return f"{self.episodes} episodes: {figures}, mean_top10 {self.mean_top(10):.5g}"

    def percentile(self, percent: float) -> float:
        """Return that this percentage of the episodes stays below; straight between the figures."""
        return float(np.interp(percent, PERCENTS, self.percentiles))

    def mean_top(self, percent: float) -> float:
        """Mean return of the best percentage of the episodes; its sum is straight between them."""
        if percent <= TOPS[0]:
            return self.top_means[0]
        sums = np.multiply(TOPS, self.top_means)
        return float(np.interp(percent, TOPS, sums)) / percent

    def to_json(self) -> dict[str, Any]:
        """Describe the figures in plain JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: object) -> ReturnStatistics:
        """Rebuild the figures from `to_json`'s description.

        Raises:
            CheckpointError: An entry is missing, unexpected, of the wrong type or out of range.
        """
        if not isinstance(data, Mapping) or set(data) != {f.name for f in fields(cls)}:
            raise CheckpointError(f"spec.returns: entries missing or unexpected in {data!r:.200}")
        for name in ("percentiles", "top_means"):
            figures = data[name]
            if not isinstance(figures, list) or not all(map(_is_single, figures)):
                raise CheckpointError(f"spec.returns.{name}: expected a list of finite numbers")
        try:
            return cls(data["episodes"], tuple(data["percentiles"]), tuple(data["top_means"]))
        except ValueError as error:
            raise CheckpointError(f"spec.{error}") from error


def _is_single(value: object) -> bool:
    return isinstance(value, (int, float)) and type(value) is not bool and abs(value) <= LARGEST


def check_word(word: str) -> re.Match[str]:
    """Check that a word asks for a return.

    Raises:
        ValueError: It does not.
    """
    found = WORD.fullmatch(word)
    percent = found and float(found["percent"] or found["top"] or 100)
    if found is None or percent is None or percent > 100 or (found["top"] and percent == 0):
        raise ValueError(
            f"target_return={word!r} asks for nothing: give a number, 'max', a percentile of the "
            "data's returns from 'p0' to 'p100', or 'mean_top10', the mean of the best 10 percent"
        )
    return found


def asked_for(word: str, returns: ReturnStatistics | None) -> float:
    """Say which return a word asks for.

    Args:
        word: "max", "p90" (any percentile) or "mean_top10" (any percentage over 0).
        returns: Those of the training data; None: they are not known.

    Raises:
        ValueError: The word is none of these, or the returns are not known.
    """
    found = check_word(word)
    if returns is None:
        raise ValueError(
            f"target_return={word!r} needs the returns of the training data, but this policy does "
            "not know them: its checkpoint has no spec.returns (an older version saved it), or it "
            "was made without data. Ask for a number, or learn anew"
        )
    if found["top"]:
        return returns.mean_top(float(found["top"]))
    return returns.percentile(float(found["percent"] or 100))


def largest(values: NDArray[np.float32]) -> float:
    """Find the largest absolute value of at least one, without a copy of all."""
    return float(max(-values.min(), values.max()))
