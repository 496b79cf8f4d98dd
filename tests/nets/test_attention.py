"""Attention equals its definition, is bounded, and forgets cleared rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from decision_policies import tree
from decision_policies.nets import Attention

B, D = 3, 12


def reference(mixer: Attention, x: Tensor) -> Tensor:
    """Attention token by token and head by head, from the definition."""
    q, k, v = mixer.c_attn(x).chunk(3, -1)
    width = D // mixer.n_heads
    out = torch.zeros_like(x)
    for h in range(mixer.n_heads):
        part = slice(h * width, (h + 1) * width)
        for i in range(x.shape[1]):
            first = max(0, i - mixer.window + 1)
            scores = (q[:, i : i + 1, part] * k[:, first : i + 1, part]).sum(-1) / width**0.5
            out[:, i, part] = (scores.softmax(-1).unsqueeze(-1) * v[:, first : i + 1, part]).sum(1)
    y: Tensor = mixer.c_proj(out)
    return y


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("window", [1, 4, 9, 100])
def test_attention_is_its_definition_in_values_and_gradients(heads: int, window: int) -> None:
    mixer = Attention(D, heads, window=window)
    x = torch.randn(B, 9, D, generator=torch.Generator().manual_seed(0), requires_grad=True)
    ours, theirs = mixer(x)[0], reference(mixer, x)
    assert torch.allclose(ours, theirs, atol=1e-5)
    inputs = [x, *mixer.parameters()]
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), inputs),
        torch.autograd.grad(theirs.square().sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-4)


@torch.no_grad()
def test_the_cache_never_holds_more_than_the_window_needs() -> None:
    mixer, state = Attention(D, window=5), None
    for length in (3, 1, 1, 4, 20, 1):
        _, state = mixer(torch.randn(B, length, D), state)
        assert all(leaf.shape[1] <= 4 for leaf in tree.leaves(state))


@pytest.mark.parametrize("heads", [0, 5, 24])
def test_heads_that_do_not_divide_the_width_are_refused(heads: int) -> None:
    with pytest.raises(ValueError, match=f"got {heads} heads for a width of 12"):
        Attention(D, heads)


def test_a_window_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="window must be at least 1 token, got 0"):
        Attention(D, window=0)


def test_dropout_acts_in_training_only() -> None:
    mixer, x = Attention(D, dropout=0.5), torch.randn(B, 6, D)
    assert not torch.equal(mixer(x)[0], mixer(x)[0])
    mixer.eval()
    assert torch.equal(mixer(x)[0], mixer(x)[0])
