"""Session: what a policy keeps of the episodes that it is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.contexts import Context


@dataclass
class Session:
    """The live state of n environments; one row each.

    Attributes:
        context: The model's memory.
        device: Device of the model.
        returns_to_go: What is still asked for, (n,), float64 so that long episodes lose nothing.
        timesteps: Steps since the episode's start, (n,).
        starts: Rows whose next observation is the first of an episode, (n,).
        paid: Rows whose last action has had its reward reported, (n,).
        rewards: Rewards since the last action, (n,), float64.
        idle: Rows whose environment resets in its next step, (n,): their next action is not
            executed, and nothing changes for them until then. Set by `wait`.
        any_idle: Whether there is one.
        observations: Those last seen, (n, *observation), on the device; None before the first.
        actions: The actions last executed, (n, *action); None before the first.
        single: Whether observations come without a batch axis.
        warned: Whether the user has been told that rewards are missing.
    """

    context: Context
    device: torch.device
    returns_to_go: NDArray[np.float64]
    timesteps: NDArray[np.int64]
    starts: NDArray[np.bool_]
    paid: NDArray[np.bool_]
    rewards: NDArray[np.float64]
    idle: NDArray[np.bool_]
    observations: Tensor | None = field(default=None)
    actions: NDArray[Any] | None = field(default=None)
    any_idle: bool = False
    single: bool = False
    warned: bool = False

    @classmethod
    def begin(cls, context: Context, device: torch.device, rows: int) -> Session:
        """Begin with n environments, all at the start of an episode."""
        return cls(
            context=context,
            device=device,
            returns_to_go=np.empty(rows),
            timesteps=np.zeros(rows, np.int64),
            starts=np.ones(rows, bool),
            paid=np.ones(rows, bool),
            rewards=np.zeros(rows),
            idle=np.zeros(rows, bool),
        )

    def check(self, rows: int, device: torch.device) -> None:
        """Check that a call goes on with what the session was begun with.

        Raises:
            ValueError: The number of environments is another.
            RuntimeError: The model is on another device.
        """
        if len(self.starts) != rows:
            raise ValueError(
                f"got observations of {rows} environments, but this session has "
                f"{len(self.starts)}: call reset() before changing their number"
            )
        if device != self.device:
            raise RuntimeError(
                f"the model was moved from {self.device} to {device} in the midst of an episode, "
                "whose memory stays where it was: move it back, or call policy.reset() and begin "
                "anew (nothing has changed)"
            )

    def wait(self, rows: NDArray[np.bool_]) -> None:
        """Let these rows, (n,), be idle, and no others."""
        self.idle, self.any_idle = rows, bool(rows.any())

    def acted(self, actions: NDArray[Any]) -> None:
        """Take over the actions that were chosen; rewards and ends are awaited from now on."""
        self.remember(actions)
        self.paid[:] = False
        if self.any_idle:
            self.starts &= self.idle
            self.rewards *= self.idle
        else:  # as above, at a third of the cost
            self.starts[:] = False
            self.rewards[:] = 0.0

    def remember(self, actions: NDArray[Any]) -> None:
        """Take over actions as executed, except for idle rows."""
        if self.actions is not None and self.any_idle:
            actions[self.idle] = self.actions[self.idle]
        self.actions = actions
