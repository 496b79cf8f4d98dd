"""Mixers of the last tokens equal their definitions: dense window, convolutions, local Mamba."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from decision_policies.nets import (
    Chunked,
    DenseWindow,
    Fuse,
    LocalMamba,
    Mamba,
    ModalConv,
    Pointwise,
    Positions,
)

B, D = 3, 8


def sequence(length: int, seed: int = 0) -> Tensor:
    return torch.randn(B, length, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [1, 2, 6, 9])
@pytest.mark.parametrize("length", [1, 5, 8, 9, 30])
def test_a_dense_window_is_a_matrix_over_the_last_tokens(window: int, length: int) -> None:
    mixer = DenseWindow(D, window, bias=True)
    x = sequence(length).requires_grad_()
    padded = torch.cat((x.new_zeros(B, window - 1, D), x), 1)
    rows = [padded[:, t : t + window].flatten(1) for t in range(length)]
    expected = torch.stack([F.linear(row, mixer.weight, mixer.bias) for row in rows], 1)
    ours = mixer(x)[0]
    assert torch.allclose(ours, expected, atol=1e-5)
    inputs = [x, mixer.weight, mixer.bias]
    for a, b in zip(
        torch.autograd.grad(ours.sin().sum(), inputs),
        torch.autograd.grad(expected.sin().sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-4)


def test_a_frozen_dense_window_is_saved_and_not_trained() -> None:
    mixer = DenseWindow(D, 6, frozen=True)
    assert not list(mixer.parameters())
    assert mixer.state_dict()["weight"].shape == (D, 6 * D)


def test_a_modal_convolution_takes_the_filter_of_the_token_it_ends_at() -> None:
    mixer, x = ModalConv(D, 3, 4), sequence(11)
    kind = torch.arange(11) % 3
    padded = torch.cat((x.new_zeros(B, 3, D), x), 1).transpose(1, 2)
    filters = mixer.weight.permute(0, 2, 1).unsqueeze(2)  # (kinds, D, 1, w)
    every = [F.conv1d(padded, filters[m], mixer.bias[m], groups=D) for m in range(3)]
    expected = torch.stack([every[int(m)][:, :, t] for t, m in enumerate(kind)], 1)
    assert torch.allclose(mixer(x, None, kind)[0], expected, atol=1e-5)


def test_a_modal_convolution_that_is_not_told_the_modality_says_so() -> None:
    with pytest.raises(ValueError, match="a filter a modality"):
        ModalConv(D, 3)(sequence(4))
    assert ModalConv(D, 1)(sequence(4))[0].shape == (B, 4, D)


def on_each_window(mixer: Mamba, x: Tensor, window: int) -> Tensor:
    """Run a Mamba block from the zero state over the window that ends at each token."""
    plain = Mamba(D, mixer.d_state, None, mixer.d_inner // D)
    plain.load_state_dict(mixer.state_dict())
    ends = range(1, x.shape[1] + 1)
    return torch.stack([plain(x[:, max(0, t - window) : t])[0][:, -1] for t in ends], 1)


@pytest.mark.parametrize("window", [1, 2, 6, 30])
def test_local_mamba_is_the_block_run_over_each_window(window: int) -> None:
    mixer, x = LocalMamba(D, window, d_state=5, expand=2), sequence(13).requires_grad_()
    ours, expected = mixer(x)[0], on_each_window(mixer, x, window)
    assert torch.allclose(ours, expected, atol=1e-6)
    a, b = (torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, expected))
    assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("length", [1, 4, 5, 13, 15])
def test_a_chunked_mixer_is_the_mixer_run_over_each_chunk(length: int) -> None:
    inner, x = Mamba(D), sequence(length)
    expected = torch.cat([inner(piece)[0] for piece in x.split(5, 1)], 1)
    assert torch.allclose(Chunked(inner, 5)(x)[0], expected, atol=1e-6)


def test_chunks_that_begin_at_different_modalities_are_told_apart() -> None:
    inner, x, kind = ModalConv(D, 3, 2), sequence(14), torch.arange(14) % 3
    pieces = zip(x.split(5, 1), kind.split(5), strict=True)
    expected = torch.cat([inner(piece, None, k)[0] for piece, k in pieces], 1)
    assert torch.allclose(Chunked(inner, 5)(x, None, kind)[0], expected, atol=1e-6)


@pytest.mark.parametrize("how", ["linear", "sum", "gated"])
def test_fusions_are_what_they_say(how: str) -> None:
    first, second = Pointwise(D), DenseWindow(D, 2)
    mixer, x = Fuse(D, first, second, how), sequence(7)  # type: ignore[arg-type]
    a, b = first(x)[0], second(x)[0]
    if mixer.linear is None:
        expected = a + b
    else:
        mapped = mixer.linear(torch.cat((a, b), -1))
        gate = mapped.sigmoid()
        expected = mapped if how == "linear" else gate * a + (1 - gate) * b
    assert torch.allclose(mixer(x)[0], expected, atol=1e-6)


def test_places_beyond_the_table_share_its_last_vector() -> None:
    mixer = Positions(D, 4)
    torch.nn.init.normal_(mixer.table)
    y, seen = mixer(torch.zeros(B, 6, D))
    assert torch.equal(y[0], mixer.table[[0, 1, 2, 3, 3, 3]])
    assert torch.equal(mixer(torch.zeros(B, 1, D), seen)[0][0, 0], mixer.table[3])
