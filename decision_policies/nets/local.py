"""Local memory: a Mamba block that sees the last w tokens, and mixers that restart every w."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from decision_policies import tree
from decision_policies.nets.mamba import Mamba
from decision_policies.nets.mixer import Mixer
from decision_policies.ops.banded_scan import banded_scan
from decision_policies.ops.linear import linear
from decision_policies.tree import State


class LocalMamba(Mamba):
    """A Mamba block without convolution whose memory is exactly the last w tokens.

    Its output for a token is that of the block run from the zero state over the w tokens that end
    there, in banded form: projections are made once a token. As no bias reaches the scan's input,
    a token of zeros adds nothing to the state, and zeros stand for "no token".

    Args:
        d_model: Token width D.
        window: Number w of tokens, the present one included.
        d_state: State size N of each channel.
        expand: Inner width in units of D.

    References:
        The local branch of MambaDM's mixer, arXiv 2406.02013, which publishes no equation; this
        form is ours.
    """

    def __init__(
        self, d_model: int, window: int = 6, *, d_state: int = 16, expand: int = 1
    ) -> None:
        super().__init__(d_model, d_state, d_conv=None, expand=expand)
        self.window = window

    def initial_state(self, batch: int) -> Tensor:  # type: ignore[override]
        """Make the last w - 1 tokens of `batch` rows, all zero: (B, w - 1, D)."""
        return self.D.new_zeros(batch, self.window - 1, self.in_proj.in_features)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        kind: Tensor | None = None,
        wanted: slice | None = None,
    ) -> tuple[Tensor, State]:
        """Mix the tokens, and gate and project those that are wanted; see `Mixer.forward`."""
        past = self.initial_state(len(x)) if state is None else cast(Tensor, state)
        full = torch.cat((past, x), 1)
        u, z = linear(full, self.in_proj.weight).chunk(2, -1)
        u = F.silu(u)
        y = banded_scan(u, *self.selection(u), self.D, self.window)
        z = z[:, self.window - 1 :]
        if wanted is not None:
            y, z = y[:, wanted], z[:, wanted]
        return linear(y * F.silu(z), self.out_proj.weight), full[:, x.shape[1] :]


class ChunkedState(NamedTuple):
    """State of `Chunked`.

    Attributes:
        age: Tokens since the chunk began, (B,), float32.
        inner: State of the inner mixer.
    """

    age: Tensor
    inner: State


class Chunked(Mixer):
    """A mixer that forgets everything every w tokens, counted from each row's first token.

    Args:
        inner: The mixer.
        window: Number w of tokens in a chunk.
    """

    def __init__(self, inner: Mixer, window: int = 6) -> None:
        super().__init__()
        self.inner = inner
        self.window = window

    def initial_state(self, batch: int) -> ChunkedState:
        """Make the initial state of `batch` rows, at the start of a chunk."""
        inner = self.inner.initial_state(batch)
        device = next(self.inner.parameters()).device
        return ChunkedState(torch.zeros(batch, device=device), inner)

    def forward(
        self, x: Tensor, state: State | None = None, kind: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Mix the tokens; see `Mixer.forward`."""
        if state is None:
            return self._from_the_start(x, kind)
        age, inner = cast(ChunkedState, state)
        outputs = []
        for t in range(x.shape[1]):
            full = age == self.window
            inner, age = tree.clear(inner, full), age.masked_fill(full, 0) + 1
            y, inner = self.inner(x[:, t : t + 1], inner, None if kind is None else kind[t : t + 1])
            outputs.append(y)
        return torch.cat(outputs, 1), ChunkedState(age, inner)

    def _from_the_start(self, x: Tensor, kind: Tensor | None) -> tuple[Tensor, State]:
        """Take whole chunks as rows of one batch, then the tokens that are left."""
        batch, length, width = x.shape
        whole = (length - 1) // self.window * self.window  # the last chunk's state is needed
        last, inner = self.inner(x[:, whole:], None, None if kind is None else kind[whole:])
        age = torch.full((batch,), float(length - whole), device=x.device)
        if not whole:
            return last, ChunkedState(age, inner)
        rows = x[:, :whole].reshape(-1, self.window, width)
        if kind is not None:
            kinds = kind[:whole].view(-1, self.window)
            if not bool((kinds == kinds[0]).all()):
                return self.forward(x, self.initial_state(batch), kind)
            kind = kinds[0]
        y, _ = self.inner(rows, None, kind)
        return torch.cat((y.view(batch, whole, width), last), 1), ChunkedState(age, inner)
