"""Look into a model and leave no trace: its mode, its gradients and its hooks are put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch.utils.hooks import RemovableHandle

from decision_policies.batch import Window
from decision_policies.evaluation import HasPolicy, policy_of
from decision_policies.models.model import TokenModel
from decision_policies.nets import Chain, Chunked, Mixer, Residual
from decision_policies.policy import SequencePolicy

Subject: TypeAlias = TokenModel | SequencePolicy | HasPolicy
"""What can be analysed: a model, a policy, or an algorithm that has one."""


def token_model(subject: Subject) -> TokenModel:
    """Find the model to look into.

    Args:
        subject: A `TokenModel`, a policy, or an algorithm.

    Raises:
        TypeError: The model is no `TokenModel`, so that its tokens are not known; or there is none.
        ValueError: The algorithm has no policy yet.
    """
    if isinstance(subject, TokenModel):
        return subject
    if isinstance(subject, torch.nn.Module):
        raise TypeError(f"expected a TokenModel, got {type(subject).__name__}")
    model = policy_of(subject).model
    if not isinstance(model, TokenModel):
        raise TypeError(
            f"only a TokenModel says what its tokens are; this policy's is a {type(model).__name__}"
        )
    return model


def token_names(model: TokenModel) -> tuple[str, ...]:
    """Name the tokens of a step, in order; a single "step" where one token carries everything."""
    return tuple(model.spec.modalities) if model.spec.layout == "B3LD" else ("step",)


def real_tokens(model: TokenModel, window: Window) -> torch.Tensor:
    """Mark the tokens of real steps, (B, L) with L = T times the tokens of a step."""
    return window.mask.repeat_interleave(model.spec.tokens_per_step, 1)


def on_device(model: TokenModel, window: Window) -> Window:
    """Move a window to where the model's weights are."""
    return window.to(model.device)


@contextmanager
def observed(model: TokenModel) -> Iterator[list[RemovableHandle]]:
    """Put a model into evaluation mode; afterwards restore it, and remove the hooks listed.

    Every module's own mode comes back, since a user may have frozen a part. Without dropout, no
    random number is drawn.
    """
    modes = [(module, module.training) for module in model.modules()]
    handles: list[RemovableHandle] = []
    model.eval()
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode


def layers(backbone: Mixer) -> list[Mixer]:
    """List the layers of a backbone: those of its chain, or the backbone itself."""
    if isinstance(backbone, Chain):
        return [layer for layer in backbone.layers if isinstance(layer, Mixer)]
    return [backbone]


def branches(backbone: Mixer) -> list[Residual]:
    """List the residual branches of a backbone in order, those inside restarting mixers left out.

    A restarting mixer calls what it holds chunk by chunk, with other tokens than the window's.
    """
    hidden = {
        inner
        for module in backbone.modules()
        if isinstance(module, Chunked)
        for inner in module.modules()
    }
    return [m for m in backbone.modules() if isinstance(m, Residual) and m not in hidden]


def label(mixer: Mixer) -> str:
    """Name a mixer by what mixes in it, such as "Mamba" or "Mamba + Pointwise"."""
    if isinstance(mixer, Residual | Chunked):
        return label(mixer.inner)
    if isinstance(mixer, Chain):
        return " + ".join(label(layer) for layer in layers(mixer))
    return type(mixer).__name__
