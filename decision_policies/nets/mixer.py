"""The contract of every causal sequence map, and the law that makes one function serve twice."""

from __future__ import annotations

from abc import abstractmethod
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
    """

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
            self, x: Tensor, state: State | None = None, kind: Tensor | None = None
        ) -> tuple[Tensor, State]: ...
