"""The contract of every causal sequence map, and the law that makes one function serve twice."""

from __future__ import annotations

from abc import abstractmethod
from inspect import signature
from typing import TYPE_CHECKING

from torch import Tensor, nn

from decision_policies.tree import State


class Mixer(nn.Module):
    """A causal map of token sequences, (B, L, D) -> (B, L, D), with its state passed explicitly.

    The law: for every cut k, `f(x, s)` equals `f(x[:, :k], s)` followed by `f(x[:, k:], s')`, where
    s' is the state that the first call returns. Training is then `f(x)`, acting is `f(this step's
    tokens, state)`, and there is no second implementation that could drift from the first.
    The all-zero state is the initial state, and `None` stands for it. No state is kept in the
    module, none is changed in place.

    Attributes:
        tokenwise: Whether each token is mapped by itself, without state.
        selective: Whether `forward` has a fourth argument `wanted`, a slice of the L tokens, and
            maps those only; the state is that after all. Policies read the last layer at one token
            of each step, and the work on the others is spared so; see `mixed`.
    """

    tokenwise = False
    selective = False

    def __init_subclass__(cls) -> None:
        """Find out whether the class is selective."""
        super().__init_subclass__()
        cls.selective = "wanted" in signature(cls.forward).parameters

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """Make the all-zero state of `batch` rows, on the device of the weights."""

    @abstractmethod
    def forward(
        self, x: Tensor, state: State | None = None, kind: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map the tokens and advance the state.

        Args:
            x: Tokens, (B, L, D).
            state: State after the tokens before these; None for the initial state.
            kind: Modality index of each token, (L,), for mixers that treat modalities differently.

        Returns:
            The mapped tokens (B, L, D) and the state after the last of them.
        """

    if TYPE_CHECKING:  # nn.Module's own is untyped

        def __call__(  # noqa: D102
            self,
            x: Tensor,
            state: State | None = None,
            kind: Tensor | None = None,
            wanted: slice | None = None,
        ) -> tuple[Tensor, State]: ...


def mixed(
    mixer: Mixer, x: Tensor, state: State | None, kind: Tensor | None, wanted: slice | None
) -> tuple[Tensor, State]:
    """Map tokens where only some are wanted, which a mixer need not know of.

    Args:
        mixer: The mixer.
        x: As for `Mixer.forward`.
        state: As for `Mixer.forward`.
        kind: As for `Mixer.forward`.
        wanted: Which of the L tokens; None is all of them.

    Returns:
        The mapped tokens that are wanted, and the state after the last of all.
    """
    if wanted is None:
        return mixer(x, state, kind)
    if mixer.selective:
        return mixer(x, state, kind, wanted)
    y, state = mixer(x, state, kind)
    return y[:, wanted], state
