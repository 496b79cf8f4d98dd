"""Dark Key-to-Door: find an unseen key, and then an unseen door."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from decision_policies.envs.grid import Grid, distances, paid
from decision_policies.envs.simulator import DOOR, KEY, Floats, Ints, ObservationForm, Task
from decision_policies.envs.single import SingleEnv


class KeyToDoor(Grid):
    """Rooms in which the key pays once, and after it the door once; then nothing is left to gain.

    An episode starts anywhere but on the key, and runs to its horizon. The key and the door lie in
    different cells; each such pair is a task.

    Args:
        tasks: Task of each room, (n,); see `describe`.
        size: Cells along each side.
        horizon: Steps of an episode.
        observation: "discrete" or "box"; see `Grid`.

    References:
        Laskin et al., arXiv 2210.14215, section 4.1; Huang et al. (DM-H), arXiv 2406.00079, for
        the large rooms.
    """

    def __init__(
        self,
        tasks: ArrayLike,
        size: int = 9,
        horizon: int = 50,
        *,
        observation: ObservationForm = "discrete",
    ) -> None:
        self.n_tasks = size**2 * (size**2 - 1)
        self.n_states = 3 * size**2
        super().__init__(tasks, size, horizon, observation)

    @property
    def keys(self) -> Ints:
        """Cells of the keys, (n, 2)."""
        return self.places(self.tasks // (self.size**2 - 1))

    @property
    def doors(self) -> Ints:
        """Cells of the doors, (n, 2)."""
        key, door = np.divmod(self.tasks, self.size**2 - 1)
        return self.places(door + (door >= key))

    def describe(self, task: int) -> dict[str, Any]:
        """See `Simulator.describe`: the cells of key and door, each [x, y]."""
        key, door = divmod(task, self.size**2 - 1)
        return {"key": self.named(key), "door": self.named(door + (door >= key))}

    def states(self) -> Ints:
        """See `Simulator.states`: the cell, and how much has been paid for."""
        return self.cells(self.position) + self.size**2 * self.progress

    def optimal_actions(self, rng: np.random.Generator) -> Ints:
        """See `Simulator.optimal_actions`; where all has been paid for, it waits."""
        targets = np.where((self.progress == 0)[:, None], self.keys, self.doors)
        return np.where(self.progress == 2, 0, self.towards(targets, rng))

    def optimal_returns(self) -> Floats:
        """See `Simulator.optimal_returns`."""
        left = self.horizon - self.time
        to_key = np.maximum(distances(self.position, self.keys), 1)
        between = distances(self.keys, self.doors)
        from_here = np.maximum(distances(self.position, self.doors), 1)
        without_key = paid(to_key <= left) + paid(to_key + between <= left)
        with_key = paid(from_here <= left)
        return np.select([self.progress == 0, self.progress == 1], [without_key, with_key], 0.0)

    def _number(self, **task: Any) -> int:
        key, door = self.cell("key", task["key"]), self.cell("door", task["door"])
        if key == door:
            raise ValueError(f"key and door must be in different cells, both are in {task['key']}")
        return key * (self.size**2 - 1) + door - (door > key)

    def _reset(self, rng: np.random.Generator) -> None:
        start = rng.integers(self.size**2 - 1, size=self.n)
        start += start >= self.cells(self.keys)
        self.position = self.places(start)
        self.progress: Ints = np.zeros(self.n, np.int64)
        """What has been paid for, (n,): 0 nothing, 1 the key, 2 the door as well."""

    def _step(self, actions: Ints) -> Floats:
        self.move(actions)
        key = (self.progress == 0) & (self.position == self.keys).all(1)
        door = (self.progress == 1) & (self.position == self.doors).all(1)
        self.progress += key | door
        return paid(key | door)

    def _things(self, world: int) -> dict[int, Ints]:
        return {KEY: self.keys[world], DOOR: self.doors[world]}


class KeyToDoorEnv(SingleEnv):
    """One `KeyToDoor` as a gymnasium environment; see there and `SingleEnv` for the arguments."""

    def __init__(
        self,
        size: int = 9,
        horizon: int = 50,
        *,
        observation: ObservationForm = "discrete",
        task: Task | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(KeyToDoor([0], size, horizon, observation=observation), task, render_mode)
