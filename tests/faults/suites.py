"""The suites of faults, each whole (`python -m tests.faults`) or as the slice that tests run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.faults import codec, crashes, damage, hubs, pushes, resuming
from tests.faults.counting import Suite

SUITES: dict[str, Callable[[Path, Path, bool], Suite]] = {
    "json": lambda o, r, whole: damage.configs(o, r, 5000 if whole else 120),
    "headers": lambda o, r, whole: damage.headers(o, r, 2000 if whole else 60),
    "truncations": lambda o, r, whole: damage.truncations(
        o, r, *((64, 16) if whole else (4096, 2))
    ),
    "flips": lambda o, r, whole: damage.flips(o, r, 1000 if whole else 40),
    "zips": lambda o, r, whole: damage.zips(o, r, *((300, 1000) if whole else (10, 60))),
    "poisons": lambda o, r, whole: damage.poisons(o, r),
    "round-trips": lambda o, r, whole: codec.round_trips(2000 if whole else 300),
    "spaces": lambda o, r, whole: codec.malformed(500 if whole else 200),
    "hub": lambda o, r, whole: hubs.reading(o, r, 1 if whole else 9),
    "pushes": lambda o, r, whole: pushes.pushing(o, r, 1 if whole else 41),
    "calls": lambda o, r, whole: crashes.kills_at_each_call(r, 1 if whole else 9),
    "room": lambda o, r, whole: crashes.no_room(r, 12 if whole else 3),
    "moments": lambda o, r, whole: crashes.kills_at_any_moment(r, 50 if whole else 6),
    "together": lambda o, r, whole: crashes.together(r, turns=200 if whole else 12),
    "writers": lambda o, r, whole: crashes.together(r, 6, 0, 100 if whole else 8),
    "resumes": lambda o, r, whole: resuming.resumes(r, None if whole else ("DeMa", "DMHybrid")),
}
"""By name: runs with a saved policy, an empty folder, and whether all or a slice is wanted."""
