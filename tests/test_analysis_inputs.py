"""Norms of activations and of gradients by modality, against numbers worked out another way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from decision_policies import SequenceSpec, analysis
from decision_policies.batch import Window
from decision_policies.models import TokenModel
from decision_policies.nets import Chain, Residual
from decision_policies.spec import Modality
from tests.laws.cases import SPACES, dema, windows
from tests.test_analysis import tiny

MODALITIES: tuple[tuple[Modality, ...], ...] = (
    ("return", "observation", "action"),
    ("return", "observation"),
    ("observation", "action"),
    ("observation",),
)


def with_modalities(modalities: tuple[Modality, ...], layout: Any = "B3LD") -> TokenModel:
    """Make a tiny DeMa model that sees these modalities."""
    spec = SequenceSpec(*SPACES["box-box"], 6, modalities=modalities, layout=layout)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return cast(TokenModel, dema().build_model(spec).eval())


def embed(m: TokenModel, window: Window) -> Tensor:
    """Embed a window in the layout B3LD, as (B, T, tokens of a step, D)."""
    features = m.head.features(window.actions)
    given = m.embedding.before_action(
        window.observations, window.returns_to_go, window.timesteps, None
    )
    return torch.cat(
        (given, m.embedding.after_action(features, window.rewards, window.timesteps)), 2
    )


def row(window: Window, index: int) -> Window:
    """Cut one row out of a window, without its padding."""
    steps = int(window.mask[index].sum())
    parts = {name: value[index : index + 1] for name, value in window.tensors().items()}
    return Window(**{k: v if k == "starts" else v[:, :steps] for k, v in parts.items()})


@pytest.mark.parametrize("modalities", MODALITIES, ids="-".join)
def test_activation_norms_are_those_of_real_tokens_after_each_layer(
    modalities: tuple[Modality, ...],
) -> None:
    m, window = with_modalities(modalities), windows("box-box", 4, 5)
    found = analysis.activation_norms(m, window)
    assert found.modalities == modalities
    assert found.places == ("embedding", "1 Mamba", "2 Mamba")
    branch = analysis.activation_norms(m, window, "branches")
    assert branch.places == ("1 Mamba", "2 Mamba")
    with torch.no_grad():
        x = embed(m, window)
        stream = [x]
        for layer in cast(Chain, m.backbone).layers:
            x = layer(x.flatten(1, 2))[0].view(x.shape)
            stream.append(x)
    for place, y in enumerate(stream):
        for index in range(len(modalities)):
            expected = y[:, :, index][window.mask].norm(dim=-1).mean()
            assert found.norms[place, index] == pytest.approx(float(expected), rel=1e-5)
            if place:
                added = (y - stream[place - 1])[:, :, index][window.mask].norm(dim=-1).mean()
                assert branch.norms[place - 1, index] == pytest.approx(float(added), rel=1e-4)


def test_shared_and_side_by_side_mixers_are_measured_in_each_of_their_places() -> None:
    from decision_policies import DMM, MambaDM

    window = windows("box-box", 4, 5)
    options: dict[str, Any] = {"d_model": 16, "n_layers": 2, "context_length": 6, "seed": 0}
    shared = DMM(dsm_mode="shared_frozen", **options).make_policy(*SPACES["box-box"])
    found = analysis.activation_norms(shared, window, "branches")
    assert found.places == ("1 DenseWindow", "2 Mamba", "3 DenseWindow", "4 Mamba")
    assert found.norms.shape == (4, 3)
    chunked = MambaDM(local_mode="chunk", window=4, **options).make_policy(*SPACES["box-box"])
    layers = analysis.activation_norms(chunked, window)
    assert layers.places == ("embedding", "1 Fuse + Pointwise", "2 Fuse + Pointwise")
    assert np.isfinite(layers.norms).all()


@pytest.mark.parametrize("of", ["loss", "action"])
@pytest.mark.parametrize("modalities", MODALITIES, ids="-".join)
def test_gradient_norms_are_those_of_each_window_by_itself(
    modalities: tuple[Modality, ...], of: Any
) -> None:
    m, window = with_modalities(modalities), windows("box-box", 4, 5)
    found = analysis.gradient_norms(m, window, of)
    assert found.modalities == modalities
    for index in range(4):
        single = row(window, index)
        tokens = embed(m, single).detach().requires_grad_()
        y = m.backbone(tokens.flatten(1, 2))[0].view(tokens.shape)
        parameters = m.head(m.norm(y[:, :, modalities.index("observation")]))
        loss = m.head.loss(parameters, single.actions, single.mask)["loss"]
        value = loss if of == "loss" else parameters[0, -1].norm()
        (gradient,) = torch.autograd.grad(value, tokens)
        expected = torch.linalg.vector_norm(gradient, dim=(0, 1, 3))
        assert np.allclose(found.per_window[index], expected, rtol=1e-4, atol=1e-9)
    assert np.allclose(found.norms, found.per_window.mean(0))


def test_gradient_norms_equal_finite_differences() -> None:
    m = tiny().double()
    window = row(windows("box-box", 4, 3), 0)
    cast_up = {k: v.double() for k, v in window.tensors().items() if v.is_floating_point()}
    window = replace(window, **cast_up)
    found = analysis.gradient_norms(m, window).norms
    shape = (*window.shape, 3, 16)
    gradient = torch.zeros(shape, dtype=torch.float64)
    shift = torch.zeros(shape, dtype=torch.float64)
    handle = m.backbone.register_forward_pre_hook(
        lambda _, args: (args[0] + shift.flatten(1, 2), *args[1:])
    )
    with torch.no_grad():
        for place in np.ndindex(*shape):
            sides = []
            for step in (1e-6, -1e-6):
                shift[place] = step
                sides.append(m.loss(m(window)[0], window)["loss"])
            shift[place] = 0.0
            gradient[place] = (sides[0] - sides[1]) / 2e-6
    handle.remove()
    assert np.allclose(found, torch.linalg.vector_norm(gradient, dim=(0, 1, 3)), rtol=1e-5)


def test_in_bl3d_gradients_are_taken_of_the_parts_of_each_token() -> None:
    """A projection that ignores two of the parts leaves a gradient for the third alone."""
    m, window = tiny(changes={"layout": "BL3D"}), windows("box-box", 4, 5)
    found = analysis.gradient_norms(m, window)
    assert found.modalities == ("return", "observation", "action")
    assert (found.norms > 0).all()
    with torch.no_grad():
        m.embedding.project.weight[:, 16:] = 0
    norms = analysis.gradient_norms(m, window).norms
    assert norms[0] > 0 and norms[1:].tolist() == [0, 0]
    activations = analysis.activation_norms(m, window)
    assert activations.modalities == ("step",) and activations.norms.shape == (3, 1)


def test_choices_that_do_not_exist_are_named() -> None:
    m, window = tiny(), windows("box-box", 2, 3)
    with pytest.raises(ValueError, match="'layers' or 'branches', got 'x'"):
        analysis.activation_norms(m, window, cast(Any, "x"))
    with pytest.raises(ValueError, match="'loss' or 'action', got 'x'"):
        analysis.gradient_norms(m, window, cast(Any, "x"))
    m.backbone = cast(Residual, cast(Chain, m.backbone).layers[0]).inner
    with pytest.raises(ValueError, match="Mamba has no residual branch"):
        analysis.activation_norms(m, window, "branches")
    assert analysis.activation_norms(m, window).places == ("embedding", "1 Mamba")
