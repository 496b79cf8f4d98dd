"""The acting step as a pure function of flat tensors, which exporters can trace."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from decision_policies import inputs, tree
from decision_policies.batch import Step
from decision_policies.errors import ExportError
from decision_policies.models.heads import (
    ContinuousHead,
    DiscreteHead,
    Head,
    MultiBinaryHead,
    MultiDiscreteHead,
)
from decision_policies.policy import SequencePolicy
from decision_policies.tree import State

HEADS = (ContinuousHead, DiscreteHead, MultiDiscreteHead, MultiBinaryHead)
"""The heads whose actions the exported function can choose."""


class ActingStep(nn.Module):
    """One step as a pure function of flat tensors: what was done, then what to do next.

    Args:
        policy: The policy; its model is copied to the CPU.
        rows: Number n of environments.
    """

    def __init__(self, policy: SequencePolicy, rows: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(policy.model).cpu().eval().requires_grad_(False)
        self.period = self.model.spec.context_length // 2 if policy.inference == "staggered" else 0
        self.rows = rows
        self.first_observation = drawn_observations(self.model.spec.observation_space, rows, seed=0)
        self.first_action = drawn_actions(self.model.spec.action_space, rows, seed=0)
        self.likeliest = Likeliest(self.model.head)
        self.structure = self._steady_state()

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Map the tensors named in `export_step` to the action, its parameters and the state."""
        observation, return_to_go, timestep, action, reward, *flat = given
        fresh = timestep == 0
        action = torch.where(_column(fresh, action), self.first_action, action)
        before, restart = (timestep - 1).clamp(min=0), fresh
        if self.period:
            turn = torch.div(timestep, self.period, rounding_mode="floor")
            odd, due = turn % 2 == 1, (timestep % self.period == 0)
            restart = torch.cat((fresh | (due & ~odd), fresh | (due & odd)))
            twice = (observation, return_to_go, timestep, before, action, reward)
            observation, return_to_go, timestep, before, action, reward = map(_doubled, twice)
        state = tree.unflatten(self.structure, flat)
        last = Step(observation, return_to_go, before)  # of which only the time is looked at
        state = self.model.commit(action, reward, last, state)
        now = Step(observation, return_to_go, timestep)
        prediction, state = self.model.act(now, _cleared(state, restart))
        parameters = prediction.action
        if self.period:
            second = (turn > 0) & ~odd
            first, other = parameters.chunk(2)
            parameters = torch.where(second.unsqueeze(-1), other, first)
        return (self.likeliest(parameters), parameters, *tree.leaves(state))

    def example(self) -> tuple[Tensor, ...]:
        """Make arguments of the right shapes: those of an episode's first step."""
        asked, reward = torch.zeros(self.rows), torch.zeros(self.rows)  # one would be one argument
        state = (torch.zeros_like(x) for x in tree.leaves(self.structure))
        return (self.first_observation, asked, asked.long(), self.first_action, reward, *state)

    @torch.no_grad()
    def _steady_state(self) -> State:
        """Step until the state grows no more, as a cache of keys does up to its window.

        In front of such a cache zeros mean nothing, so the all-zero state of full size is the
        initial state, too.
        """
        rows = 2 * self.rows if self.period else self.rows
        observation = _doubled(self.first_observation)[:rows]
        action = _doubled(self.first_action)[:rows]
        zeros = torch.zeros(rows)
        step = Step(observation, zeros, zeros.long())
        state: State = self.model.initial_state(rows)
        for _ in range(self.model.spec.context_length + 1):
            before = state
            _, state = self.model.act(step, state)
            state = self.model.commit(action, zeros, step, state)
            if [x.shape for x in tree.leaves(before)] == [x.shape for x in tree.leaves(state)]:
                return state
        raise ExportError(
            "the model's state still grows after as many steps as its context has; a file has "
            "room for a state of constant size only"
        )


def _cleared(state: State, rows: Tensor) -> State:
    """`tree.clear` without the choice between bools, which onnxruntime does not know."""

    def clear(x: Tensor) -> Tensor:
        gone = _column(rows, x)
        return x & ~gone if x.dtype == torch.bool else x.masked_fill(gone, 0)

    return tree.map_state(clear, state)


def _doubled(x: Tensor) -> Tensor:
    return torch.cat((x, x))


def _column(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(-1, *(1 for _ in like.shape[1:]))


class Likeliest(nn.Module):
    """`Head.act`, deterministic, in operators of torch.

    Args:
        head: One of the package's heads.
    """

    low: Tensor
    high: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        assert isinstance(head, HEADS), "export_step refuses every other"
        self.shape = head.space.shape or ()
        self.dtype = torch.from_numpy(np.zeros(0, head.space.dtype)).dtype
        if isinstance(head, ContinuousHead):
            self.register_buffer("low", torch.from_numpy(head.space.low.copy()))
            self.register_buffer("high", torch.from_numpy(head.space.high.copy()))
        elif isinstance(head, MultiDiscreteHead):
            self.register_buffer("low", torch.from_numpy(head.space.start.copy()))

    def forward(self, parameters: Tensor) -> Tensor:
        """Choose actions (n, *action) of the space's dtype from parameters (n, P)."""
        head = self.head
        if isinstance(head, ContinuousHead):
            chosen = parameters * head.half_width + head.center
            chosen = chosen.double().round() if head.rounds else chosen
            chosen = chosen.view(-1, *self.shape).maximum(self.low).minimum(self.high)
        elif isinstance(head, DiscreteHead):
            chosen = parameters.argmax(-1) + int(head.space.start)
        elif isinstance(head, MultiDiscreteHead):
            parts = torch.split(parameters, head.counts, -1)
            chosen = torch.stack([part.argmax(-1) for part in parts], -1)
            chosen = chosen.view(-1, *self.shape) + self.low
        else:
            chosen = (parameters > 0).view(-1, *self.shape)
        return chosen.to(self.dtype)


def drawn_observations(space: spaces.Space[Any], rows: int, seed: int) -> Tensor:
    """Draw n observations, as the model takes them."""
    return torch.cat([inputs.observation(one, space)[0] for one in _drawn(space, rows, seed)])


def drawn_actions(space: spaces.Space[Any], rows: int, seed: int) -> Tensor:
    """Draw n actions, as the model takes them."""
    return inputs.action_tensor(np.stack(_drawn(space, rows, seed)))


def _drawn(space: spaces.Space[Any], rows: int, seed: int) -> list[Any]:
    space = copy.deepcopy(space)
    space.seed(seed)
    return [space.sample() for _ in range(rows)]
