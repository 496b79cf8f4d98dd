"""Run a model's step by the native library, or by NumPy where there is none: arrays in and out."""

from __future__ import annotations

import ctypes
import logging
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.batch import Step
from decision_policies.models.encoders import IndexEncoder, VectorEncoder
from decision_policies.models.heads import ContinuousHead, DiscreteHead
from decision_policies.models.model import SequenceModel, TokenModel
from decision_policies.models.native_step import Floats, NativeStep, NotNativeError, written
from decision_policies.models.numpy_step import NumpyStep, Rows
from decision_policies.ops.native.library import function, native
from decision_policies.spaces import model_shape
from decision_policies.tree import State

TOLERANCE = 1e-4
"""Largest difference from the model itself that the check before the first use lets pass."""

_KNOWN: WeakKeyDictionary[SequenceModel, NativeStep] = WeakKeyDictionary()
_TOLD: WeakSet[SequenceModel] = WeakSet()


class NativeRunner:
    """The state of n rows, and room for a step's inputs.

    Args:
        model: A model that has a native step, and goes on having one.
        rows: Number n of rows.
        step: Its step; None looks for it.

    Attributes:
        state: What the rows remember, (n, S); zeros are the initial state.
        fresh: Rows that begin with the next step, from the initial state, (n,).
    """

    def __init__(self, model: SequenceModel, rows: int, step: NativeStep | None = None) -> None:
        self.model = cast(TokenModel, model)
        self.step = step or self._found()
        self.state = np.zeros((rows, self.step.size), np.float32)
        self.fresh = np.ones(rows, bool)
        self._input = np.zeros((rows, self.step.width), np.float32)
        self._views = {name: self._input[:, part] for name, part in self.step.parts.items()}
        self._return_scale = self.model.embedding.return_scale
        self._before, self._now = np.zeros((2, rows), np.int64)
        self._output = np.empty((rows, self.step.parameters), np.float32)
        self._bind()

    def __reduce__(self) -> tuple[Any, ...]:
        known = (self.state, self.fresh, self._before, self._now)
        return _revived, (self.model, *known)

    def refresh(self) -> None:
        """Go on with the weights that the model has now.

        Raises:
            RuntimeError: The model can no longer act natively: it was moved, or has another type.
        """
        if not self.step.current():
            self.step = self._found()
            self._bind()

    def _found(self) -> NativeStep:
        step = native_step(self.model)
        if step is None:
            raise RuntimeError(
                "the model was moved to another device or number type while it acted: "
                "call policy.reset() and begin anew"
            )
        return step

    def _bind(self) -> None:
        """Bind the step to the arrays, once and for all steps."""
        step, model = self.step, self.model
        encoder = model.embedding.observation
        self._start = encoder.start if isinstance(encoder, IndexEncoder) else None
        if isinstance(encoder, VectorEncoder):
            self._mean, self._std = encoder.mean.numpy(), encoder.std.numpy()
        self._numpy: NumpyStep | None = None
        if native().library is None:
            rows = Rows(self._input, self._before, self._now, self.state, self._output)
            self._numpy = NumpyStep(step, rows)
            return
        self._ops = np.array(step.ops, np.int64)
        self._scratch = np.zeros(step.scratch, np.float32)
        arrays = (self._input, self._before, self._now, self.fresh, self.state, self._scratch)
        slots = [self._ops.ctypes.data, len(step.ops), step.done, step.given, *self._input.shape]
        slots += [step.size, *(x.ctypes.data for x in arrays)]
        slots += [step.parameters, self._output.ctypes.data]
        self._slots = (ctypes.c_int64 * len(slots))(*slots)
        self._call = function("policy_step")

    @property
    def taken(self) -> tuple[NDArray[Any], ...]:
        """What `done` and `given` have taken in: arrays whose first axis is the row."""
        return self._input, self._before, self._now

    def done(self, action: Tensor, reward: Tensor) -> None:
        """Take in what was done in the last step; see `SequenceModel.commit`."""
        head = self.model.head
        if "action" in self._views:
            view = self._views["action"]
            if isinstance(head, DiscreteHead):
                view[:, 0] = action.numpy() - int(head.space.start)
            elif isinstance(head, ContinuousHead):
                np.subtract(action.numpy().reshape(view.shape), head.offset, out=view)
                np.divide(view, head.scale, out=view)
        if "reward" in self._views:
            self._views["reward"][:, 0] = reward.numpy() / self._return_scale

    def given(self, step: Step) -> None:
        """Take in what is known of the next step."""
        view, observations = self._views["observation"], step.observations.numpy()
        if self._start is not None:
            view[:, 0] = observations - self._start
        else:
            np.subtract(observations.reshape(view.shape), self._mean, out=view)
            np.divide(view, self._std, out=view)
        if "return" in self._views:
            self._views["return"][:, 0] = step.returns_to_go.numpy() / self._return_scale
        self._before[:] = self._now
        self._now[:] = step.timesteps.numpy()

    def remembered(self, rows: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.int64]]:
        """Copy what some rows remember."""
        return self.state[rows], self._now[rows]

    def recall(self, rows: NDArray[np.bool_], kept: tuple[Floats, NDArray[np.int64]]) -> None:
        """Put some rows back to what they remembered."""
        self.state[rows], self._now[rows] = kept

    def run(self) -> Floats:
        """Predict from what was taken in, (n, P), and carry the state on; no row is fresh then."""
        if self._numpy is not None:
            self._numpy.run(self.fresh)
        else:
            self._call(self._slots)
        self.fresh[:] = False
        return self._output.copy()


