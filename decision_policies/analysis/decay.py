"""How fast a score falls with the distance between tokens, and after how many steps it halves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-6
"""Scores below this share of the largest are left out of a fit: float32 rounds them too roughly."""


@dataclass(frozen=True)
class Decay:
    """Mean absolute score at each distance, and the exponential c 2^(-d / half_life) next to it.

    Attributes:
        distances: (n,), 0 to n - 1, in tokens or in environment steps.
        scores: (layers, n), mean |score| of all pairs of real tokens at a distance.
        half_lives: (layers,), distance over which the fitted exponential halves; inf where the
            scores do not fall, nan where fewer than two of them can be fitted.
        fits: (layers, n), the fitted exponential.
        r_squared: (layers,), share of the variance of log |score| that the fit explains. The nearer
            to 1, the more exponential the decay is.
    """

    distances: NDArray[np.int64]
    scores: NDArray[np.float64]
    half_lives: NDArray[np.float64]
    fits: NDArray[np.float64]
    r_squared: NDArray[np.float64]


@dataclass(frozen=True)
class DecayCurve:
    """Decay of attention with temporal distance.

    Attributes:
        tokens: Distances in tokens, 0 to L - 1.
        steps: Distances in environment steps, 0 to T - 1.
    """

    tokens: Decay
    steps: Decay


def decay_curve(
    matrices: NDArray[Any], tokens_per_step: int = 1, mask: NDArray[np.bool_] | None = None
) -> DecayCurve:
    """Average |score| over all pairs of tokens at each distance, and fit an exponential to it.

    The fit is a straight line through log |score|, by least squares weighted with the number of
    pairs at a distance.

    Args:
        matrices: (layers, B, L, L), as in `HiddenAttention.matrices`.
        tokens_per_step: Tokens of a step; L is a multiple of it.
        mask: (B, L), True for the tokens that count; None is all.

    Returns:
        The curves of each layer, over tokens and over environment steps.

    Raises:
        ValueError: The shapes do not fit.
    """
    array = np.abs(np.asarray(matrices, np.float64))
    if array.ndim != 4 or array.shape[2] != array.shape[3] or array.shape[2] % tokens_per_step:
        raise ValueError(
            f"expected matrices (layers, B, L, L) with L a multiple of {tokens_per_step} tokens a "
            f"step, got shape {array.shape}"
        )
    batch, length = array.shape[1:3]
    real = np.ones((batch, length), bool) if mask is None else np.asarray(mask)
    if real.shape != (batch, length):
        raise ValueError(f"expected a mask of shape {(batch, length)}, got {real.shape}")
    causal = np.tri(length, dtype=bool)
    pairs = (real.sum(0)[:, None] * causal)[causal]  # a pair counts if its later token is real
    sums = np.einsum("bi,kbij->kij", real.astype(np.float64), array)[:, causal]
    place = np.arange(length)
    step = place // tokens_per_step
    return DecayCurve(
        *(
            _decay(sums, pairs, (index[:, None] - index)[causal], int(index[-1]) + 1)
            for index in (place, step)
        )
    )


def _decay(
    sums: NDArray[np.float64], pairs: NDArray[np.int64], distance: NDArray[np.int64], n: int
) -> Decay:
    """Gather sums of scores, and how many they are of, by their distance."""
    counts = np.bincount(distance, pairs, n).astype(np.float64)
    totals = np.stack([np.bincount(distance, layer, n) for layer in sums])
    scores = totals / np.where(counts > 0, counts, np.nan)
    distances = np.arange(n)
    lines = [_line(distances, layer, counts) for layer in scores]
    intercepts, slopes, r_squared = (np.array(column) for column in zip(*lines, strict=True))
    return Decay(
        distances=distances,
        scores=scores,
        half_lives=np.array([_half_life(slope) for slope in slopes]),
        fits=np.exp(intercepts[:, None] + slopes[:, None] * distances),
        r_squared=r_squared,
    )


def _line(
    distances: NDArray[np.int64], scores: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Fit a + b d to log score: a, b and the share of the variance explained; nan if it cannot."""
    usable = (counts > 0) & (scores > FLOOR * np.nanmax(scores, initial=0.0))
    if usable.sum() < 2:
        return math.nan, math.nan, math.nan
    x, y, weight = distances[usable].astype(float), np.log(scores[usable]), counts[usable]
    weight = weight / weight.sum()
    x_mean, y_mean = weight @ x, weight @ y
    slope = weight @ ((x - x_mean) * (y - y_mean)) / (weight @ (x - x_mean) ** 2)
    intercept = y_mean - slope * x_mean
    variance = weight @ (y - y_mean) ** 2
    rest = weight @ (y - intercept - slope * x) ** 2
    return float(intercept), float(slope), float(1 - rest / variance) if variance > 0 else 1.0


def _half_life(slope: float) -> float:
    if math.isnan(slope):
        return math.nan
    return -math.log(2) / slope if slope < 0 else math.inf
