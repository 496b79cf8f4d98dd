"""Run a model's step by the native library, or by NumPy where there is none: arrays in and out."""

from __future__ import annotations

from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.batch import Step
from decision_policies.models.encoders import IndexEncoder, VectorEncoder
from decision_policies.models.heads import ContinuousHead, DiscreteHead
from decision_policies.models.hybrid import HybridModel
from decision_policies.models.model import SequenceModel, TokenModel
from decision_policies.models.native_call import NativeCall
from decision_policies.models.native_check import (
    agrees,
    any_action,
    evaluating,
    some_observations,
    tell,
)
from decision_policies.models.native_step import Floats, NativeStep, NotNativeError
from decision_policies.models.native_writing import written
from decision_policies.models.numpy_plan import Rows
from decision_policies.models.numpy_step import NumpyStep
from decision_policies.ops.native.library import native
from decision_policies.tree import State

_KNOWN: WeakKeyDictionary[SequenceModel, dict[int, NativeStep]] = WeakKeyDictionary()
"""Steps by the number of steps of their windows."""


class NativeRunner:
    """What n rows remember, a state or a window, and room for a step's inputs.

    Args:
        model: A model that has a native step, and goes on having one.
        rows: Number n of rows.
        window: Steps K that are run again from the initial state each time; None carries a state.
        copies: Times that each row is there; all of them take in the same.
        step: The step; None looks for it.

    Attributes:
        state: What the rows remember, (n, S), zeros being the initial state; of windows (1, S),
            which all rows use in turn.
        fresh: Rows that begin with the next run, from the initial state, (n,).
        counts: Steps of each row's window so far, (n,); where a state is carried 1, or 0 while the
            row is idle.
    """

    def __init__(
        self,
        model: SequenceModel,
        rows: int,
        window: int | None = None,
        copies: int = 1,
        step: NativeStep | None = None,
    ) -> None:
        self.model = cast(TokenModel | HybridModel, model)
        self.window, self._steps = window, window or 1
        self._shape, rows = (copies, rows), copies * rows
        self.step = step or self._found()
        self.state = np.zeros((rows if window is None else 1, self.step.size), np.float32)
        self.fresh = np.ones(rows, bool)
        self.counts = np.full(rows, 1 if window is None else 0, np.int64)
        self._input = np.zeros((rows, self._steps, self.step.width), np.float32)
        self._before, self._now = np.zeros((2, rows, self._steps), np.int64)
        latest = self._input[:, -1].reshape(*self._shape, -1)
        self._views = {name: latest[..., part] for name, part in self.step.parts.items()}
        self._clocks = [x[:, -1].reshape(self._shape) for x in (self._before, self._now)]
        self._return_scale = self.model.embedding.return_scale
        self._output = np.zeros((rows, self.step.parameters), np.float32)
        self._bind()

    def __reduce__(self) -> tuple[Any, ...]:
        copies, rows = self._shape
        return _revived, (self.model, rows, self.window, copies, self.memory)

    @property
    def memory(self) -> tuple[NDArray[Any], ...]:
        """All that is carried from one run to the next."""
        return self.state, self.fresh, self.counts, self._input, self._before, self._now

    def refresh(self) -> None:
        """Go on with the weights that the model has now.

        Raises:
            RuntimeError: The model can no longer act natively: it was moved, or has another type.
        """
        if not self.step.current():
            self.take(self._found())

    def take(self, step: NativeStep) -> None:
        """Go on with another step of the same model."""
        self.step = step
        self._bind()

    def view(self, name: str) -> Floats:
        """Where the latest step takes in that modality, (copies, n, width)."""
        return self._views[name]

    def _found(self) -> NativeStep:
        try:  # without the library a window is run step by step
            return _known_step(self.model, 1 if native().library is None else self._steps)
        except NotNativeError as reason:
            raise RuntimeError(
                f"the model cannot act by the native library or NumPy ({reason}); if it was moved "
                "while it acted, call policy.reset() and begin anew"
            ) from None

    def _bind(self) -> None:
        """Bind the step to the arrays, once and for all steps."""
        step, model = self.step, self.model
        encoder = model.embedding.observation
        self._start = encoder.start if isinstance(encoder, IndexEncoder) else None
        if isinstance(encoder, VectorEncoder):
            self._mean, self._std = encoder.mean.numpy(), encoder.std.numpy()
        self._numpy: NumpyStep | None = None
        if native().library is None:
            state, taken = self.state, (self._input, self._before, self._now)
            if self.window is not None:
                state = np.zeros((len(self.fresh), step.size), np.float32)
                taken = self._input.copy(), self._before.copy(), self._now.copy()
            values, before, now = taken
            rows = Rows(values[:, -1], before[:, -1], now[:, -1], state, self._output)
            self._numpy = NumpyStep(step, rows)
            return
        clocks = (self._before, self._now)
        arrays = (self._input, self.counts, self.fresh, self.state, self._output)
        self._call = NativeCall(step, *arrays, clocks)

    def move_on(self, clear: NDArray[np.bool_] | None) -> None:
        """Make room for the next step; some rows begin anew with it, (n,)."""
        if self.window is None:
            if clear is not None:
                self.fresh |= clear
            return
        for memory in (self._input, self._before, self._now):
            memory[:, :-1] = memory[:, 1:]
        self.fresh[:] = True
        if clear is not None:
            self.counts[clear] = 0
        np.minimum(self.counts + 1, self.window, out=self.counts)

    def done(self, action: Tensor, reward: Tensor) -> None:
        """Take in what was done in the last step; see `SequenceModel.commit`."""
        head = self.model.head
        if "action" in self._views:
            view = self._views["action"]
            if isinstance(head, DiscreteHead):
                view[..., 0] = action.numpy() - int(head.space.start)
            elif isinstance(head, ContinuousHead):
                np.subtract(action.numpy().reshape(view.shape[1:]), head.offset, out=view)
                np.divide(view, head.scale, out=view)
        if "reward" in self._views:
            with np.errstate(over="ignore"):  # infinite: the policy reports what comes of it
                self._views["reward"][..., 0] = reward.numpy() / self._return_scale

    def given(self, step: Step) -> None:
        """Take in what is known of the next step."""
        view, observations = self._views["observation"], step.observations.numpy()
        if self._start is not None:
            view[..., 0] = observations - self._start
        else:
            np.subtract(observations.reshape(view.shape[1:]), self._mean, out=view)
            np.divide(view, self._std, out=view)
        if "return" in self._views:
            self._views["return"][..., 0] = step.returns_to_go.numpy() / self._return_scale
        before, now = self._clocks
        before[:] = now
        now[:] = step.timesteps.numpy()

    def remembered(self, rows: NDArray[np.bool_]) -> list[NDArray[Any]]:
        """Copy what some rows remember."""
        return [x[rows] for x in self._own]

    def recall(self, rows: NDArray[np.bool_], kept: list[NDArray[Any]]) -> None:
        """Put some rows back to what they remembered."""
        for memory, value in zip(self._own, kept, strict=True):
            memory[rows] = value

    @property
    def _own(self) -> tuple[NDArray[Any], ...]:
        """What a run changes of an idle row; its state, which may be large, the library leaves."""
        if self.window is None:
            return (self._now,) if self._numpy is None else (self.state, self._now)
        return self._input, self._before, self._now, self.counts

    def run(self, idle: NDArray[np.bool_] | None = None) -> Floats:
        """Predict from what was taken in, (n, P), and carry the state on; no row is fresh then.

        Args:
            idle: Rows (n,) that are to be left as they are, as far as `recall` does not put them
                back; what is predicted for them means nothing.
        """
        if self._numpy is None:
            skipped = None if self.window is not None else idle
            if skipped is not None:
                self.counts[skipped] = 0
            self._call()
            if skipped is not None:
                self.counts[skipped] = 1
        elif self.window is None:
            self._numpy.run(self.fresh)
        else:
            self._run_steps(self._numpy)
        self.fresh[:] = False if idle is None else self.fresh & idle
        return self._output.copy()

    def _run_steps(self, numpy: NumpyStep) -> None:
        """Run windows step by step; those of fewer steps begin later, and what came before goes."""
        for ago in range(int(self.counts.max()), 0, -1):
            numpy.rows.values[:] = self._input[:, -ago]
            numpy.rows.before[:] = self._before[:, -ago]
            numpy.rows.now[:] = self._now[:, -ago]
            numpy.run(self.counts == ago)


