"""Recurrent and window contexts by the native library or NumPy, at a fraction of torch's cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from decision_policies.batch import Prediction, Step
from decision_policies.contexts.context import Context, Executed, Rows
from decision_policies.contexts.episodes import Episodes
from decision_policies.contexts.lifetime import LifetimeContext
from decision_policies.contexts.recurrent import StaggeredContext
from decision_policies.models.hybrid import HybridModel
from decision_policies.models.hybrid_runner import HybridRunner
from decision_policies.models.model import SequenceModel
from decision_policies.models.native_runner import NativeRunner
from decision_policies.ops.native.library import native


class NativeContext(Context):
    """A state carried from the start of the episode; the same as `RecurrentContext` to rounding.

    Weights that change while it acts are taken over at the next step, those that are changed by
    `data`, which torch does not count, when the policy begins anew.

    Args:
        model: A model that has a native step.
        rows: Number n of rows.
        copies: States of each row. Where there are several, `advance` takes steps of n rows and
            flags of all states, the rows' first states in front.
    """

    def __init__(self, model: SequenceModel, rows: int, copies: int = 1) -> None:
        self.runner = NativeRunner(model, rows, copies=copies)

    def advance(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None = None
    ) -> Prediction:
        """Advance the memory by one step; see `Context.advance`."""
        runner = self.runner
        runner.refresh()
        kept = None if idle is None else runner.remembered(idle)
        runner.move_on(clear if clear is None or idle is None else clear & ~idle)
        if executed is not None:
            runner.done(*executed)
        runner.given(step)
        prediction = Prediction(torch.from_numpy(runner.run(idle)))
        if idle is not None and kept is not None:
            runner.recall(idle, kept)
        return prediction


class NativeWindowContext(NativeContext):
    """The last K steps, run again from the initial state; the same as `WindowContext` to rounding.

    Args:
        model: A model that has a native step.
        rows: Number n of rows.
        length: The context length K, in steps.
    """

    def __init__(self, model: SequenceModel, rows: int, length: int) -> None:
        self.runner = NativeRunner(model, rows, length)


class NativeLifetimeContext(Context):
    """The same as `LifetimeContext` of a hybrid model to rounding.

    Weights that change are taken over as by `NativeContext`.

    Args:
        model: A hybrid model that has native steps.
        rows: Number n of rows.
        episodes: Number of episodes in a context, the present one included.
    """

    def __init__(self, model: HybridModel, rows: int, episodes: int) -> None:
        self.runner = HybridRunner(model, rows)
        self.episodes = Episodes(rows, episodes - 1)
        self.last: Step | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        held = self.runner.held
        return _lifetime_again, (self.runner.model, self.episodes, self.last, held)

    def advance(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None = None
    ) -> Prediction:
        """Advance the memory by one step; see `Context.advance`."""
        runner, last = self.runner, self.last
        runner.refresh()
        if executed is not None and last is not None:
            ended = self.episodes.move_on(last, executed, clear, step, idle)
            runner.done(*executed, idle)
            rows = np.flatnonzero(ended if idle is None else ended & ~idle).tolist()
            if rows:
                runner.encode(rows, [self.episodes.past[row] for row in rows])
        prediction = Prediction(torch.from_numpy(runner.run(step, idle)))
        self.last = step
        if idle is not None and last is not None:
            self.last = last.where(torch.from_numpy(idle), step)
        return prediction


def _lifetime_again(
    model: HybridModel, episodes: Episodes, last: Step | None, held: list[NDArray[Any]]
) -> Context:
    """Make such a context again from a copy; where there is no library, torch encodes it anew."""
    rows = len(episodes.lengths)
    if native().library is None:
        return LifetimeContext.of(model, episodes, last)
    context = NativeLifetimeContext(model, rows, episodes.most + 1)
    context.episodes, context.last = episodes, last
    context.runner.hold(held)
    return context


class NativeStaggeredContext(StaggeredContext):
    """Two such states that restart in turn; the same as `StaggeredContext` to rounding.

    Args:
        model: A model that has a native step.
        rows: Number n of rows.
        length: The context length K, in steps.
    """

    def __init__(self, model: SequenceModel, rows: int, length: int) -> None:
        super().__init__(NativeContext(model, rows, copies=2), rows, length)

    def _both(self, executed: Executed | None, step: Step) -> tuple[Executed | None, Step]:
        """Leave it to the runner, which writes what happens to a row into both."""
        return executed, step
