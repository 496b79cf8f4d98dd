"""Learners that search a room for cells that pay, and whose histories show exploring done well."""

from __future__ import annotations

import numpy as np

from decision_policies.envs import Darkroom, KeyToDoor, Simulator
from decision_policies.envs.grid import MOVES
from zoo.history_learners import Floats, Ints, sometimes_random


class Search:
    """Looks for cells that pay where it has not been yet, and remembers them.

    Each episode it sets out for a cell drawn from those that may still pay, all being equally
    likely at first, which is posterior sampling; from there it goes to the nearest such cell, again
    and again, through others of them where it can. In its histories exploring is done well, and an
    in-context learner explores no better than those that it has learnt from.

    Args:
        worlds: what to search: a Darkroom or a Dark Key-to-Door.

    Raises:
        ValueError: when the worlds' actions must be found out first, or they have no cells.

    References:
        Osband et al., "(More) Efficient Reinforcement Learning via Posterior Sampling",
        arXiv 1306.0940.
    """

    NEAREST = True
    """Whether a cell that is near is gone to before one that comes first in its order."""

    def __init__(self, worlds: Simulator) -> None:
        if not isinstance(worlds, (Darkroom, KeyToDoor)) or getattr(worlds, "permuted", False):
            name = type(self).__name__.lower()
            raise ValueError(f"{name} is for rooms whose actions are known; take another learner")
        self.grid, self.rows, self.cells = worlds, np.arange(worlds.n), worlds.size**2
        phases = worlds.n_states // self.cells
        self.finds = max(1, phases - 1)
        """Cells to be found, one after the other; Darkroom's pays for ever."""
        self.paying = np.full((worlds.n, self.finds), -1)
        self.open = np.ones((worlds.n, self.finds, self.cells), np.bool_)
        self.target = np.zeros(worlds.n, np.int64)
        self.places = worlds.places(np.arange(self.cells))

    def act(self, worlds: Simulator, share: float, rng: np.random.Generator) -> Ints:
        """See `Learner.act`."""
        found = worlds.states() // self.cells
        at = self.rows, np.minimum(found, self.finds - 1)
        order = self._order(rng)
        if worlds.time > 0 and self.NEAREST:
            order = order - np.abs(self.places - self.grid.position[:, None]).sum(-1)
        new = np.where(self.open[at], order, -np.inf).argmax(1)
        keep = self.open[(*at, self.target)] & (worlds.time > 0)
        self.target = np.where(keep, self.target, new)
        known = self.paying[at]
        targets = self.grid.places(np.where(known >= 0, known, self.target))
        moves = self._ways(targets, rng)
        ahead = self.grid.cells(
            np.clip(self.grid.position + MOVES[moves[0]], 0, self.grid.size - 1)
        )
        chosen = np.where(self.open[(*at, ahead)], *moves)
        return np.where(found < self.finds, chosen, 0)

    def learn(self, before: Ints, actions: Ints, rewards: Floats, worlds: Simulator) -> None:
        """See `Learner.learn`."""
        found, cell = before // self.cells, worlds.states() % self.cells
        at = self.rows, np.minimum(found, self.finds - 1)
        sought = found < self.finds
        self.open[(*at, cell)] &= ~sought
        self.paying[at] = np.where(sought & (rewards > 0), cell, self.paying[at])

    def _order(self, rng: np.random.Generator) -> Floats:
        """How much it wants to go to each cell, (1 or n, cells), from 0 to 1."""
        return rng.random((len(self.rows), self.cells))

    def _ways(self, targets: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """The move (n,) that it would make on its way to cells (n, 2), and another."""
        return self.grid.towards(targets, rng), self.grid.towards(targets, rng)


class Sweep(Search):
    """Searches in one order, round the middle like the hand of a clock, and sometimes slips.

    It finds as much as `Search`, but what it does next follows from what it has done: there is less
    of its mind to guess for those who learn from it, who copy a drawn cell as a random walk. The
    slips show how to go on from where a learner of the histories will find itself.
    """

    SLIPS = 0.02
    """Share of random actions."""

    def __init__(self, worlds: Simulator) -> None:
        super().__init__(worlds)
        x, y = (self.places - (self.grid.size - 1) / 2).T
        hours = (np.pi - np.arctan2(y, x)).round(6)  # equal where two cells are in one direction
        ranks = np.lexsort((-np.abs(x) - np.abs(y), hours)).argsort()
        self.order = 1 - ranks[None] / self.cells

    def act(self, worlds: Simulator, share: float, rng: np.random.Generator) -> Ints:
        """See `Learner.act`."""
        return sometimes_random(super().act(worlds, share, rng), self.SLIPS, worlds, rng)

    def _order(self, rng: np.random.Generator) -> Floats:
        return self.order

    def _ways(self, targets: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        upwards = np.zeros(len(targets), np.bool_)
        return self.grid.along(targets, upwards), self.grid.along(targets, ~upwards)


class Rows(Sweep):
    """Searches row by row, to and fro, as a lawn is mown, and sometimes slips.

    In a large room it is easier to copy than `Sweep`: most steps go on as the last one did, and
    where to begin follows from the row in which the last episode ended.
    """

    NEAREST = False

    def __init__(self, worlds: Simulator) -> None:
        super().__init__(worlds)
        x, y = self.places.T
        ranks = y * self.grid.size + np.where(y % 2 == 0, x, self.grid.size - 1 - x)
        self.order = 1 - ranks[None] / self.cells

    def _ways(self, targets: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        upwards = self.grid.along(targets, np.zeros(len(targets), np.bool_))
        return upwards, upwards


SEARCHES = {"search": Search, "sweep": Sweep, "rows": Rows}
"""Those among the learners that `--epsilon` says nothing to."""
