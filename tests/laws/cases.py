"""Tiny algorithms, models and data for tests; the laws' own, with DeMa where a system is needed."""

from __future__ import annotations

from typing import Any

from decision_policies import DeMa
from decision_policies.laws.cases import (
    MODES,
    SMALL,
    SPACES,
    Case,
    RandomEpisodes,
    sample,
    trajectories,
    windows,
)
from decision_policies.models.model import SequenceModel
from tests.laws.systems import KINDS, MIXERS, SYSTEMS, VARIANTS, WIDTH

__all__ = [
    "KINDS",
    "MIXERS",
    "MODES",
    "SPACES",
    "SYSTEMS",
    "VARIANTS",
    "WIDTH",
    "RandomEpisodes",
    "dema",
    "model",
    "sample",
    "trajectories",
    "windows",
]


def dema(**changes: Any) -> DeMa:
    """Make a tiny DeMa."""
    return DeMa(**{**SMALL, "device": "auto", **changes})


def model(kind: str = "box-box", changes: dict[str, Any] | None = None) -> SequenceModel:
    """Make a tiny DeMa's model with fresh weights, large enough for its memory to matter."""
    return Case(DeMa, kind, changes or {}).model()
