"""How a policy remembers: re-encode a window, carry a state, or stagger two states.

Each context turns "the action that was executed, and the next step" into a prediction, for n rows
that may start their episodes at different times. They differ in what the model has seen:

- `WindowContext`: exactly the last K steps, re-encoded each time, as the papers act.
- `RecurrentContext`: the whole episode, in a state of constant size: O(1) a step.
- `LifetimeContext`: the same after the best past episodes, which are encoded again at each end.
- `StaggeredContext`: between K / 2 and K steps, in two states that restart in turn: O(1) a step,
  and never more steps than training saw.
"""

from __future__ import annotations

import bisect
from abc import ABC, abstractmethod
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from decision_policies import tree
from decision_policies.batch import Prediction, Step, Window
from decision_policies.models.model import SequenceModel
from decision_policies.spec import Inference
from decision_policies.tree import State

Rows: TypeAlias = NDArray[np.bool_]
"""Which rows are meant, (n,). Rows are counted in numpy: no GPU has to be waited for."""


class Executed(NamedTuple):
    """What was done in the last step.

    Attributes:
        action: (n, *action), in the environment's units.
        reward: (n,), float32.
    """

    action: Tensor
    reward: Tensor


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


class Context(ABC):
    """Memory of n rows over the steps of their episodes."""

    @abstractmethod
    def advance(self, executed: Executed | None, clear: Rows | None, step: Step) -> Prediction:
        """Take in the last step's action, forget what must be forgotten, and predict.

        Args:
            executed: What was done in the last step; None before the first.
            clear: Rows (n,), bool, whose memory ends before this step; None for no row.
            step: What is known of the present step.

        Returns:
            The prediction for the present step, (n, P).
        """


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

    def advance(self, executed: Executed | None, clear: Rows | None, step: Step) -> Prediction:
        """Advance the state by one step; see `Context.advance`."""
        if executed is None or self.last is None:
            prediction, self.state = self.model.act(step, self.state)
        elif clear is None:
            prediction, self.state = self.model.commit_and_act(
                *executed, self.last, step, self.state
            )
        else:
            rows = torch.from_numpy(clear).to(step.timesteps.device)
            state = tree.clear(self.model.commit(*executed, self.last, self.state), rows)
            prediction, self.state = self.model.act(step, state)
        self.last = step
        return prediction


class StaggeredContext(Context):
    """Two recurrent states, restarted in turn every K // 2 steps; the older one acts.

    The two states of a row are rows i and n + i of one batch of 2 n. In a row's step t the states
    restart when t is a multiple of K // 2: the second at odd multiples, the first at even ones.

    Args:
        model: The model.
        rows: Number n of rows.
        length: The context length K, in steps.
    """

    def __init__(self, model: SequenceModel, rows: int, length: int) -> None:
        self.half = length // 2
        self.inner = RecurrentContext(model, 2 * rows)
        self.clock = np.full(rows, -1)

    def advance(self, executed: Executed | None, clear: Rows | None, step: Step) -> Prediction:
        """Advance both states by one step; see `Context.advance`."""
        self.clock += 1
        if clear is not None:
            self.clock[clear] = 0
        turn, phase = np.divmod(self.clock, self.half)
        odd = turn % 2 == 1
        due = (phase == 0) & (turn > 0)
        if clear is not None:
            restart = np.concatenate(((due & ~odd) | clear, (due & odd) | clear))
        else:
            restart = np.concatenate((due & ~odd, due & odd))
        if executed is not None:
            executed = Executed(_twice(executed.action), _twice(executed.reward))
        twice = Step(_twice(step.observations), _twice(step.returns_to_go), _twice(step.timesteps))
        action = self.inner.advance(executed, restart if restart.any() else None, twice).action
        second = ~odd & (turn > 0)
        rows = len(second)
        if rows == 1 or (second == second[0]).all():
            return Prediction(action[rows:] if second[0] else action[:rows])
        return Prediction(action[torch.from_numpy(np.arange(rows) + rows * second)])


