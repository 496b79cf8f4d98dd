"""What a written step is compared with before its first use: the model itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from decision_policies.models.encoders import IndexEncoder, VectorEncoder
from decision_policies.models.heads import ContinuousHead, DiscreteHead
from decision_policies.models.hybrid import HybridModel
from decision_policies.models.model import SequenceModel, TokenModel
from decision_policies.models.native_step import Floats, NotNativeError
from decision_policies.spaces import model_shape

TOLERANCE = 1e-4
"""Largest difference from the model itself that the check before the first use lets pass."""

_TOLD: WeakSet[SequenceModel] = WeakSet()


def tell(model: SequenceModel, reason: NotNativeError) -> None:
    """Say once of a model that it acts by torch, and why."""
    if model not in _TOLD:
        _TOLD.add(model)
        logging.getLogger(__name__).info("the model acts by torch: %s", reason)


@contextmanager
def evaluating(model: SequenceModel) -> Iterator[None]:
    """Put a model's parts into evaluation, and back afterwards."""
    learning = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in learning:
            module.training = True


def agrees(found: Floats, exact: Tensor) -> bool:
    """Whether what a model itself says is finite; if not, that is for the policy to report.

    Raises:
        NotNativeError: What was found differs from it.
    """
    if not exact.isfinite().all():
        return False
    error = np.abs(found - exact.numpy()).max()
    if not error <= TOLERANCE * max(1.0, float(exact.abs().max())):
        raise NotNativeError(f"its step as it was written down differs by {error}")
    return True


def any_action(model: TokenModel | HybridModel) -> Tensor:
    """Give an action that is possible, for two rows."""
    if isinstance(model.head, ContinuousHead):
        return model.head.center.repeat(2, 1).view(2, *model.head.space.shape)
    assert isinstance(model.head, DiscreteHead)
    return torch.from_numpy(np.full(2, int(model.head.space.start)))


def some_observations(model: TokenModel | HybridModel, rng: np.random.Generator) -> Tensor:
    """Draw observations like the data's, of two rows."""
    encoder = model.embedding.observation
    if isinstance(encoder, IndexEncoder):
        return torch.from_numpy(np.full(2, encoder.start))
    assert isinstance(encoder, VectorEncoder)
    drawn = torch.from_numpy(rng.normal(size=(2, len(encoder.mean))).astype(np.float32))
    shape = model_shape(model.spec.observation_space)
    return (drawn * encoder.std + encoder.mean).view(2, *shape)
