"""The attention matrix that a selective scan is equal to, computed without ever making a state."""

from __future__ import annotations

import torch
from torch import Tensor


def hidden_attention(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *, channels: slice | None = None
) -> Tensor:
    """Write the selective scan from the zero state as one lower-triangular matrix a channel.

    With S_t the sum of the step sizes up to token t, and for i >= j::

        alpha[b, e, i, j] = sum_n C[b, i, n] exp(A[e, n] (S_i - S_j)) delta[b, j, e] B[b, j, n]

    and 0 above the diagonal, so that ``y = alpha @ u + D * u`` is what ``selective_scan`` gives.
    S_i - S_j is added up from j + 1 to i rather than subtracted: it is never negative, so no
    exponential overflows, and a large step elsewhere costs small ones no digits. The sum over n
    is a loop: the largest tensors have B E L L entries, and there are four of them.

    Args:
        delta: step size of each token and channel, positive, shape (B, L, E).
        A: decay rates, negative, shape (E, N).
        B: what each token writes into the state, shape (B, L, N).
        C: what each token reads from the state, shape (B, L, N).
        channels: which of the E channels to compute, to bound the memory; ``None`` is all.

    Returns:
        alpha, shape (B, E, L, L), or as many channels as were asked for. It carries gradients to
        every argument.

    Raises:
        ValueError: if the shapes disagree.

    References:
        Ali et al., "The Hidden Attention of Mamba Models", arXiv 2403.01590.
    """
    rows, length, width = delta.shape
    size = (rows, length, A.shape[1])
    if B.shape != size or C.shape != size or A.shape[0] != width:
        raise ValueError(
            f"hidden attention was given delta {tuple(delta.shape)}, A {tuple(A.shape)}, "
            f"B {tuple(B.shape)}, C {tuple(C.shape)}: make them delta (B, L, E), A (E, N), "
            "B and C (B, L, N)."
        )
    if channels is not None:
        delta, A = delta[..., channels], A[channels]
    steps = delta.transpose(1, 2)  # (B, E, L)
    square = (*steps.shape, length)
    passed = steps.unsqueeze(-1).expand(square).tril(-1).cumsum(-2)  # S_i - S_j, 0 above
    alpha = steps.new_zeros(square)
    for rate, write, read in zip(A.unbind(1), B.unbind(2), C.unbind(2), strict=True):
        decay = torch.exp(passed * rate[:, None, None])
        alpha = torch.addcmul(alpha, decay, (read.unsqueeze(2) * write.unsqueeze(1)).unsqueeze(1))
    return (alpha * steps.unsqueeze(2)).tril()
