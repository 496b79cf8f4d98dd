"""The selective scan with a memory of w tokens: every output is that of a scan begun w tokens ago.

Letters as in `selective_scan`: B batch, L tokens, E channels, N state size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from decision_policies.ops.selective_scan import selective_scan


def banded_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, window: int
) -> Tensor:
    """Scan every window of w tokens from the zero state, and keep each window's last output.

    With S_t the sum of the step sizes up to t, this is the band of width w of the matrix that the
    selective scan is equal to:
    y_t = D x_t + sum_{k < w} C_t exp(A (S_t - S_{t-k})) delta_{t-k} B_{t-k} x_{t-k}.
    It makes the windows rows of one batch, so it costs w scans of L tokens.

    Args:
        u: Input, (B, w - 1 + L, E); the first w - 1 tokens are the past, zero where there is none.
        delta: Step sizes, (B, w - 1 + L, E), positive.
        A: Decay rates, (E, N), negative.
        B: Input weights, (B, w - 1 + L, N).
        C: Output weights, (B, w - 1 + L, N).
        D: Skip weights, (E,).
        window: Number w of tokens.

    Returns:
        Outputs of the last L tokens, (B, L, E).
    """
    batch, length = len(u), u.shape[1] - window + 1
    lags = range(window)
    parts = [
        torch.stack([x[:, k : k + length] for k in lags], 2).flatten(0, 1) for x in (u, delta, B, C)
    ]
    y, _ = selective_scan(parts[0], parts[1], A, parts[2], parts[3], D)
    return y[:, -1].view(batch, length, -1)


def banded_scan_reference(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, window: int
) -> Tensor:
    """Say the same in the plainest way: the band's sum, term by term; see `banded_scan`."""
    total = delta.cumsum(1)
    outputs = []
    for t in range(window - 1, u.shape[1]):
        y = D * u[:, t]
        for j in range(t - window + 1, t + 1):
            decay = (A * (total[:, t] - total[:, j]).unsqueeze(-1)).exp()  # (B, E, N)
            kept = (decay * (C[:, t] * B[:, j]).unsqueeze(1)).sum(-1)
            y = y + kept * delta[:, j] * u[:, j]
        outputs.append(y)
    return torch.stack(outputs, 1)
