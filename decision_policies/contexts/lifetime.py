"""Memory over episodes: the best past ones, encoded again whenever one ends."""

from __future__ import annotations

import bisect
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from decision_policies import tree
from decision_policies.batch import Prediction, Step, Window
from decision_policies.contexts.context import Executed, Rows
from decision_policies.contexts.recurrent import RecurrentContext
from decision_policies.models.model import SequenceModel
from decision_policies.tree import State


class Steps(NamedTuple):
    """Steps that are done; the fields are those of a `Window`, in its order.

    Attributes:
        observations: (n, *observation) of one step, or (T, *observation) of one row; all alike.
        actions: (n, *action).
        rewards: (n,).
        returns_to_go: (n,).
        timesteps: (n,).
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    returns_to_go: Tensor
    timesteps: Tensor


class LifetimeContext(RecurrentContext):
    """A state carried through an episode, after the best past ones in the order of their returns.

    Of each row the best n - 1 episodes are kept, of equally good ones the latest. When one ends,
    the kept ones are encoded anew, for a state that has seen them cannot be made to have seen them
    in another order; between two ends the state is carried as ever.

    Args:
        model: The model; the size of its state does not depend on what it has seen.
        rows: Number of rows.
        episodes: Number n of episodes in a context, the present one included.
    """

    def __init__(self, model: SequenceModel, rows: int, episodes: int) -> None:
        super().__init__(model, rows)
        self.episodes = episodes
        self.steps: list[Steps] = []
        """The last steps of all rows, as many as the longest present episode has."""
        self.lengths = np.zeros(rows, np.int64)
        """Steps of each row's present episode."""
        self.kept: list[list[Steps]] = [[] for _ in range(rows)]
        """Past episodes of each row, the poorest first."""

    def _next(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None
    ) -> tuple[Prediction, State]:
        """Predict, after the best past episodes where one has just ended."""
        if executed is None or self.last is None:
            return super()._next(executed, clear, step, idle)
        last = self.last
        ended = self._move_on(last, executed, clear, step, idle)
        if not ended.any():
            return super()._next(executed, None, step, idle)
        state = self.state
        if not ended.all():
            state = self.model.commit(*executed, last, state)
        return self.model.act(step, self._encoded(ended, state))

    def _move_on(
        self, last: Step, executed: Executed, clear: Rows | None, step: Step, idle: Rows | None
    ) -> Rows:
        """Take in the last step, and say which rows' episodes have ended with it, (n,)."""
        known = (last.observations, *executed, last.returns_to_go, last.timesteps)
        self._note(Steps(*known), idle)
        ended: Rows = (step.timesteps == 0).cpu().numpy()
        if clear is not None:
            ended |= clear
        if ended.any():
            self._keep(ended)
        for row in () if clear is None else np.flatnonzero(clear):
            self.kept[row].clear()
        return ended

    def _note(self, step: Steps, idle: Rows | None) -> None:
        """Append a step; of rows that are idle, the steps before move up instead."""
        self.steps.append(step)
        if idle is None:
            self.lengths += 1
            return
        self.lengths += ~idle
        rows = torch.from_numpy(idle).to(step.timesteps.device)
        steps = Steps(*(torch.stack(values) for values in zip(*self.steps, strict=True)))
        for values in steps:
            values[1:, rows] = values[:-1, rows]
        self.steps = [Steps(*each) for each in zip(*steps, strict=True)]

    def _keep(self, ended: Rows) -> None:
        """Put the episodes that have ended among the past ones, which makes one too many go."""
        steps = Steps(*(torch.stack(values) for values in zip(*self.steps, strict=True)))
        for row in np.flatnonzero(ended):
            episode = Steps(*(values[-self.lengths[row] :, row] for values in steps))
            bisect.insort(self.kept[row], episode, key=lambda past: float(past.rewards.sum()))
            del self.kept[row][: -self.episodes + 1 or None]
        self.lengths[ended] = 0
        self.steps = self.steps[len(self.steps) - self.lengths.max() :]

    def _encoded(self, ended: Rows, state: State) -> State:
        """Replace the state of rows by one that has seen their past episodes, in order."""
        groups: dict[int, list[int]] = {}
        for row in map(int, np.flatnonzero(ended)):
            groups.setdefault(sum(len(past.rewards) for past in self.kept[row]), []).append(row)
        for length, rows in groups.items():  # rows of one length need no padding
            seen = self.model.initial_state(len(rows))
            if length:
                seen = self.model.remember(_joined([self.kept[row] for row in rows]))
            index = torch.tensor(rows, device=tree.leaves(seen)[0].device)
            state = tree.map_state(partial(_put, index), state, seen)
        return state


def _joined(pasts: list[list[Steps]]) -> Window:
    """Make a window of the episodes of several rows, equally many steps a row."""
    rows = [Steps(*(torch.cat(values) for values in zip(*past, strict=True))) for past in pasts]
    batch = Steps(*(torch.stack(values) for values in zip(*rows, strict=True)))
    real = torch.ones_like(batch.timesteps, dtype=torch.bool)
    return Window(*batch, mask=real, starts=real[:, 0])


def _put(rows: Tensor, old: Tensor, new: Tensor) -> Tensor:
    return old.index_copy(0, rows, new)