def _revived(
    model: SequenceModel,
    rows: int,
    window: int | None,
    copies: int,
    memory: tuple[NDArray[Any], ...],
) -> NativeRunner:
    """Make a runner again from a copy: addresses are nothing to be copied."""
    runner = NativeRunner(model, rows, window, copies)
    for mine, copied in zip(runner.memory, memory, strict=True):
        mine[:] = copied
    return runner


def native_step(model: SequenceModel, steps: int = 1) -> NativeStep | None:
    """Write a model's step down, for the native library or NumPy to run.

    What was written is compared with the model before it is used, and written again when the
    weights have changed.

    Args:
        model: The model.
        steps: Steps of a window, which only the native library runs; 1 for a single step.

    Returns:
        The step; None if the model has parts that cannot be written down.
    """
    try:
        return _known_step(model, steps)
    except NotNativeError as reason:
        tell(model, reason)
        return None


def _known_step(model: SequenceModel, steps: int) -> NativeStep:
    """Find a step that was written down, or write it anew.

    Raises:
        NotNativeError: The model has a part that cannot be written down.
    """
    known = _KNOWN.setdefault(model, {})
    if steps in known and known[steps].describes(model):
        return known[steps]
    known.pop(steps, None)
    step = written(model, steps)
    with evaluating(model):
        _check(step, cast(TokenModel, model), steps)
    known[steps] = step
    return step


@torch.inference_mode()
def _check(step: NativeStep, model: TokenModel, steps: int) -> None:
    """Compare three steps of two rows, if a window holds as many, with the model's own.

    Raises:
        NotNativeError: They differ.
    """
    rng = np.random.default_rng(0)  # of numpy: torch's defaults may be of another type or device
    runner = NativeRunner(model, 2, None if steps == 1 else steps, step=step)
    state: State = model.initial_state(2)
    action, reward = any_action(model), torch.from_numpy(np.ones(2, np.float32))
    last: Step | None = None
    for t in range(3 if steps == 1 else min(3, steps)):
        returns = torch.from_numpy(rng.random(2, np.float32))
        now = Step(some_observations(model, rng), returns, torch.from_numpy(np.full(2, t)))
        runner.move_on(None)
        runner.given(now)
        if last is None:
            exact, state = model.act(now, state)
        else:
            runner.done(action, reward)
            exact, state = model.commit_and_act(action, reward, last, now, state)
        last = now
        if not agrees(runner.run(), exact.action):
            return
