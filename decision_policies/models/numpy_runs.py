"""What a token draws from those before it, by NumPy: attention, and the scan of the last few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from decision_policies.models.native_step import HEADER, PANEL, Floats


def band(step: Floats, u: Floats, rates: Floats, write: Floats, read: Floats) -> Floats:
    """Scan the w tokens that end at each token, from the state of zeros.

    Args:
        step: Step sizes, (n, L, w, E).
        u: Input, (n, L, w, E).
        rates: Decay rates, (N, E).
        write: Input weights, (n, L, w, N).
        read: Output weights of the token itself, (n, L, N).

    Returns:
        (n, L, E).
    """
    h = np.zeros((*step.shape[:2], *rates.shape), np.float32)
    for k in range(step.shape[2]):
        h *= np.exp(step[:, :, k, None] * rates)
        h += (step[:, :, k] * u[:, :, k])[:, :, None] * write[:, :, k, :, None]
    scanned: Floats = np.matmul(read[:, :, None], h)[:, :, 0]
    return scanned


class Ring:
    """The twin of `ops/native/attend.h`: keys and values of each row's latest tokens.

    Token i lies in place i modulo their number.

    Args:
        memory: Rows whose first floats are the rings, (n, at least their size); changed in place.
        places: Number C of places, a multiple of 64.
        width: Token width D.
        heads: Number H of heads.
        seen: Number of tokens that a token sees, itself included.
    """

    def __init__(self, memory: Floats, places: int, width: int, heads: int, seen: int) -> None:
        n = len(memory)
        self.places, self.heads, self.seen, self.rows = places, heads, seen, np.arange(n)
        values = HEADER + places * width
        self._counts = memory[:, :2]
        self._keys = memory[:, HEADER:values].reshape(n, -1, width, PANEL)
        self._values = memory[:, values : values + places * width].reshape(n, places, width)
        self._scale = np.float32((width // heads) ** -0.5)

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each row so far, (n,): an integer of 64 bits in two floats."""
        return np.ascontiguousarray(self._counts).view(np.int64)[:, 0]

    def put(self, keys: Floats, values: Floats) -> None:
        """Take in the keys and values of each row's next tokens, (n, L, D)."""
        tokens = self.tokens
        for t in range(keys.shape[1]):
            place = (tokens + t) % self.places
            self._keys[self.rows, place // PANEL, :, place % PANEL] = keys[:, t]
            self._values[self.rows, place] = values[:, t]
        self._counts[:] = (tokens + keys.shape[1])[:, None].view(np.float32)

    def look(self, queries: Floats) -> Floats:
        """Give what the latest L tokens see, (n, L, D), of their queries."""
        n, length, width = queries.shape
        last = self.tokens - 1
        panels = min(-(-(int(last.max()) + 1) // PANEL), self.places // PANEL)
        n_keys = panels * PANEL
        split = queries.reshape(n, length, self.heads, -1).transpose(0, 2, 1, 3)[:, None]
        keys = self._keys[:, :panels].reshape(n, panels, self.heads, -1, PANEL)
        scores = np.matmul(split * self._scale, keys)  # (n, panels, H, L, 64)
        scores = scores.transpose(0, 2, 3, 1, 4).reshape(n, self.heads, length, n_keys)
        in_place = last[:, None] - (last[:, None] - np.arange(n_keys)) % self.places
        token = last[:, None] + np.arange(1 - length, 1)
        ago = token[:, :, None] - in_place[:, None]  # (n, L, places)
        hidden = (ago < 0) | (ago >= self.seen) | (in_place < 0)[:, None]
        scores[np.broadcast_to(hidden[:, None], scores.shape)] = -np.inf
        scores -= scores.max(-1, keepdims=True)
        shares = np.exp(scores, out=scores)
        shares /= shares.sum(-1, keepdims=True)
        values = self._values[:, :n_keys].reshape(n, n_keys, self.heads, -1).transpose(0, 2, 1, 3)
        seen: Floats = np.matmul(shares, values)  # (n, H, L, D / H)
        return seen.transpose(0, 2, 1, 3).reshape(n, length, width)