class LifetimeContext(RecurrentContext):
    """A state carried through an episode, after the best past ones in the order of their returns.

    Of each row the best n - 1 episodes are kept, of equally good ones the latest. When one ends,
    the kept ones are encoded anew, for a state that has seen them cannot be made to have seen them
    in another order; between two ends the state is carried as ever.

    Args:
        model: The model; the size of its state does not depend on what it has seen.
        rows: Number of rows.
        episodes: Number n of episodes in a context, the present one included.
    """

    def __init__(self, model: SequenceModel, rows: int, episodes: int) -> None:
        super().__init__(model, rows)
        self.episodes = episodes
        self.steps: list[Steps] = []
        """The last steps of all rows, as many as the longest present episode has."""
        self.lengths = np.zeros(rows, np.int64)
        """Steps of each row's present episode."""
        self.kept: list[list[Steps]] = [[] for _ in range(rows)]
        """Past episodes of each row, the poorest first."""

    def advance(self, executed: Executed | None, clear: Rows | None, step: Step) -> Prediction:
        """Advance the state by one step; see `Context.advance`."""
        if executed is None or self.last is None:
            return super().advance(executed, clear, step)
        last = self.last
        known = (last.observations, *executed, last.returns_to_go, last.timesteps)
        self.steps.append(Steps(*known))
        self.lengths += 1
        ended = (step.timesteps == 0).cpu().numpy()
        if clear is not None:
            ended |= clear
        if not ended.any():
            return super().advance(executed, None, step)
        self._keep(ended)
        for row in () if clear is None else np.flatnonzero(clear):
            self.kept[row].clear()
        state = self.state
        if not ended.all():
            state = self.model.commit(*executed, last, state)
        prediction, self.state = self.model.act(step, self._encoded(ended, state))
        self.last = step
        return prediction

    def _keep(self, ended: Rows) -> None:
        """Put the episodes that have ended among the past ones, which makes one too many go."""
        steps = Steps(*(torch.stack(values) for values in zip(*self.steps, strict=True)))
        for row in np.flatnonzero(ended):
            episode = Steps(*(values[-self.lengths[row] :, row] for values in steps))
            bisect.insort(self.kept[row], episode, key=lambda past: float(past.rewards.sum()))
            del self.kept[row][: -self.episodes + 1 or None]
        self.lengths[ended] = 0
        self.steps = self.steps[len(self.steps) - self.lengths.max() :]

    def _encoded(self, ended: Rows, state: State) -> State:
        """Replace the state of rows by one that has seen their past episodes, in order."""
        groups: dict[int, list[int]] = {}
        for row in map(int, np.flatnonzero(ended)):
            groups.setdefault(sum(len(past.rewards) for past in self.kept[row]), []).append(row)
        for length, rows in groups.items():  # rows of one length need no padding
            seen = self.model.initial_state(len(rows))
            if length:
                seen = self.model.remember(_joined([self.kept[row] for row in rows]))
            index = torch.tensor(rows, device=tree.leaves(seen)[0].device)
            state = tree.map_state(partial(_put, index), state, seen)
        return state


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
        self.rows = torch.arange(rows, device=next(model.parameters()).device)
        self.history: tuple[Tensor, ...] | None = None

    def advance(self, executed: Executed | None, clear: Rows | None, step: Step) -> Prediction:
        """Append the step and re-encode the window; see `Context.advance`."""
        if executed is not None and self.history is not None:
            last = self._tensor(self.count - 1)
            for memory, value in zip(self.history[:2], executed, strict=True):
                memory[self.rows, last] = value.to(memory.dtype)
        if clear is not None:
            self.count[clear] = 0
        self._make_room(step)
        assert self.history is not None
        known = (step.observations, step.returns_to_go, step.timesteps)
        last = self._tensor(self.count)
        for memory, value in zip(self.history[2:], known, strict=True):
            memory[self.rows, last] = value
        self.count += 1
        prediction, _ = self.model(self._window(int(self.count.max())))
        return Prediction(prediction.action[self.rows, last])

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
        if full.any():
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


def make_context(model: SequenceModel, rows: int, inference: Inference) -> Context:
    """Make the context of an inference mode.

    Args:
        model: The model; its spec gives the context length.
        rows: Number n of rows.
        inference: The mode.
    """
    if inference == "recurrent" and model.spec.context_episodes is not None:
        return LifetimeContext(model, rows, model.spec.context_episodes)
    if inference == "recurrent":
        return RecurrentContext(model, rows)
    kind = StaggeredContext if inference == "staggered" else WindowContext
    return kind(model, rows, model.spec.context_length)


def _joined(pasts: list[list[Steps]]) -> Window:
    """Make a window of the episodes of several rows, equally many steps a row."""
    rows = [Steps(*(torch.cat(values) for values in zip(*past, strict=True))) for past in pasts]
    batch = Steps(*(torch.stack(values) for values in zip(*rows, strict=True)))
    real = torch.ones_like(batch.timesteps, dtype=torch.bool)
    return Window(*batch, mask=real, starts=real[:, 0])


def _put(rows: Tensor, old: Tensor, new: Tensor) -> Tensor:
    return old.index_copy(0, rows, new)


def _twice(x: Tensor) -> Tensor:
    return torch.cat((x, x))
