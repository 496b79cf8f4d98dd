"""Episodes: the best past episodes of each row, and what has happened in the present one."""

from __future__ import annotations

import bisect
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.batch import Step, Window
from decision_policies.contexts.context import Executed, Rows

WAITING = 64
"""Steps that are written together."""


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
        self._waiting: list[Steps] = []

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
        self._note(Steps(*known), idle)
        ended: Rows = (step.timesteps == 0).cpu().numpy()
        if clear is not None:
            ended |= clear
        for row in np.flatnonzero(ended).tolist():
            if self.lengths[row]:
                episode = self.present(row)
                bisect.insort(self.past[row], episode, key=lambda past: float(past.rewards.sum()))
                del self.past[row][: max(0, len(self.past[row]) - self.most)]
            if clear is not None and clear[row]:
                self.past[row].clear()
        self.lengths[ended] = 0
        return ended

    def present(self, row: int) -> Steps:
        """Copy the steps of a row's present episode: a view would keep those of all rows alive."""
        self._put_away()
        assert self.room is not None, "it has steps"
        return Steps(*(values[row, : self.lengths[row]].clone() for values in self.room))

    def _note(self, step: Steps, idle: Rows | None) -> None:
        """Put a step behind the present episodes, but those of rows that are idle."""
        if idle is None:
            self._waiting.append(step)  # to put each away at once would take as long as to act
            self.lengths += 1
            if len(self._waiting) == WAITING:
                self._put_away()
            return
        self._put_away()
        self.lengths += ~idle
        self._write([step], np.flatnonzero(~idle))

    def _put_away(self) -> None:
        """Write the steps that wait behind the others."""
        if self._waiting:
            self._write(self._waiting, np.arange(len(self.lengths)))
            self._waiting = []

    def _write(self, steps: list[Steps], rows: NDArray[np.intp]) -> None:
        """Write the last steps of these rows."""
        self._make_room(steps[0], int(self.lengths.max()))
        assert self.room is not None, "it has just been made"
        places = self.lengths[rows, None] - len(steps) + np.arange(len(steps))
        device = steps[0].rewards.device
        of, to = (torch.from_numpy(x).to(device) for x in (rows, places))
        for values, new in zip(self.room, zip(*steps, strict=True), strict=True):
            values[of[:, None], to] = torch.stack(new, 1)[of]

    def _make_room(self, step: Steps, longest: int) -> None:
        """Let there be room for that many steps, and for twice as many as before if for more."""
        old, size = self.room, 16 if self.room is None else self.room.rewards.shape[1]
        if old is not None and longest <= size:
            return
        while size < longest:
            size *= 2
        self.room = Steps(*(x.new_empty(len(x), size, *x.shape[1:]) for x in step))
        for values, before in zip(self.room, old or (), strict=old is not None):
            values[:, : before.shape[1]] = before


def joined(pasts: list[list[Steps]]) -> Window:
    """Make a window of the episodes of several rows, equally many steps a row."""
    rows = [Steps(*(torch.cat(values) for values in zip(*past, strict=True))) for past in pasts]
    batch = Steps(*(torch.stack(values) for values in zip(*rows, strict=True)))
    real = torch.ones_like(batch.timesteps, dtype=torch.bool)
    return Window(*batch, mask=real, starts=real[:, 0])
