"""Recurrent and window contexts by the native library or NumPy, at a fraction of torch's cost."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from decision_policies.batch import Prediction, Step
from decision_policies.contexts.context import Context, Executed, Rows
from decision_policies.models.model import SequenceModel
from decision_policies.models.native_runner import NativeRunner


class NativeContext(Context):
    """A state carried from the start of the episode; the same as `RecurrentContext` to rounding.

    Weights that change while it acts are taken over at the next step.

    Args:
        model: A model that has a native step.
        rows: Number n of rows.
    """

    def __init__(self, model: SequenceModel, rows: int) -> None:
        self.model = model
        self.runner = NativeRunner(model, rows)

    def advance(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None = None
    ) -> Prediction:
        """Advance the state by one step; see `Context.advance`."""
        runner = self.runner
        runner.refresh()
        if executed is not None:
            runner.done(*executed)
        if clear is not None:
            runner.fresh |= clear
        kept = None if idle is None else runner.remembered(idle)
        runner.given(step)
        prediction = Prediction(torch.from_numpy(runner.run()))
        if idle is not None and kept is not None:
            runner.recall(idle, kept)
        return prediction


class NativeWindowContext(Context):
    """The last K steps, run again from the initial state; the same as `WindowContext` to rounding.

    Args:
        model: A model that has a native step.
        rows: Number n of rows.
        length: The context length K, in steps.
    """

    def __init__(self, model: SequenceModel, rows: int, length: int) -> None:
        self.runner = NativeRunner(model, rows)
        self.length = length
        self.counts = np.zeros(rows, np.int64)
        self.seen = [np.repeat(x[None], length, 0) for x in self.runner.taken]
        """What the runner takes in, of each of the last K steps, (K, n, ...)."""

    def advance(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None = None
    ) -> Prediction:
        """Append the step and run the window; see `Context.advance`."""
        runner, seen = self.runner, self.seen
        runner.refresh()
        kept = None if idle is None else ([x[:, idle] for x in seen], self.counts[idle])
        if executed is not None:
            runner.done(*executed)
        runner.given(step)
        for memory, value in zip(seen, runner.taken, strict=True):
            memory[:-1] = memory[1:]
            memory[-1] = value
        if clear is not None:
            self.counts[clear] = 0
        self.counts = np.minimum(self.counts + 1, self.length)
        prediction = Prediction(torch.from_numpy(self._run()))
        if idle is not None and kept is not None:
            for memory, value, last in zip(seen, kept[0], runner.taken, strict=True):
                memory[:, idle] = value
                last[idle] = memory[-1, idle]
            self.counts[idle] = kept[1]
        return prediction

    def _run(self) -> NDArray[np.float32]:
        """Run the windows; those of fewer steps begin later, and what came before is forgotten."""
        for ago in range(int(self.counts.max()), 0, -1):
            for memory, value in zip(self.seen, self.runner.taken, strict=True):
                value[:] = memory[-ago]
            self.runner.fresh[:] = self.counts == ago
            output = self.runner.run()
        return output
