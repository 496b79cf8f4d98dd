"""Which of its inputs a model works with: norms of activations and of gradients by modality.

Letters: B batch, T environment steps, L tokens, D token width, M modalities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decision_policies.analysis import probe
from decision_policies.analysis.probe import Subject
from decision_policies.batch import Window
from decision_policies.models.model import TokenModel
from decision_policies.nets import Mixer


@dataclass(frozen=True)
class ActivationNorms:
    """Size of the activations of each kind of token.

    Attributes:
        places: (layers,), where the activations were taken; for layers the first is "embedding".
        modalities: (M,), names of a step's tokens; ("step",) where one token carries everything.
        norms: (layers, M), mean Euclidean norm over the real tokens of a kind.
    """

    places: tuple[str, ...]
    modalities: tuple[str, ...]
    norms: NDArray[np.float64]


@dataclass(frozen=True)
class GradientNorms:
    """How strongly the loss, or the action, depends on each modality's embedded input.

    Attributes:
        of: What was differentiated, "loss" or "action".
        modalities: (M,), names.
        norms: (M,), the mean over windows.
        per_window: (B, M), Euclidean norm of a window's gradient with respect to all its embedded
            inputs of a modality.
    """

    of: str
    modalities: tuple[str, ...]
    norms: NDArray[np.float64]
    per_window: NDArray[np.float64]


@torch.no_grad()
def activation_norms(
    subject: Subject, window: Window, of: Literal["layers", "branches"] = "layers"
) -> ActivationNorms:
    """Measure the activations of return, observation and action tokens through the backbone.

    Args:
        subject: A `TokenModel`, or a policy or algorithm with one.
        window: (B, T) steps, seen from the empty memory and in evaluation mode.
        of: "layers" takes the tokens before the first and after each layer, in the residual
            stream; "branches" takes what each residual branch adds to them, which shows a mixer
            that gives some tokens nothing.

    Raises:
        TypeError: The model is no `TokenModel`.
        ValueError: There is no such choice, or nothing to measure.

    References:
        Decision MetaMamba, arXiv 2602.19805, figure of the activations by modality.
    """
    model = probe.token_model(subject)
    window = probe.on_device(model, window)
    places, modules = _places(model, of)
    names = probe.token_names(model)
    real = probe.real_tokens(model, window)
    norms: list[list[float]] = []

    def measure(tokens: Tensor) -> None:
        lengths = tokens.double().norm(dim=-1)  # (B, L)
        kinds = [slice(m, None, len(names)) for m in range(len(names))]
        norms.append([float(lengths[:, k][real[:, k]].mean()) for k in kinds])

    with probe.observed(model) as handles:
        if of == "layers":
            start = model.backbone.register_forward_pre_hook(lambda _, args: measure(args[0]))
            handles.append(start)
        for module in dict.fromkeys(modules):  # branches may share one
            handles.append(module.register_forward_hook(lambda _m, _a, out: measure(out[0])))
        model(window)
    return ActivationNorms(places, names, np.array(norms))


def gradient_norms(
    subject: Subject, window: Window, of: Literal["loss", "action"] = "loss"
) -> GradientNorms:
    """Measure how strongly loss or action depend on the embedded inputs of each modality.

    The inputs are the tokens that enter the backbone; in the layout BL3D, the parts of which each
    token is made. For "loss", each window's own loss is differentiated, the mean over its real
    steps; for "action", the norm of the action parameters at its last real step, which has seen
    all the others. The weights' `.grad` are not touched.

    Args:
        subject: A `TokenModel`, or a policy or algorithm with one.
        window: (B, T) steps, seen from the empty memory and in evaluation mode.
        of: "loss" or "action".

    Raises:
        TypeError: The model is no `TokenModel`.
        ValueError: There is no such choice.

    References:
        Decision MetaMamba, arXiv 2602.19805, figure of the gradient norms by input.
    """
    if of not in ("loss", "action"):
        raise ValueError(f"of must be 'loss' or 'action', got {of!r}")
    model = probe.token_model(subject)
    window = probe.on_device(model, window)
    entrance, names = _entrance(model)
    steps = window.mask.sum(1)
    entered: list[Tensor] = []

    def enter(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        entered.append(args[0].detach().requires_grad_())
        return (entered[0], *args[1:])

    with probe.observed(model) as handles, torch.enable_grad():
        handles.append(entrance.register_forward_pre_hook(enter))
        prediction, _ = model(window)
        if of == "loss":
            value = model.loss(prediction, window)["loss"]
            share = steps / steps.sum()  # of a window in the mean over all real steps
        else:
            rows = torch.arange(len(steps), device=steps.device)
            value = prediction.action[rows, steps - 1].norm(dim=-1).sum()
            share = torch.ones_like(steps)
        (gradient,) = torch.autograd.grad(value, entered)
    tokens = gradient.reshape(len(steps), -1, len(names), model.norm.normalized_shape[0])
    per_window = torch.linalg.vector_norm(tokens.double(), dim=(1, 3)) / share[:, None]
    values = per_window.cpu().numpy()
    return GradientNorms(of, names, values.mean(0), values)


def _entrance(model: TokenModel) -> tuple[nn.Module, tuple[str, ...]]:
    """Find the module whose input is all embedded inputs side by side, and name them in order."""
    entrance = model.backbone if model.embedding.interleaved else model.embedding.project
    return entrance, tuple(model.spec.modalities)


def _places(model: TokenModel, of: str) -> tuple[tuple[str, ...], list[Mixer]]:
    """List the modules whose outputs are measured, and name the places."""
    if of == "layers":
        found = probe.layers(model.backbone)
        before: tuple[str, ...] = ("embedding",)
    elif of == "branches":
        found = [branch.inner for branch in probe.branches(model.backbone)]
        before = ()
        if not found:
            raise ValueError(f"{type(model.backbone).__name__} has no residual branch to measure")
    else:
        raise ValueError(f"of must be 'layers' or 'branches', got {of!r}")
    named = (f"{i} {probe.label(mixer)}" for i, mixer in enumerate(found, 1))
    return (*before, *named), found
