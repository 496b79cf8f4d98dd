"""Combine mixers into architectures: chains, residual branches, and maps of single tokens."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.nets.mixer import Mixer
from decision_policies.tree import State


class Pointwise(Mixer):
    """A two-layer perceptron on each token by itself: a mixer without state.

    Args:
        d_model: Token width D.
        multiple: Hidden width in units of D.
        dropout: Probability with which an output is dropped in training.
    """

    def __init__(self, d_model: int, multiple: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, multiple * d_model)
        self.down = nn.Linear(multiple * d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def initial_state(self, batch: int) -> State:
        """Return the empty state."""
        return ()

    def forward(
        self, x: Tensor, state: State | None = None, kind: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map each token by itself; see `Mixer.forward`."""
        y: Tensor = self.dropout(self.down(F.gelu(self.up(x))))
        return y, ()


class Residual(Mixer):
    """x + inner(norm(x)): the pre-normalised residual branch.

    Args:
        d_model: Token width D.
        inner: The mixer of the branch.
    """

    def __init__(self, d_model: int, inner: Mixer) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.inner = inner

    def initial_state(self, batch: int) -> State:
        """Make the initial state of the inner mixer."""
        return self.inner.initial_state(batch)

    def forward(
        self, x: Tensor, state: State | None = None, kind: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Add the branch to its input; see `Mixer.forward`."""
        norm = self.norm
        y = F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        y, state = self.inner(y, state, kind)
        return x + y, state


class Chain(Mixer):
    """Mixers one after the other.

    Args:
        layers: The mixers, first to last.
    """

    def __init__(self, *layers: Mixer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def initial_state(self, batch: int) -> State:
        """Make the tuple of the layers' initial states."""
        return tuple(cast(Mixer, layer).initial_state(batch) for layer in self.layers)

    def forward(
        self, x: Tensor, state: State | None = None, kind: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Apply the layers in order; see `Mixer.forward`."""
        states = []
        for index, layer in enumerate(self.layers):
            x, after = layer(x, None if state is None else state[index], kind)
            states.append(after)
        return x, tuple(states)
