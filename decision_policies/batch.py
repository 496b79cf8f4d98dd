"""The tensors that travel between data, model and policy: Window, Step, Prediction."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from decision_policies import tree


@dataclass(frozen=True)
class Window:
    """A batch of consecutive steps, right-padded, in the units of the environment.

    Rows shorter than T are padded on the right; causal models never look to the right, so what
    stands in the padding has no influence on the real steps, and the loss leaves it out.

    Attributes:
        observations: (B, T, *observation), float32, uint8 for images, int64 for Discrete; of all
            but Box and Discrete spaces the flat vectors, (B, T, S), float32.
        actions: (B, T, *action), float32 for Box, int64 for choices.
        rewards: (B, T), float32.
        returns_to_go: (B, T), float32, the sum of this and all later rewards of the episode.
        timesteps: (B, T), int64, steps since the episode's start.
        mask: (B, T), bool, True where the step is real; the real steps are a prefix of each row.
        starts: (B,), bool, True where the row begins anew, so that a carried state is cleared.
        goals: (B, T, *observation), of each step the observation of its valuable sub-goal, which
            comes later in the same episode; None where the sampler gives none.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    returns_to_go: Tensor
    timesteps: Tensor
    mask: Tensor
    starts: Tensor
    goals: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Batch size B and number of steps T."""
        return self.mask.shape[0], self.mask.shape[1]

    def to(self, device: torch.device | str) -> Window:
        """Move all tensors to a device."""
        moved = {k: value.to(device, non_blocking=True) for k, value in self.tensors().items()}
        return replace(self, **moved)

    def rows(self, rows: slice) -> Window:
        """Take some rows, as views."""
        return replace(self, **{k: value[rows] for k, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """List the fields that hold a tensor, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Step:
    """What is known of one step before its action, in the units of the environment.

    Attributes:
        observations: (B, *observation); of all but Box and Discrete spaces flat vectors, (B, S).
        returns_to_go: (B,), float32.
        timesteps: (B,), int64.
    """

    observations: Tensor
    returns_to_go: Tensor
    timesteps: Tensor

    def where(self, rows: Tensor, other: Step) -> Step:
        """Take the marked rows, (B,), bool, from this step and the others from another."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Step(*(tree.where(rows, mine, its) for mine, its in pairs))


class Prediction(NamedTuple):
    """What a model says of the actions.

    Attributes:
        action: Parameters of the action as the head defines them, (B, T, P) for a window or (B, P)
            for a step: the action itself in [-1, 1] for a bounded Box, logits for choices.
    """

    action: Tensor


Losses: TypeAlias = dict[str, Tensor]
"""Scalars by name; `"loss"` is the one that is minimised, the others are logged."""
