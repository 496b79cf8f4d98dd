"""Simulator: n small worlds of one family, each with a task of its own, stepped as NumPy arrays."""

from __future__ import annotations

import copy
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Task: TypeAlias = int | Mapping[str, Any]
ObservationForm: TypeAlias = Literal["discrete", "box"]

WALL, FLOOR, GOAL, KEY, DOOR, AGENT, AGENT_ON_GOAL = range(7)
GLYPHS = "#.GKDA@"
"""What `ansi` shows for each of these codes."""


class Simulator(ABC):
    """n worlds that begin and end their episodes together, since all episodes are equally long.

    What distinguishes the worlds is their task, a number below `n_tasks`; `describe` says what it
    means. Rewards are paid for where a move leads, so waiting on a goal pays at every step.

    Args:
        tasks: Task of each world, (n,).
        horizon: Steps of an episode.

    Attributes:
        observation_space: Space of one world's observation.
        action_space: Space of one world's action.
        horizon: Steps of an episode.
        n_tasks: Number of tasks in the family.
        n_states: Number of Markov states that a world of a given task can be in; see `states`.
        tasks: Task of each world, (n,).
        time: Steps since the episode's start.
        terminates: Whether an episode's end is part of the task; otherwise it is truncated.
        redraws: Whether a task is meant to change from episode to episode.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Discrete
    n_tasks: int
    n_states: int
    terminates: ClassVar[bool] = False
    redraws: ClassVar[bool] = False

    def __init__(self, tasks: ArrayLike, horizon: int) -> None:
        check_whole("horizon", horizon, 1)
        self.horizon = horizon
        self.time = horizon
        self.set_tasks(tasks)

    @property
    def n(self) -> int:
        """Number of worlds."""
        return len(self.tasks)

    @property
    def ended(self) -> bool:
        """Whether the episode is over, or none has begun."""
        return self.time >= self.horizon

    def set_tasks(self, tasks: ArrayLike) -> None:
        """Give each world a task, (n,); to be followed by `reset`.

        Raises:
            ValueError: They are no list of task numbers.
        """
        given = np.asarray(tasks)
        numbers = given.ndim == 1 and given.size and given.dtype.kind in "iu"
        if not numbers or given.min() < 0 or given.max() >= self.n_tasks:
            raise ValueError(f"tasks must be numbers from 0 to {self.n_tasks - 1}, got {tasks!r}")
        self.tasks: Ints = given.astype(np.int64)
        self.time = self.horizon
        self._reset(np.random.default_rng(0))  # so that there is a state to draw and ask about

    def with_tasks(self, tasks: ArrayLike) -> Self:
        """Copy the simulator for other tasks, (n,)."""
        made = copy.deepcopy(self)
        made.set_tasks(tasks)
        return made

    def task_of(self, task: Task) -> int:
        """Turn a task, as a number or as `describe` words it, into its number.

        Raises:
            ValueError: There is no such task.
        """
        if isinstance(task, Mapping):
            keys = sorted(self.describe(0))
            if sorted(task) != keys:
                raise ValueError(f"a task is described by {keys}, got {dict(task)!r}")
            return self._number(**task)
        try:
            number = operator.index(task)
        except TypeError:
            number = -1
        if not 0 <= number < self.n_tasks:
            raise ValueError(
                f"task must be from 0 to {self.n_tasks - 1}, got {task!r}; it is a whole number, "
                "or a mapping as `describe` gives"
            )
        return number

    def reset(self, rng: np.random.Generator) -> NDArray[Any]:
        """Begin an episode in every world.

        Args:
            rng: Draws the first states, where a family has several.

        Returns:
            Observations (n, *observation).
        """
        self.time = 0
        self._reset(rng)
        return self.observe()

    def step(self, actions: ArrayLike) -> tuple[NDArray[Any], Floats]:
        """Take a step in every world.

        Args:
            actions: (n,).

        Returns:
            Observations (n, *observation) and rewards (n,).

        Raises:
            RuntimeError: The episode is over.
            ValueError: Not an action for each world.
        """
        if self.ended:
            raise RuntimeError("the episode is over; call reset")
        chosen = np.asarray(actions)
        if chosen.shape != (self.n,) or chosen.dtype.kind not in "iu":
            raise ValueError(f"expected {self.n} actions, whole numbers; got {actions!r}")
        if chosen.min() < 0 or chosen.max() >= self.action_space.n:
            raise ValueError(f"actions must be below {self.action_space.n}, got {actions!r}")
        self.time += 1
        rewards = self._step(chosen.astype(np.int64))
        return self.observe(), rewards

    @abstractmethod
    def describe(self, task: int) -> dict[str, Any]:
        """Word a task in plain JSON values, such as `{"goal": [3, 8]}`."""

    @abstractmethod
    def observe(self) -> NDArray[Any]:
        """Observations of the present states, (n, *observation)."""

    @abstractmethod
    def states(self) -> Ints:
        """Number of each world's Markov state, (n,), below `n_states`.

        Beside what is observed it holds what the episode's rewards have told, such as whether the
        key has been found. The task is no part of it.
        """

    @abstractmethod
    def optimal_actions(self, rng: np.random.Generator) -> Ints:
        """Actions (n,) of a policy that knows the tasks; ties are broken at random."""

    @abstractmethod
    def optimal_returns(self) -> Floats:
        """Largest sum of rewards, (n,), that can still be had in this episode."""

    @abstractmethod
    def picture(self, world: int) -> NDArray[np.uint8]:
        """Draw a world: (H, W) of the codes WALL to AGENT_ON_GOAL."""

    @abstractmethod
    def _number(self, **task: Any) -> int:
        """Number of a described task."""

    @abstractmethod
    def _reset(self, rng: np.random.Generator) -> None:
        """Put every world into a first state."""

    @abstractmethod
    def _step(self, actions: Ints) -> Floats:
        """Move every world, `time` having gone up already, and return the rewards (n,)."""


def check_form(observation: str) -> None:
    """Refuse a form of observation other than "discrete" and "box"."""
    if observation not in ("discrete", "box"):
        raise ValueError(f"observation must be 'discrete' or 'box', got {observation!r}")


def check_whole(name: str, value: object, least: int) -> None:
    """Refuse what is no whole number of at least `least`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
