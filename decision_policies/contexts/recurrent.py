"""Memory in a state of constant cost: carried from the start, or two states in turn."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from decision_policies import tree
from decision_policies.batch import Prediction, Step
from decision_policies.contexts.context import Context, Executed, Rows
from decision_policies.models.model import SequenceModel
from decision_policies.tree import State


class RecurrentContext(Context):
    """A state carried from the start of the episode.

    Args:
        model: The model.
        rows: Number n of rows.
    """

    def __init__(self, model: SequenceModel, rows: int) -> None:
        self.model = model
        self.state = model.initial_state(rows)
        self.last: Step | None = None

    @torch.inference_mode()
    def advance(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None = None
    ) -> Prediction:
        """Advance the state by one step; see `Context.advance`."""
        last, state = self.last, self.state
        prediction, self.state = self._next(executed, clear, step, idle)
        self.last = step
        if idle is None or last is None:
            return prediction
        if idle.all():
            self.last, self.state = last, state
        else:
            rows = torch.from_numpy(idle).to(step.timesteps.device)
            self.last, self.state = last.where(rows, step), tree.where(rows, state, self.state)
        return prediction

    def _next(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None
    ) -> tuple[Prediction, State]:
        """Predict, and say what the state is then, as if no row were idle."""
        if executed is None or self.last is None:
            return self.model.act(step, self.state)
        if clear is None:
            return self.model.commit_and_act(*executed, self.last, step, self.state)
        rows = torch.from_numpy(clear).to(step.timesteps.device)
        return self.model.act(
            step, tree.clear(self.model.commit(*executed, self.last, self.state), rows)
        )


class StaggeredContext(Context):
    """Two recurrent states, restarted in turn every K // 2 steps; the older one acts.

    The two states of a row are rows i and n + i of one batch of 2 n. In a row's step t the states
    restart when t is a multiple of K // 2: the second at odd multiples, the first at even ones.

    Args:
        inner: The context that carries the 2 n states.
        rows: Number n of rows.
        length: The context length K, in steps.
    """

    def __init__(self, inner: Context, rows: int, length: int) -> None:
        self.half = length // 2
        self.inner = inner
        self.clock = np.full(rows, -1)

    def advance(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None = None
    ) -> Prediction:
        """Advance both states by one step; see `Context.advance`."""
        clock, half = self.clock, self.half
        clock += 1 if idle is None else ~idle
        if clear is not None:
            clock[clear] = 0
        phase = clock % (2 * half)
        due = np.concatenate(((phase == 0) & (clock > 0), phase == half))
        if clear is not None:
            due |= np.concatenate((clear, clear))
        executed, twice = self._both(executed, step)
        both = None if idle is None else np.concatenate((idle, idle))
        restart = due if np.count_nonzero(due) else None
        action = self.inner.advance(executed, restart, twice, both).action
        second = (phase < half) & (clock >= half)
        rows = len(second)
        if rows == 1 or (second == second[0]).all():
            return Prediction(action[rows:] if second[0] else action[:rows])
        return Prediction(action[torch.from_numpy(np.arange(rows) + rows * second)])

    def _both(self, executed: Executed | None, step: Step) -> tuple[Executed | None, Step]:
        """Give what happens to each row to both of its states."""
        if executed is not None:
            executed = Executed(_twice(executed.action), _twice(executed.reward))
        seen = (step.observations, step.returns_to_go, step.timesteps)
        return executed, Step(*map(_twice, seen))


def _twice(x: Tensor) -> Tensor:
    return torch.cat((x, x))
