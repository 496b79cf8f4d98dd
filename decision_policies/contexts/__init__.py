"""How a policy remembers: re-encode a window, carry a state, or stagger two states.

Each context turns "the action that was executed, and the next step" into a prediction, for n rows
that may start their episodes at different times. They differ in what the model has seen:

- `WindowContext`: exactly the last K steps, re-encoded each time, as the papers act.
- `RecurrentContext`: the whole episode, in a state of constant size: O(1) a step.
- `NativeContext`, `NativeWindowContext`, `NativeStaggeredContext`: the same by the native library,
  for the models it knows; without the library, NumPy carries the states of a few rows, and torch
  those of many, and encodes windows, whose tokens are many.
- `LifetimeContext`: the same after the best past episodes, which are encoded again at each end;
  `NativeLifetimeContext`: by the native library.
- `StaggeredContext`: between K / 2 and K steps, in two states that restart in turn: O(1) a step,
  and never more steps than training saw.
"""

from __future__ import annotations

from decision_policies.contexts.context import Context, Executed
from decision_policies.contexts.lifetime import LifetimeContext
from decision_policies.contexts.native import (
    NativeContext,
    NativeLifetimeContext,
    NativeStaggeredContext,
    NativeWindowContext,
)
from decision_policies.contexts.recurrent import RecurrentContext, StaggeredContext
from decision_policies.contexts.window import WindowContext
from decision_policies.models.hybrid import HybridModel
from decision_policies.models.hybrid_runner import hybrid_steps
from decision_policies.models.model import SequenceModel
from decision_policies.models.native_runner import native_step
from decision_policies.ops.native.library import native
from decision_policies.spec import Inference

LONGEST = 1536
"""Tokens of the longest window in which the native library attends: torch's attention is faster
over thousands. Models without attention know no such bound."""

FEW = 8
"""States that NumPy carries at most where there is no library: torch is faster with many."""

__all__ = [
    "Context",
    "Executed",
    "LifetimeContext",
    "NativeContext",
    "NativeLifetimeContext",
    "NativeStaggeredContext",
    "NativeWindowContext",
    "RecurrentContext",
    "StaggeredContext",
    "WindowContext",
    "make_context",
]


def make_context(model: SequenceModel, rows: int, inference: Inference) -> Context:
    """Make the context of an inference mode.

    Args:
        model: The model; its spec gives the context length.
        rows: Number n of rows.
        inference: The mode.
    """
    length = model.spec.context_length
    if inference == "recurrent" and model.spec.context_episodes is not None:
        episodes = model.spec.context_episodes
        if isinstance(model, HybridModel) and hybrid_steps(model) is not None:
            return NativeLifetimeContext(model, rows, episodes)
        return LifetimeContext(model, rows, episodes)
    if inference == "window":
        step = None if native().library is None else native_step(model, length)
        tokens = length * model.spec.tokens_per_step
        if step is not None and (tokens <= LONGEST or not step.attends):
            return NativeWindowContext(model, rows, length)
        return WindowContext(model, rows, length)
    few = rows * (1 if inference == "recurrent" else 2) <= FEW
    known = (few or native().library is not None) and native_step(model) is not None
    if inference == "recurrent":
        return (NativeContext if known else RecurrentContext)(model, rows)
    if known:
        return NativeStaggeredContext(model, rows, length)
    return StaggeredContext(RecurrentContext(model, 2 * rows), rows, length)
