"""Episodes that tell where each of their steps belongs, for the readers of other tools' data."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import Trajectories

LINE = spaces.Box(-np.inf, np.inf, (2,), np.float32)
PUSH = spaces.Box(-1.0, 1.0, (1,), np.float32)
Episode: TypeAlias = dict[str, NDArray[Any]]


def coded(lengths: tuple[int, ...] = (4, 1, 6, 3)) -> list[Episode]:
    """Episodes whose observations and actions tell (episode, step)."""
    made: list[Episode] = []
    for index, length in enumerate(lengths):
        code = np.array([(index, step) for step in range(length + 1)], np.float32)
        actions = (code[:-1, 1:] + 10 * index) / 100
        made.append({"observations": code, "actions": actions, "rewards": code[:-1, 1] + index})
    return made


def packed(episodes: list[Episode]) -> Trajectories:
    return Trajectories.from_episodes(episodes, LINE, PUSH)


def same(found: Trajectories, expected: Trajectories, *, finals: bool = True) -> None:
    assert np.array_equal(found.rows, expected.rows)
    assert found.offsets.tolist() == expected.offsets.tolist()
    if finals:
        assert found.final_observations is not None and expected.final_observations is not None
        assert np.array_equal(found.final_observations, expected.final_observations)
