"""Episodes: the best past episodes of each row, and what has happened in the present one."""

from __future__ import annotations

import bisect
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from decision_policies.batch import Step, Window
from decision_policies.contexts.context import Executed, Rows


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


class Episodes:
    """Of each of n rows, the steps of its present episode, and its best past episodes.

    Of equally good past episodes the latest are kept.

    Args:
        rows: Number n of rows.
        most: Number of past episodes that are kept.

    Attributes:
        lengths: Steps of each row's present episode, (n,).
        past: Past episodes of each row, the poorest first.
        room: Steps of the present ones, (n, room, ...), which grows with the longest.
    """

    def __init__(self, rows: int, most: int) -> None:
        self.most = most
        self.lengths = np.zeros(rows, np.int64)
        self.past: list[list[Steps]] = [[] for _ in range(rows)]
        self.room: Steps | None = None

    def move_on(
        self, last: Step, executed: Executed, clear: Rows | None, step: Step, idle: Rows | None
    ) -> Rows:
        """Take in the last step, but of rows that are idle, and the ends of episodes.

        Args:
            last: What was known of the last step.
            executed: What was done in it.
            clear: Rows, (n,), that forget all; None for no row.
            step: What is known of the present step.
            idle: Rows, (n,), that this step does not count for; None for no row.

        Returns:
            The rows whose episodes have ended with it, (n,).
        """
        known = (last.observations, *executed, last.returns_to_go, last.timesteps)
        self._note(Steps(*known), None if idle is None else ~idle)
        ended: Rows = (step.timesteps == 0).cpu().numpy()
        if clear is not None:
            ended |= clear
        for row in np.flatnonzero(ended).tolist():
            if self.lengths[row]:
                episode = self.present(row)
                bisect.insort(self.past[row], episode, key=lambda past: float(past.rewards.sum()))
                del self.past[row][: len(self.past[row]) - self.most]
            if clear is not None and clear[row]:
                self.past[row].clear()
        self.lengths[ended] = 0
        return ended

    def present(self, row: int) -> Steps:
        """Copy the steps of a row's present episode: a view would keep those of all rows alive."""
        assert self.room is not None, "it has steps"
        return Steps(*(values[row, : self.lengths[row]].clone() for values in self.room))

    def _note(self, step: Steps, rows: Rows | None) -> None:
        """Put a step behind the present episode of some rows, None for all."""
        longest = int(self.lengths.max()) + 1
        if self.room is None or longest > self.room.rewards.shape[1]:
            self.room = Steps(*(_grown(x, self.room, i) for i, x in enumerate(step)))
        if rows is None and (self.lengths == self.lengths[0]).all():
            for values, value in zip(self.room, step, strict=True):
                values[:, longest - 1] = value
            self.lengths += 1
            return
        counted = np.ones(len(self.lengths), bool) if rows is None else rows
        where = np.flatnonzero(counted)
        device = step.rewards.device
        index = torch.from_numpy(where).to(device)
        places = torch.from_numpy(self.lengths[where]).to(device)
        for values, value in zip(self.room, step, strict=True):
            values[index, places] = value[index]
        self.lengths[where] += 1


def _grown(value: Tensor, room: Steps | None, field: int) -> Tensor:
    """Make room for twice as many steps, with those that there are, for values (n, ...)."""
    old = None if room is None else room[field]
    size = 16 if old is None else 2 * old.shape[1]
    new = value.new_empty(len(value), size, *value.shape[1:])
    if old is not None:
        new[:, : old.shape[1]] = old
    return new


def joined(pasts: list[list[Steps]]) -> Window:
    """Make a window of the episodes of several rows, equally many steps a row."""
    rows = [Steps(*(torch.cat(values) for values in zip(*past, strict=True))) for past in pasts]
    batch = Steps(*(torch.stack(values) for values in zip(*rows, strict=True)))
    real = torch.ones_like(batch.timesteps, dtype=torch.bool)
    return Window(*batch, mask=real, starts=real[:, 0])