def _revived(
    model: SequenceModel,
    state: Floats,
    fresh: NDArray[np.bool_],
    before: NDArray[np.int64],
    now: NDArray[np.int64],
) -> NativeRunner:
    """Make a runner again from a copy: addresses are nothing to be copied."""
    runner = NativeRunner(model, len(state))
    runner.state[:], runner.fresh[:], runner._before[:], runner._now[:] = state, fresh, before, now
    return runner


def native_step(model: SequenceModel) -> NativeStep | None:
    """Write a model's step down, for the native library or NumPy to run.

    What was written is compared with the model before it is used, and written again when the
    weights have changed.

    Returns:
        The step; None if the model has parts that cannot be written down.
    """
    known = _KNOWN.get(model)
    if known is not None and known.describes(model):
        return known
    _KNOWN.pop(model, None)
    training = model.training
    try:
        step = written(model)
        _check(step, cast(TokenModel, model.eval()))
    except NotNativeError as reason:
        if model not in _TOLD:
            _TOLD.add(model)
            logging.getLogger(__name__).info("the model acts by torch: %s", reason)
        return None
    finally:
        model.train(training)
    _KNOWN[model] = step
    return step


@torch.inference_mode()
def _check(step: NativeStep, model: TokenModel) -> None:
    """Compare three steps of two rows with the model's own.

    Raises:
        NotNativeError: They differ.
    """
    rng = np.random.default_rng(0)  # of numpy: torch's defaults may be of another type or device
    runner = NativeRunner(model, 2, step)
    state: State = model.initial_state(2)
    action, reward = _any_action(model), torch.from_numpy(np.ones(2, np.float32))
    last: Step | None = None
    for t in range(3):
        returns = torch.from_numpy(rng.random(2, np.float32))
        now = Step(_some_observations(model, rng), returns, torch.from_numpy(np.full(2, t)))
        runner.given(now)
        if last is None:
            exact, state = model.act(now, state)
        else:
            runner.done(action, reward)
            exact, state = model.commit_and_act(action, reward, last, now, state)
        last = now
        error = np.abs(runner.run() - exact.action.numpy()).max()
        if not error <= TOLERANCE * max(1.0, float(exact.action.abs().max())):
            raise NotNativeError(f"its step as it was written down differs by {error}")


def _any_action(model: TokenModel) -> Tensor:
    """Give an action that is possible, for two rows."""
    if isinstance(model.head, ContinuousHead):
        return model.head.center.repeat(2, 1).view(2, *model.head.space.shape)
    assert isinstance(model.head, DiscreteHead)
    return torch.from_numpy(np.full(2, int(model.head.space.start)))


def _some_observations(model: TokenModel, rng: np.random.Generator) -> Tensor:
    """Draw observations like the data's, of two rows."""
    encoder = model.embedding.observation
    if isinstance(encoder, IndexEncoder):
        return torch.from_numpy(np.full(2, encoder.start))
    assert isinstance(encoder, VectorEncoder)
    drawn = torch.from_numpy(rng.normal(size=(2, len(encoder.mean))).astype(np.float32))
    shape = model_shape(model.spec.observation_space)
    return (drawn * encoder.std + encoder.mean).view(2, *shape)
