"""Run a HybridModel's two memories by the native library: arrays in and out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.batch import Step
from decision_policies.models.encoders import IndexEncoder, VectorEncoder
from decision_policies.models.hybrid import HybridModel
from decision_policies.models.model import SequenceModel
from decision_policies.models.native_call import NativeCall
from decision_policies.models.native_check import (
    agrees,
    any_action,
    evaluating,
    some_observations,
    tell,
)
from decision_policies.models.native_hybrid import HybridSteps, written_hybrid
from decision_policies.models.native_runner import NativeRunner
from decision_policies.models.native_step import Floats, NotNativeError
from decision_policies.ops.native.library import native
from decision_policies.tree import State

Flags = NDArray[np.bool_]

_KNOWN: WeakKeyDictionary[SequenceModel, HybridSteps] = WeakKeyDictionary()


class Past(Protocol):
    """A past episode of T steps."""

    @property
    def observations(self) -> Tensor:
        """Observations, (T, *observation)."""

    @property
    def rewards(self) -> Tensor:
        """Rewards, (T,)."""


class HybridRunner:
    """What n rows of a HybridModel remember, and room for a step's inputs.

    Args:
        model: A model that has native steps, and goes on having them.
        rows: Number n of rows.
        steps: The steps; None looks for them.

    Attributes:
        state: What the long memory remembers, (n, S), zeros being the initial state.
        paid: Sum of the rewards since the chunk began, (n,).
        clock: Steps taken in the chunk, (n,); 0: the next step begins one.
    """

    def __init__(self, model: HybridModel, rows: int, steps: HybridSteps | None = None) -> None:
        self.model = model
        self.steps = steps or self._found()
        memory = self.steps.memory
        self.short = NativeRunner(model, rows, step=self.steps.short)
        self.state = np.zeros((rows, memory.size), np.float32)
        self.paid = np.zeros(rows, np.float32)
        self.clock = np.zeros(rows, np.int64)
        self._seen = np.zeros((rows, 1, memory.width), np.float32)
        self._new = np.zeros(rows, np.int64)
        self._prompts = np.zeros((rows, memory.parameters), np.float32)
        self._bind()

    @property
    def held(self) -> list[NDArray[Any]]:
        """All that is carried from one run to the next."""
        return [self.state, self.paid, self.clock, *self.short.memory]

    def hold(self, held: list[NDArray[Any]]) -> None:
        """Go on with what another runner of this model and as many rows has held."""
        for mine, other in zip(self.held, held, strict=True):
            mine[:] = other

    def refresh(self) -> None:
        """Go on with the weights that the model has now.

        Raises:
            RuntimeError: The model can no longer act natively: it was moved, or has another type.
        """
        if not self.steps.memory.current():
            self.steps = self._found()
            self.short.take(self.steps.short)
            self._bind()

    def _found(self) -> HybridSteps:
        steps = hybrid_steps(self.model)
        if steps is None:
            raise RuntimeError(
                "the model cannot act by the native library; if it was moved while it acted, call "
                "policy.reset() and begin anew"
            )
        return steps

    def _bind(self) -> None:
        """Bind the long memory's step to the arrays."""
        fresh = np.zeros(len(self.clock), bool)  # a state of zeros is where it begins
        arrays = (self._seen, self._new, fresh, self.state, self._prompts)
        self._remember = NativeCall(self.steps.memory, *arrays)

    @np.errstate(over="ignore")  # infinite: the policy reports what comes of it
    def done(self, action: Tensor, reward: Tensor, idle: Flags | None = None) -> None:
        """Take in what was done in the last step, but for rows that are idle, (n,)."""
        self.short.done(action, reward)
        there = True if idle is None else ~idle
        np.add(self.paid, reward.numpy(), out=self.paid, where=there)
        np.add(self.clock, 1, out=self.clock, where=there)
        self.clock[self.clock == self.model.chunk_length] = 0

    def run(self, step: Step, idle: Flags | None = None) -> Floats:
        """Predict (n, P), and remember; what is predicted for rows that are idle means nothing."""
        begins = step.timesteps.numpy() == 0
        new = begins | (self.clock == 0)
        if idle is not None:
            new &= ~idle
        short = self.short
        if new.any():
            self._look(self._seen[:, 0], self.paid, begins, step.observations)
            self._new[:] = new
            self._remember()
            self.paid[new] = 0.0
            self.clock[new] = 0
            short.view("prompt")[0][new] = self._prompts[new]
            short.move_on(new)
        short.view("clock")[0, :, 0] = self.clock
        kept = None if idle is None else short.remembered(idle)
        short.given(step)
        prediction = short.run(idle)
        if idle is not None and kept is not None:
            short.recall(idle, kept)
        return prediction

    def encode(self, rows: Sequence[int], pasts: Sequence[Sequence[Past]]) -> None:
        """Let rows remember past episodes, in their order, and nothing else.

        Args:
            rows: Their numbers.
            pasts: Of each, the episodes.
        """
        memory, chunk = self.steps.memory, self.model.chunk_length
        counts = np.array([sum(-(-len(x.rewards) // chunk) for x in past) for past in pasts])
        seen = np.zeros((len(rows), max(1, counts.max()), memory.width), np.float32)
        self.paid[rows], self.clock[rows] = 0.0, 0
        for row, past, count, mine in zip(rows, pasts, counts, seen, strict=True):
            if not past:
                continue
            sums = np.concatenate([_sums(x.rewards.numpy(), chunk) for x in past])
            begins = np.concatenate([_first_of(len(x.rewards), chunk) for x in past])
            observations = torch.cat([x.observations[::chunk] for x in past])
            before = np.concatenate((self.paid[[row]], sums[:-1]))
            self._look(mine[-count:], before, begins, observations)
            self.paid[row] = sums[-1]
        state = np.zeros((len(rows), memory.size), np.float32)
        prompts = np.zeros((len(rows), memory.parameters), np.float32)
        NativeCall(memory, seen, counts, np.zeros(len(rows), bool), state, prompts)()
        self.state[rows] = state

    @np.errstate(over="ignore")
    def _look(self, into: Floats, paid: Floats, begins: Flags, observations: Tensor) -> None:
        """Take in what the long memory sees of m chunks, into (m, width)."""
        parts, look = self.steps.memory.parts, self.model.look
        into[:, parts["paid"]] = (paid / look.return_scale)[:, None]
        into[:, parts["begins"]] = begins[:, None]
        encoder, seen = look.observation, observations.numpy().reshape(len(into), -1)
        if isinstance(encoder, IndexEncoder):
            into[:, parts["observation"]] = seen - encoder.start
        elif isinstance(encoder, VectorEncoder):
            into[:, parts["observation"]] = (seen - encoder.mean.numpy()) / encoder.std.numpy()


def _sums(rewards: Floats, chunk: int) -> Floats:
    """Sum the rewards (T,) of each chunk."""
    return np.asarray(np.add.reduceat(rewards, np.arange(0, len(rewards), chunk)))


def _first_of(steps: int, chunk: int) -> Flags:
    """Mark the first of an episode's chunks."""
    return np.asarray(np.arange(0, steps, chunk) == 0)


def hybrid_steps(model: SequenceModel) -> HybridSteps | None:
    """Write a model's two memories down; see `native_step`.

    Returns:
        The steps; None if there is no library, or the model has parts that it does not know.
    """
    if native().library is None:
        return None
    known = _KNOWN.get(model)
    if known is not None and known.memory.describes(model):
        return known
    _KNOWN.pop(model, None)
    try:
        steps = written_hybrid(model)
        with evaluating(model):
            _check(steps, cast(HybridModel, model))
    except NotNativeError as reason:
        tell(model, reason)
        return None
    _KNOWN[model] = steps
    return steps


@torch.inference_mode()
def _check(steps: HybridSteps, model: HybridModel) -> None:
    """Compare an episode of three steps, and two of the next, of two rows with the model's own.

    Raises:
        NotNativeError: They differ.
    """
    rng = np.random.default_rng(0)
    runner = HybridRunner(model, 2, steps)
    state: State = model.initial_state(2)
    action, reward = any_action(model), torch.from_numpy(np.ones(2, np.float32))
    last: Step | None = None
    for time in (0, 1, 2, 0, 1):
        returns = torch.from_numpy(rng.random(2, np.float32))
        clock = torch.from_numpy(np.full(2, time))
        now = Step(some_observations(model, rng), returns, clock)
        if last is None:
            exact, state = model.act(now, state)
        else:
            runner.done(action, reward)
            exact, state = model.commit_and_act(action, reward, last, now, state)
        last = now
        if not agrees(runner.run(now), exact.action):
            return
