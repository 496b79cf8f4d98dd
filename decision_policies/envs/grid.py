"""Grid: what the dark rooms share, a square in which the agent sees nothing but its own place."""

from __future__ import annotations

import operator
from abc import abstractmethod
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from decision_policies.envs.simulator import (
    AGENT,
    AGENT_ON_GOAL,
    FLOOR,
    Floats,
    Ints,
    ObservationForm,
    Simulator,
    check_form,
    check_whole,
)

MOVES = np.array([(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)])
"""(x, y) by which the actions move: wait, up, right, down, left."""
WAIT, UP, RIGHT, DOWN, LEFT = range(5)


class Grid(Simulator):
    """Square rooms; a move into a wall leads nowhere.

    Cells are (x, y), both from 0; y grows upwards. Cell (x, y) has the number y * size + x.

    Args:
        tasks: Task of each room, (n,).
        size: Cells along each side.
        horizon: Steps of an episode.
        observation: "discrete", the cell's number; "box", its (x, y) as two floats.
    """

    action_space = spaces.Discrete(5)

    def __init__(
        self, tasks: ArrayLike, size: int, horizon: int, observation: ObservationForm
    ) -> None:
        check_form(observation)
        check_whole("size", size, 2)
        self.size = size
        self.observation = observation
        self.observation_space = spaces.Discrete(size * size)
        if observation == "box":
            self.observation_space = spaces.Box(0.0, size - 1.0, (2,), np.float32)
        self.position: Ints = np.zeros((0, 2), np.int64)
        """Cells in which the agents are, (n, 2)."""
        super().__init__(tasks, horizon)

    def observe(self) -> NDArray[Any]:
        """See `Simulator.observe`."""
        if self.observation == "box":
            return self.position.astype(np.float32)
        return self.cells(self.position)

    def cells(self, places: Ints) -> Ints:
        """Numbers (n,) of cells (n, 2)."""
        return places[:, 1] * self.size + places[:, 0]

    def places(self, cells: Ints) -> Ints:
        """Cells (n, 2) of these numbers (n,)."""
        return np.stack((cells % self.size, cells // self.size), -1)

    def cell(self, name: str, place: Any) -> int:
        """Check a cell (x, y) that a user names, and return its number."""
        try:
            x, y = map(operator.index, place)
        except TypeError as error:
            raise ValueError(f"{name} must be two whole numbers (x, y), got {place!r}") from error
        if not (0 <= x < self.size and 0 <= y < self.size):
            raise ValueError(f"{name} must be inside 0 to {self.size - 1} twice, got {place!r}")
        return y * self.size + x

    def named(self, cell: int) -> list[int]:
        """Word a cell as [x, y]."""
        return [int(cell % self.size), int(cell // self.size)]

    def move(self, moves: Ints) -> None:
        """Move the agents by these entries (n,) of `MOVES`."""
        self.position = np.clip(self.position + MOVES[moves], 0, self.size - 1)

    def towards(self, targets: Ints, rng: np.random.Generator) -> Ints:
        """Moves (n,) on a shortest way to cells (n, 2); of two that are, one at random."""
        return self.along(targets, rng.random(self.n) < 0.5)

    def along(self, targets: Ints, sideways_first: NDArray[np.bool_]) -> Ints:
        """Moves (n,) on a shortest way to cells (n, 2); of two that are, the one chosen, (n,)."""
        dx, dy = (targets - self.position).T
        sideways = (dx != 0) & ((dy == 0) | sideways_first)
        along_x = np.where(dx > 0, RIGHT, LEFT)
        along_y = np.where(dy > 0, UP, np.where(dy < 0, DOWN, WAIT))
        return np.where(sideways, along_x, along_y)

    def picture(self, world: int) -> NDArray[np.uint8]:
        """See `Simulator.picture`."""
        seen = np.full((self.size, self.size), FLOOR, np.uint8)
        for code, (x, y) in self._things(world).items():
            seen[y, x] = code
        x, y = self.position[world]
        seen[y, x] = AGENT if seen[y, x] == FLOOR else AGENT_ON_GOAL
        return np.flipud(seen)

    @abstractmethod
    def _things(self, world: int) -> dict[int, Ints]:
        """What lies in a room: the cell of each code."""


def distances(one: Ints, other: Ints) -> Ints:
    """Steps (n,) between cells (n, 2)."""
    return np.asarray(np.abs(one - other).sum(-1), np.int64)


def paid(condition: NDArray[np.bool_]) -> Floats:
    """A reward of 1 where the condition holds, (n,)."""
    return condition.astype(np.float64)
