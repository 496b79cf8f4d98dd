"""Memory carried by the native library: the recurrent context, at a fraction of torch's cost."""

from __future__ import annotations

import torch

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
