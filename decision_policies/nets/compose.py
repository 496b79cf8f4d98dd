"""Combine mixers into architectures: chains, residual branches, and maps of single tokens."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.nets.mixer import Mixer, mixed
from decision_policies.ops.linear import linear
from decision_policies.tree import State

Activation: TypeAlias = Literal["gelu", "gelu_tanh", "relu"]
Fusion: TypeAlias = Literal["linear", "sum", "gated"]


class Pointwise(Mixer):
    """A two-layer perceptron on each token by itself: a mixer without state.

    Args:
        d_model: Token width D.
        multiple: Hidden width in units of D.
        dropout: Probability with which an output is dropped in training.
        activation: "gelu" (exact), "gelu_tanh" (its approximation, GPT-2's) or "relu".
    """

    tokenwise = True

    def __init__(
        self,
        d_model: int,
        multiple: int = 4,
        dropout: float = 0.0,
        *,
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(d_model, multiple * d_model)
        self.down = nn.Linear(multiple * d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def initial_state(self, batch: int) -> State:
        """Return the empty state."""
        return ()

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        kind: Tensor | None = None,
        wanted: slice | None = None,
    ) -> tuple[Tensor, State]:
        """Map each token by itself; see `Mixer.forward`."""
        if wanted is not None:
            x = x[:, wanted]
        hidden = linear(x, self.up.weight, self.up.bias)
        if self.activation == "relu":
            hidden = F.relu(hidden, inplace=True)
        else:
            exact = self.activation == "gelu"
            hidden = F.gelu(hidden, approximate="none" if exact else "tanh")
        y: Tensor = self.dropout(linear(hidden, self.down.weight, self.down.bias))
        return y, ()


class Residual(Mixer):
    """x + inner(norm(x)): the pre-normalised residual branch.

    Args:
        d_model: Token width D.
        inner: The mixer of the branch.
        norm: A norm that several branches share; None makes one of its own.
    """

    def __init__(self, d_model: int, inner: Mixer, norm: nn.LayerNorm | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model) if norm is None else norm
        self.inner = inner
        self.tokenwise = inner.tokenwise

    def initial_state(self, batch: int) -> State:
        """Make the initial state of the inner mixer."""
        return self.inner.initial_state(batch)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        kind: Tensor | None = None,
        wanted: slice | None = None,
    ) -> tuple[Tensor, State]:
        """Add the branch to its input; see `Mixer.forward`."""
        norm = self.norm
        y = F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        y, state = mixed(self.inner, y, state, kind, wanted)
        return (x if wanted is None else x[:, wanted]) + y, state


class Chain(Mixer):
    """Mixers one after the other.

    Args:
        layers: The mixers, first to last.
    """

    def __init__(self, *layers: Mixer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.tokenwise = all(layer.tokenwise for layer in layers)

    def initial_state(self, batch: int) -> State:
        """Make the tuple of the layers' initial states."""
        return tuple(cast(Mixer, layer).initial_state(batch) for layer in self.layers)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        kind: Tensor | None = None,
        wanted: slice | None = None,
    ) -> tuple[Tensor, State]:
        """Apply the layers in order, from the last that mixes on where wanted; see `Mixer`."""
        narrowing = -1 if wanted is None else self._last_that_mixes()
        states = []
        for index, layer in enumerate(self.layers):
            before = None if state is None else state[index]
            if index == narrowing:
                x, after = mixed(cast(Mixer, layer), x, before, kind, wanted)
                kind = None if kind is None else kind[wanted]
            else:
                x, after = layer(x, before, kind)
            states.append(after)
        if wanted is not None and not states:
            x = x[:, wanted]
        return x, tuple(states)

    def _last_that_mixes(self) -> int:
        """Find the last layer whose tokens depend on others; 0 where there is none."""
        kinds = [cast(Mixer, layer).tokenwise for layer in self.layers]
        return len(kinds) - 1 - kinds[::-1].index(False) if False in kinds else 0


class Fuse(Mixer):
    """Two mixers side by side, their outputs fused into one.

    Args:
        d_model: Token width D.
        first: The first mixer (MambaDM: the global one).
        second: The second mixer (MambaDM: the local one).
        how: "linear" maps both outputs together, 2 D to D; "sum" adds them; "gated" mixes them by
            g first + (1 - g) second with g = sigmoid of a linear map of both.
        dropout: Probability with which an output is dropped in training.

    References:
        MambaDM, arXiv 2406.02013 (global-local fusion; it publishes no equation).
    """

    def __init__(
        self,
        d_model: int,
        first: Mixer,
        second: Mixer,
        how: Fusion = "linear",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.how = how
        self.linear = None if how == "sum" else nn.Linear(2 * d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def initial_state(self, batch: int) -> State:
        """Make the pair of initial states."""
        return self.first.initial_state(batch), self.second.initial_state(batch)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        kind: Tensor | None = None,
        wanted: slice | None = None,
    ) -> tuple[Tensor, State]:
        """Apply both mixers and fuse; see `Mixer.forward`."""
        left, right = (None, None) if state is None else (state[0], state[1])
        a, left = mixed(self.first, x, left, kind, wanted)
        b, right = mixed(self.second, x, right, kind, wanted)
        if self.linear is None:
            y = a + b
        else:
            y = linear(torch.cat((a, b), -1), self.linear.weight, self.linear.bias)
            if self.how == "gated":
                y = b + y.sigmoid() * (a - b)
        return self.dropout(y), (left, right)


class Positions(Mixer):
    """Adds a learnt vector for a token's place since the memory began.

    Args:
        d_model: Token width D.
        length: Places that have a vector of their own; all later ones share the last.

    References:
        Chen et al., "Decision Transformer", arXiv 2106.01345 (`pos_emb` of its Atari model).
    """

    def __init__(self, d_model: int, length: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(length, d_model))

    def initial_state(self, batch: int) -> Tensor:
        """Make the count of tokens seen by `batch` rows, (B,), int64."""
        return torch.zeros(batch, dtype=torch.int64, device=self.table.device)

    def forward(
        self, x: Tensor, state: State | None = None, kind: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Add the places' vectors; see `Mixer.forward`."""
        seen = self.initial_state(len(x)) if state is None else cast(Tensor, state)
        place = seen[:, None] + torch.arange(x.shape[1], device=x.device)
        return x + self.table[place.clamp(max=len(self.table) - 1)], seen + x.shape[1]
