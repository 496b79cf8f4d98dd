"""Causal self-attention whose cache of keys and values is its state, bounded by a window."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.nets.mixer import Mixer
from decision_policies.ops.linear import linear
from decision_policies.tree import State


class AttentionState(NamedTuple):
    """Keys and values of the tokens that later ones may still attend to; C of them, at most W - 1.

    Attributes:
        keys: (B, C, D).
        values: (B, C, D).
        real: (B, C), bool; False where a row has been cleared since the token was seen.
    """

    keys: Tensor
    values: Tensor
    real: Tensor


class Attention(Mixer):
    """Multi-head scaled dot-product attention of each token to itself and the W - 1 before it.

    On windows of at most W tokens this is plain causal attention, and a cached step gives what the
    whole window gives. On longer sequences it is sliding-window attention, whose cost a token and
    whose memory are constant.

    Args:
        d_model: Token width D.
        n_heads: Number of heads; it divides D.
        window: Number W of tokens that a token sees, itself included.
        dropout: Probability with which an attention weight, and an output, is dropped in training.

    Raises:
        ValueError: The heads do not divide the width.

    References:
        Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, section 3.2; the layout of
        the weights is GPT-2's (`c_attn` makes queries, keys and values; `c_proj` mixes the heads).
    """

    def __init__(
        self, d_model: int, n_heads: int = 1, *, window: int = 1024, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if n_heads < 1 or d_model % n_heads:
            raise ValueError(
                f"n_heads must divide d_model, got {n_heads} heads for a width of {d_model}"
            )
        if window < 1:
            raise ValueError(f"window must be at least 1 token, got {window}")
        self.n_heads = n_heads
        self.window = window
        self.dropout = dropout
        self.c_attn = nn.Linear(d_model, 3 * d_model)
        self.c_proj = nn.Linear(d_model, d_model)

    def initial_state(self, batch: int) -> AttentionState:
        """Make the empty cache of `batch` rows."""
        empty = self.c_proj.weight.new_zeros(batch, 0, self.c_proj.in_features)
        return AttentionState(empty, empty, empty.new_zeros(batch, 0, dtype=torch.bool))

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        kind: Tensor | None = None,
        wanted: slice | None = None,
    ) -> tuple[Tensor, State]:
        """Mix the tokens: those that are wanted attend to all; see `Mixer.forward`."""
        batch, length, _ = x.shape
        queries, keys, values = self._look(x, wanted)
        real = torch.ones(batch, length, dtype=torch.bool, device=x.device)
        cached = 0
        if state is not None:
            past = cast(AttentionState, state)
            cached = past.keys.shape[1]
            keys = torch.cat((past.keys, keys), 1)
            values = torch.cat((past.values, values), 1)
            real = torch.cat((past.real, real), 1)
        plain = cached == 0 and length <= self.window and wanted is None
        mask = None if plain else self._mask(length, cached, real, wanted)
        kept = max(0, cached + length - self.window + 1)
        after = AttentionState(keys[:, kept:], values[:, kept:], real[:, kept:])
        return self._attend(queries, keys, values, mask), after

    def _look(self, x: Tensor, wanted: slice | None) -> tuple[Tensor, Tensor, Tensor]:
        """Make queries of the tokens that are wanted, keys and values of all, each (B, ., D)."""
        width, weight, bias = x.shape[-1], self.c_attn.weight, self.c_attn.bias
        if wanted is None:
            queries, keys, values = linear(x, weight, bias).chunk(3, -1)
        else:
            queries = linear(x[:, wanted], weight[:width], bias[:width])
            keys, values = linear(x, weight[width:], bias[width:]).chunk(2, -1)
        return queries, keys, values

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend where a mask (B or 1, 1, L, C) says so, or causally, and mix the heads."""
        y = F.scaled_dot_product_attention(
            self._split(queries),
            self._split(keys),
            self._split(values),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=mask is None,
        )
        y = linear(y.transpose(1, 2).flatten(2), self.c_proj.weight, self.c_proj.bias)
        return F.dropout(y, self.dropout, self.training) if self.dropout else y

    def _split(self, x: Tensor) -> Tensor:
        """Give the heads, (B, L, D), an axis of their own, (B, H, L, D / H)."""
        batch, length, _ = x.shape
        return x.reshape(batch, length, self.n_heads, -1).transpose(1, 2)

    def _mask(self, length: int, cached: int, real: Tensor, wanted: slice | None) -> Tensor:
        """Say which of all tokens each new one, or wanted one, sees, (B or 1, 1, L, C + L)."""
        places = torch.arange(cached + length, device=real.device)
        new = places[cached:] if wanted is None else places[cached:][wanted]
        seen = places <= new[:, None]
        if cached + length > self.window:
            seen &= places > new[:, None] - self.window
        return (seen & real[:, None]).unsqueeze(1) if cached else seen[None, None]


class ChunkAttentionState(NamedTuple):
    """Keys and values of a chunk's tokens so far, with a place for each that the chunk may have.

    Attributes:
        keys: (B, W, D); of the places that are not filled yet, anything.
        values: (B, W, D).
        filled: (B,), int64, number of places that are.
    """

    keys: Tensor
    values: Tensor
    filled: Tensor


class ChunkAttention(Attention):
    """Causal attention within chunks of at most W tokens, whose state has the same size throughout.

    Rows may have seen different numbers of tokens, and a row can be taken from one state and put
    into another. Weights are those of `Attention`.
    """

    def initial_state(self, batch: int) -> ChunkAttentionState:  # type: ignore[override]
        """Make the empty cache of `batch` rows."""
        empty = self.c_proj.weight.new_zeros(batch, self.window, self.c_proj.in_features)
        return ChunkAttentionState(empty, empty, empty.new_zeros(batch, dtype=torch.int64))

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        kind: Tensor | None = None,
        wanted: slice | None = None,
    ) -> tuple[Tensor, State]:
        """Mix the tokens; see `Mixer.forward`.

        Raises:
            ValueError: There are more than W tokens.
        """
        batch, length, _ = x.shape
        if length > self.window:
            raise ValueError(f"a chunk has at most {self.window} tokens, got {length}")
        queries, new_keys, new_values = self._look(x, wanted)
        if state is None:
            room = (0, 0, 0, self.window - length)
            filled = torch.full((batch,), length, device=x.device)
            after = ChunkAttentionState(F.pad(new_keys, room), F.pad(new_values, room), filled)
            mask = None
            if wanted is not None:
                mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()[wanted]
            return self._attend(queries, new_keys, new_values, mask), after
        keys, values, filled = cast(ChunkAttentionState, state)
        place = filled[:, None] + torch.arange(length, device=x.device)
        index = place.unsqueeze(-1).expand_as(new_keys)
        keys, values = keys.scatter(1, index, new_keys), values.scatter(1, index, new_values)
        places = torch.arange(self.window, device=x.device)
        mask = (places <= place.unsqueeze(-1)).unsqueeze(1)
        if wanted is not None:
            mask = mask[:, :, wanted]
        return self._attend(queries, keys, values, mask), ChunkAttentionState(
            keys, values, filled + length
        )
