"""What the wrappers have in common: who listens to them."""

from __future__ import annotations

from typing import Any, Protocol


class Observer(Protocol):
    """The part of a policy that listens to rewards; see `SequencePolicy.observe`."""

    def observe(
        self,
        reward: Any,
        terminated: Any = False,
        truncated: Any = False,
        action: Any = None,
        *,
        resetting: Any = False,
    ) -> None:
        """Take in a reward."""


class Reporter:
    """A wrapper of this room, whatever kind of environment it stands around.

    Attributes:
        policy: Who hears of the rewards.
    """

    policy: Observer
