"""Mamba blocks of mamba_ssm and transformers compute the same here, whatever their sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from decision_policies.convert import mamba_from_published
from decision_policies.errors import ConversionError
from decision_policies.nets import Mamba
from tests.convert.cases import damaged
from tests.convert.published import WIDTH, MambaBlock


def inputs() -> torch.Tensor:
    return torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("convolution", [True, False])
@pytest.mark.parametrize("expand", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_block_of_mamba_ssm(convolution: bool, expand: int, bias: bool) -> None:
    published = MambaBlock(expand, 3 if convolution else 0, bias=bias)
    block = mamba_from_published(published.state_dict(), convolution=convolution, bias=bias)
    assert (block.d_inner, block.d_state, block.dt_rank) == (expand * WIDTH, 5, 1)
    torch.testing.assert_close(block(inputs())[0], published(inputs()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("conv_bias", [True, False])
@torch.no_grad()
def test_block_of_transformers_by_prefix(bias: bool, conv_bias: bool) -> None:
    config = transformers.MambaConfig(
        hidden_size=WIDTH,
        state_size=6,
        conv_kernel=3,
        expand=3,
        time_step_rank=2,
        use_bias=bias,
        use_conv_bias=conv_bias,
        num_hidden_layers=2,
        vocab_size=3,
        eos_token_id=2,
    )
    model = transformers.MambaModel(config).eval()
    block = mamba_from_published(
        model.state_dict(), prefix="layers.1.mixer.", bias=bias, conv_bias=conv_bias
    )
    assert (block.d_inner, block.d_state, block.d_conv, block.dt_rank) == (3 * WIDTH, 6, 3, 2)
    theirs = model.layers[1].mixer(inputs())
    torch.testing.assert_close(block(inputs())[0], theirs, atol=1e-5, rtol=0)


def test_weights_with_known_sizes_load_as_they_are() -> None:
    published = MambaBlock(expand=2, width=4)
    block = Mamba(WIDTH, d_state=5)
    block.load_state_dict(published.state_dict())
    torch.testing.assert_close(block(inputs())[0], published(inputs()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", ["missing", "renamed", "wider", "not finite"])
def test_every_damaged_tensor_is_named(how: str) -> None:
    weights = MambaBlock(bias=True).state_dict()
    for name in weights:
        if name == "conv1d.weight" and how == "wider":
            continue  # a block with a wider convolution is whole
        with pytest.raises(ConversionError) as caught:
            mamba_from_published(damaged(weights, name, how), bias=True)
        assert name in str(caught.value), f"{name}: {caught.value}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": True}, "missing: in_proj.bias, out_proj.bias"),
        ({"conv_bias": False}, "unexpected: conv1d.bias"),
        ({"convolution": False}, "unexpected: conv1d.bias, conv1d.weight"),
        ({"prefix": "layers.0."}, "there are no names at all"),
    ],
)
def test_other_options_than_the_weights_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        mamba_from_published(MambaBlock().state_dict(), **options)


def test_inner_width_must_be_a_multiple() -> None:
    wide = torch.nn.ModuleDict({"in_proj": torch.nn.Linear(15, 64, bias=False)}).state_dict()
    narrow = {**MambaBlock().state_dict(), **wide, "out_proj.weight": torch.zeros(15, 32)}
    with pytest.raises(ConversionError, match="inner width 32 is no multiple of the width 15"):
        mamba_from_published(narrow)
