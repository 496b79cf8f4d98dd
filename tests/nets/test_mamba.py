"""Mamba against a second source, and its initialisation."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from decision_policies.nets import Mamba
from decision_policies.nets.mamba import MambaState

B, L, D = 2, 13, 32
OPTIONS = [
    {},
    {"d_state": 4, "d_conv": 2, "expand": 1},
    {"expand": 3, "conv_bias": False, "bias": True},
    {"dt_rank": 5, "d_conv": 6},
]


def hugging_face(ours: Mamba, options: dict[str, Any]) -> Any:
    """Make Hugging Face's mixer with our weights, loaded as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third-party deprecations while importing
        from transformers import MambaConfig
        from transformers.models.mamba.modeling_mamba import MambaMixer
    config = MambaConfig(
        hidden_size=D,
        state_size=ours.d_state,
        conv_kernel=ours.d_conv or 0,
        expand=options.get("expand", 2),
        time_step_rank=ours.dt_rank,
        use_bias=options.get("bias", False),
        use_conv_bias=options.get("conv_bias", True),
    )
    theirs = MambaMixer(config, layer_idx=0).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return theirs


@pytest.fixture(params=OPTIONS, ids=str)
def pair(request: pytest.FixtureRequest) -> tuple[Mamba, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = Mamba(D, **request.param)
        return ours, hugging_face(ours, request.param)


def tokens() -> Tensor:
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(1))


def test_values_and_gradients_equal_hugging_faces_mixer(pair: tuple[Mamba, Any]) -> None:
    ours, theirs = pair
    x, x2 = tokens().requires_grad_(), tokens().requires_grad_()
    y, y2 = ours(x)[0], theirs(x2)
    assert torch.allclose(y, y2, atol=1e-5, rtol=0)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    (y * weight).sum().backward()  # type: ignore[no-untyped-call]
    (y2 * weight).sum().backward()
    assert x.grad is not None and x2.grad is not None
    assert torch.allclose(x.grad, x2.grad, atol=1e-5, rtol=1e-5)
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        expected = gradients[name].grad
        assert parameter.grad is not None
        scale = float(expected.abs().max())
        assert torch.allclose(parameter.grad, expected, atol=1e-5 * max(1.0, scale), rtol=0), name


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3])
def test_step_by_step_equals_hugging_faces_single_pass(pair: tuple[Mamba, Any], chunk: int) -> None:
    ours, theirs = pair
    x, state = tokens(), ours.initial_state(B)
    parts = []
    for piece in x.split(chunk, 1):
        y, state = ours(piece, state)  # type: ignore[assignment]
        parts.append(y)
    assert torch.allclose(torch.cat(parts, 1), theirs(x), atol=1e-5, rtol=0)


@torch.no_grad()
def test_step_by_step_equals_hugging_faces_own_steps(pair: tuple[Mamba, Any]) -> None:
    from transformers import DynamicCache

    ours, theirs = pair
    cache, state = DynamicCache(config=theirs.config), ours.initial_state(B)
    for t, token in enumerate(tokens().split(1, 1)):
        y, state = ours(token, state)  # type: ignore[assignment]
        y2 = theirs(token, cache_params=cache)
        assert torch.allclose(y, y2, atol=1e-5, rtol=0), f"step {t}"


def test_names_and_shapes_are_those_of_mamba_ssm() -> None:
    shapes = {name: tuple(p.shape) for name, p in Mamba(128).named_parameters()}
    assert shapes == {
        "in_proj.weight": (512, 128),
        "conv1d.weight": (256, 1, 4),
        "conv1d.bias": (256,),
        "x_proj.weight": (8 + 32, 256),
        "dt_proj.weight": (256, 8),
        "dt_proj.bias": (256,),
        "A_log": (256, 16),
        "D": (256,),
        "out_proj.weight": (128, 256),
    }


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"d_model": 128}, 116_480),
        ({"d_model": 128, "expand": 1}, 58_240),
        ({"d_model": 64}, 32_640),
        ({"d_model": 256}, 437_760),
        ({"d_model": 64, "expand": 1, "d_conv": None}, 16_000),
        ({"d_model": 128, "expand": 1, "d_conv": None}, 57_600),
    ],
)
def test_parameter_counts_are_the_stock_blocks(options: dict[str, Any], count: int) -> None:
    assert sum(p.numel() for p in Mamba(**options).parameters()) == count


def test_step_sizes_start_log_uniform_between_a_thousandth_and_a_tenth() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mamba = Mamba(512)
    step = torch.nn.functional.softplus(mamba.dt_proj.bias.detach())
    assert 1e-3 * 0.99 < float(step.min()) < 1.5e-3
    assert 0.07 < float(step.max()) < 0.1 * 1.01
    assert 0.008 < float(step.median()) < 0.0125, "log-uniform: the median is near 0.01"
    bound = mamba.dt_rank**-0.5
    assert 0.9 * bound < float(mamba.dt_proj.weight.detach().abs().max()) <= bound
    decay = mamba.A_log.detach()[0]
    assert torch.allclose(decay, torch.tensor([math.log(n) for n in range(1, 17)]), atol=1e-6)
    assert bool((mamba.D == 1).all())


def test_an_unknown_initialisation_is_refused() -> None:
    with pytest.raises(ValueError, match="'random' or 'constant', got 'normal'"):
        Mamba(8, dt_init="normal")


def test_the_state_has_the_stated_shapes() -> None:
    state = Mamba(16, d_state=5, d_conv=3, expand=2).initial_state(7)
    assert isinstance(state, MambaState)
    assert state.conv.shape == (7, 2, 32)
    assert state.ssm.shape == (7, 5, 32)
