"""Darkroom, Darkroom Hard and Darkroom Dynamic: find the goal of a room without seeing it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from decision_policies.envs.grid import MOVES, Grid, distances, paid
from decision_policies.envs.simulator import GOAL, Floats, Ints, ObservationForm, Task
from decision_policies.envs.single import SingleEnv

PERMUTATIONS: Ints = np.array(list(itertools.permutations(range(len(MOVES)))))
"""What the five actions mean in each of the 120 tasks of Darkroom Dynamic, (120, 5)."""


class Darkroom(Grid):
    """Rooms in which the agent starts in the middle and is paid for being on the goal.

    The tasks are the goal's cells, the middle included; in Darkroom Dynamic, where the goal is
    always the lower right corner, they are the orders of the five actions.

    Args:
        tasks: Task of each room, (n,): the goal's cell, or a row of `PERMUTATIONS`.
        size: Cells along each side.
        horizon: Steps of an episode.
        hard: Pay for the first time on the goal only; the episode goes on without reward.
        permuted: Darkroom Dynamic.
        observation: "discrete" or "box"; see `Grid`.

    References:
        Laskin et al., "In-context RL with Algorithm Distillation", arXiv 2210.14215, section 4.1;
        Huang et al. (DM-H), arXiv 2406.00079, for the large rooms; Lee et al., "Supervised
        Pretraining Can Learn In-Context RL", arXiv 2306.14892, for permuted actions.
    """

    def __init__(
        self,
        tasks: ArrayLike,
        size: int = 9,
        horizon: int = 20,
        *,
        hard: bool = False,
        permuted: bool = False,
        observation: ObservationForm = "discrete",
    ) -> None:
        self.hard = hard
        self.permuted = permuted
        self.n_tasks = len(PERMUTATIONS) if permuted else size * size
        self.n_states = size * size * (2 if hard else 1)
        super().__init__(tasks, size, horizon, observation)

    @property
    def goals(self) -> Ints:
        """Cells of the goals, (n, 2)."""
        if self.permuted:
            return np.tile((self.size - 1, 0), (self.n, 1))
        return self.places(self.tasks)

    def describe(self, task: int) -> dict[str, Any]:
        """See `Simulator.describe`: the goal [x, y], or the moves that the actions make."""
        if self.permuted:
            return {"moves": PERMUTATIONS[task].tolist()}
        return {"goal": self.named(task)}

    def states(self) -> Ints:
        """See `Simulator.states`: the cell, and in Darkroom Hard whether the goal has paid."""
        spent = self.found if self.hard else np.zeros(self.n, bool)
        return np.asarray(self.cells(self.position) + spent * self.size**2, np.int64)

    def optimal_actions(self, rng: np.random.Generator) -> Ints:
        """See `Simulator.optimal_actions`."""
        moves = self.towards(self.goals, rng)
        if self.permuted:
            return np.asarray((PERMUTATIONS[self.tasks] == moves[:, None]).argmax(1))
        return moves

    def optimal_returns(self) -> Floats:
        """See `Simulator.optimal_returns`: a reward on arrival and, unless hard, ever after."""
        arrival = np.maximum(distances(self.position, self.goals), 1)
        left = np.maximum(self.horizon - self.time - arrival + 1, 0)
        return paid((left > 0) & ~self.found) if self.hard else left.astype(np.float64)

    def _number(self, **task: Any) -> int:
        if not self.permuted:
            return self.cell("goal", task["goal"])
        same = np.flatnonzero([list(task["moves"]) == row for row in PERMUTATIONS.tolist()])
        if not len(same):
            raise ValueError(f"moves must be 0 to 4 in some order, got {task['moves']!r}")
        return int(same[0])

    def _reset(self, rng: np.random.Generator) -> None:
        self.position = np.full((self.n, 2), self.size // 2)
        self.found = np.zeros(self.n, bool)
        """Whether the goal has paid, (n,)."""

    def _step(self, actions: Ints) -> Floats:
        rows = np.arange(self.n)
        self.move(PERMUTATIONS[self.tasks][rows, actions] if self.permuted else actions)
        there = (self.position == self.goals).all(1)
        rewards = paid(there & ~self.found) if self.hard else paid(there)
        self.found |= there
        return rewards

    def _things(self, world: int) -> dict[int, Ints]:
        return {GOAL: self.goals[world]}


class DarkroomEnv(SingleEnv):
    """One `Darkroom` as a gymnasium environment; see there and `SingleEnv` for the arguments."""

    def __init__(
        self,
        size: int = 9,
        horizon: int = 20,
        *,
        hard: bool = False,
        permuted: bool = False,
        observation: ObservationForm = "discrete",
        task: Task | None = None,
        render_mode: str | None = None,
    ) -> None:
        room = Darkroom([0], size, horizon, hard=hard, permuted=permuted, observation=observation)
        super().__init__(room, task, render_mode)
