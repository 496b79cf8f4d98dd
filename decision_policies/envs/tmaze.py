"""Passive T-maze: remember through a corridor of any length what was seen at its start."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from decision_policies.envs.simulator import (
    AGENT,
    AGENT_ON_GOAL,
    FLOOR,
    GOAL,
    WALL,
    Floats,
    Ints,
    ObservationForm,
    Simulator,
    Task,
    check_form,
    check_whole,
)
from decision_policies.envs.single import SingleEnv

RIGHT, UP, LEFT, DOWN = range(4)


class TMaze(Simulator):
    """T-shaped mazes; which of the two arms pays is seen at the very first step only.

    The agent starts at x = 0 and has just the steps it needs: `corridor_length` to the right, and
    one up or down. Then the episode ends, and pays 1 where the agent stands in the right arm.

    Args:
        tasks: Task of each maze, (n,): 0, the lower arm pays, or 1, the upper.
        corridor_length: Steps L from the start to the junction.
        penalty: Reward, 0 or less, of every other step after which the agent is behind the
            fastest one; -1 / L in the source, 0 in DM-H.
        observation: "box", two floats: 1 at the junction and in the arms, else 0; and the side,
            -1 or 1, of the goal at the first step, of the arm in an arm, else 0. "discrete", one
            number for each of these six pairs.

    References:
        Ni et al., "When Do Transformers Shine in RL?", arXiv 2307.03864, section 4.1; Huang et al.
        (DM-H), arXiv 2406.00079, appendix, without penalty.
    """

    action_space = spaces.Discrete(4)
    terminates = True
    redraws = True
    n_tasks = 2

    def __init__(
        self,
        tasks: ArrayLike,
        corridor_length: int = 10,
        *,
        penalty: float = 0.0,
        observation: ObservationForm = "box",
    ) -> None:
        check_form(observation)
        check_whole("corridor_length", corridor_length, 1)
        if not penalty <= 0.0:
            raise ValueError(f"penalty must be 0 or less, got {penalty}")
        self.corridor_length = corridor_length
        self.penalty = penalty
        self.observation = observation
        self.observation_space = spaces.Discrete(6)
        if observation == "box":
            low, high = np.array([0, -1], np.float32), np.array([1, 1], np.float32)
            self.observation_space = spaces.Box(low, high)
        self.n_states = 2 * (corridor_length + 3)
        super().__init__(tasks, corridor_length + 1)

    @property
    def sides(self) -> Ints:
        """Side of each goal, (n,), -1 or 1."""
        return 2 * self.tasks - 1

    def describe(self, task: int) -> dict[str, Any]:
        """See `Simulator.describe`: the side of the goal, -1 or 1."""
        return {"goal": 2 * int(task) - 1}

    def observe(self) -> NDArray[Any]:
        """See `Simulator.observe`."""
        junction = self.x == self.corridor_length
        side = self.sides if self.time == 0 else self.y
        if self.observation == "box":
            return np.stack((junction, side), -1).astype(np.float32)
        return np.asarray(3 * junction + side + 1, np.int64)

    def states(self) -> Ints:
        """See `Simulator.states`: where the agent is, and the side it has seen."""
        place = self.x + np.where(self.y == 0, 0, np.where(self.y > 0, 1, 2))
        return place + (self.corridor_length + 3) * self.tasks

    def optimal_actions(self, rng: np.random.Generator) -> Ints:
        """See `Simulator.optimal_actions`."""
        turn = np.where(self.sides > 0, UP, DOWN)
        return np.where(self.x < self.corridor_length, RIGHT, turn)

    def optimal_returns(self) -> Floats:
        """See `Simulator.optimal_returns`; a step that is lost cannot be made good."""
        left = self.horizon - self.time
        if not left:
            return np.zeros(self.n)
        needed = self.corridor_length - self.x + 1
        return np.where(needed <= left, 1.0, self.penalty * (left - 1))

    def picture(self, world: int) -> NDArray[np.uint8]:
        """See `Simulator.picture`."""
        seen = np.full((3, self.corridor_length + 1), WALL, np.uint8)
        seen[1], seen[:, -1] = FLOOR, FLOOR
        seen[1 - self.sides[world], -1] = GOAL
        place = (1 - self.y[world], self.x[world])
        seen[place] = AGENT if seen[place] == FLOOR else AGENT_ON_GOAL
        return seen

    def _number(self, **task: Any) -> int:
        if task["goal"] not in (-1, 1):
            raise ValueError(f"goal must be -1 (down) or 1 (up), got {task['goal']!r}")
        return (int(task["goal"]) + 1) // 2

    def _reset(self, rng: np.random.Generator) -> None:
        self.x: Ints = np.zeros(self.n, np.int64)
        """Steps from the start, (n,)."""
        self.y: Ints = np.zeros(self.n, np.int64)
        """0 in the corridor, -1 or 1 in an arm, (n,)."""

    def _step(self, actions: Ints) -> Floats:
        dx = (actions == RIGHT).astype(np.int64) - (actions == LEFT)
        dy = (actions == UP).astype(np.int64) - (actions == DOWN)
        in_corridor = self.y == 0
        self.y = np.clip(self.y + dy * (self.x == self.corridor_length), -1, 1)
        self.x = np.clip(self.x + dx * in_corridor, 0, self.corridor_length)
        if self.ended:
            return np.asarray(self.y == self.sides, np.float64)
        return np.where(self.x < self.time, self.penalty, 0.0)


class TMazeEnv(SingleEnv):
    """One `TMaze` as a gymnasium environment; see there and `SingleEnv` for the arguments.

    Unless a task is given, every reset draws the side of the goal anew.
    """

    def __init__(
        self,
        corridor_length: int = 10,
        *,
        penalty: float = 0.0,
        observation: ObservationForm = "box",
        task: Task | None = None,
        render_mode: str | None = None,
    ) -> None:
        maze = TMaze([0], corridor_length, penalty=penalty, observation=observation)
        super().__init__(maze, task, render_mode)
