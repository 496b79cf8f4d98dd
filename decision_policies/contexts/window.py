"""Memory of the last K steps, encoded again at each."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.batch import Prediction, Step, Window
from decision_policies.contexts.context import Context, Executed, Rows
from decision_policies.models.model import SequenceModel


class WindowContext(Context):
    """The last K steps, re-encoded at each step; rows may hold different numbers of steps.

    Args:
        model: The model.
        rows: Number n of rows.
        length: The context length K, in steps.
    """

    def __init__(self, model: SequenceModel, rows: int, length: int) -> None:
        self.model = model
        self.length = length
        self.count = np.zeros(rows, np.int64)
        self.rows = torch.arange(rows, device=model.device)
        self.history: tuple[Tensor, ...] | None = None

    @torch.inference_mode()
    def advance(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None = None
    ) -> Prediction:
        """Append the step and re-encode the window; see `Context.advance`."""
        if idle is not None and self.history is not None:
            history, count = [memory.clone() for memory in self.history], self.count.copy()
            prediction = self.advance(executed, clear, step)
            rows = torch.from_numpy(idle).to(self.rows.device)
            for memory, before in zip(self.history, history, strict=True):
                memory[rows] = before[rows]
            self.count[idle] = count[idle]
            return prediction
        if executed is not None and self.history is not None:
            place = self._place(self.count - 1)
            for memory, value in zip(self.history[:2], executed, strict=True):
                memory[place] = value.to(memory.dtype)
        if clear is not None:
            self.count[clear] = 0
        self._make_room(step)
        assert self.history is not None
        known = (step.observations, step.returns_to_go, step.timesteps)
        place = self._place(self.count)
        for memory, value in zip(self.history[2:], known, strict=True):
            memory[place] = value
        self.count += 1
        window = self._window(int(self.count.max()))
        first = int(self.count.min()) - 1
        prediction, _ = self.model(window, None, first)
        row, step_of_row = place
        return Prediction(prediction.action[row, step_of_row - first])

    def _place(self, counts: NDArray[np.int64]) -> tuple[Tensor | slice, Tensor | int]:
        """Index each row's own step, more cheaply where it is the same of all rows."""
        if (counts == counts[0]).all():
            return slice(None), int(counts[0])
        return self.rows, self._tensor(counts)

    def _tensor(self, counts: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(counts.copy()).to(self.rows.device)

    def _make_room(self, step: Step) -> None:
        """Drop the oldest step of each row that already holds K."""
        if self.history is None:
            n, k = len(self.count), self.length
            space = self.model.spec.action_space
            kind = torch.float32 if isinstance(space, spaces.Box) else torch.int64
            # An action that is not known yet stands as any valid one; causality hides it.
            unknown = int(space.start) if isinstance(space, spaces.Discrete) else 0
            self.history = (
                step.returns_to_go.new_full((n, k, *(space.shape or ())), unknown, dtype=kind),
                step.returns_to_go.new_zeros(n, k),
                step.observations.new_zeros(n, k, *step.observations.shape[1:]),
                step.returns_to_go.new_zeros(n, k),
                step.timesteps.new_zeros(n, k),
            )
        full = self.count == self.length
        if full.all():
            for memory in self.history:
                memory[:, :-1] = memory[:, 1:].clone()
            self.count -= 1
        elif full.any():
            rows = torch.from_numpy(full).to(self.rows.device)
            for memory in self.history:
                memory[rows, :-1] = memory[rows, 1:]
            self.count -= full

    def _window(self, length: int) -> Window:
        """Cut the first `length` steps out of the memory, as a right-padded window."""
        assert self.history is not None
        actions, rewards, observations, returns_to_go, timesteps = (
            memory[:, :length] for memory in self.history
        )
        counts = self._tensor(self.count)
        steps = torch.arange(length, device=counts.device)
        return Window(
            observations=observations,
            actions=actions,
            rewards=rewards,
            returns_to_go=returns_to_go,
            timesteps=timesteps,
            mask=steps < counts[:, None],
            starts=torch.zeros_like(counts, dtype=torch.bool),
        )
