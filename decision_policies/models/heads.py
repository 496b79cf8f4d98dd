"""Action heads: from model features to actions, and from actions to features and a loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.batch import Losses


class Head(nn.Module):
    """Turns features (..., D) into action parameters (..., P), and knows what they mean.

    Attributes:
        n_features: Width F of `features`, what an action looks like to an embedding.
    """

    n_features: int

    @abstractmethod
    def features(self, actions: Tensor) -> Tensor:
        """Describe actions (..., *action) of the environment's units as (..., F) for embedding."""

    @abstractmethod
    def loss(self, parameters: Tensor, actions: Tensor, mask: Tensor) -> Losses:
        """Compare predictions with the logged actions.

        Args:
            parameters: (B, T, P).
            actions: (B, T, *action), in the environment's units.
            mask: (B, T), True where the step counts.

        Returns:
            `"loss"`, the mean over real steps, and what else is worth logging.
        """

    @abstractmethod
    def act(
        self, parameters: NDArray[np.float32], deterministic: bool, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Choose actions (B, *action) of the environment's units and dtype from (B, P)."""


class ContinuousHead(Head):
    """A deterministic action for a Box space, learnt by mean squared error.

    A bounded space is mapped to [-1, 1] and squashed by tanh; an unbounded one is left as it is.

    Args:
        d_model: Width D of the features.
        space: The action space.

    References:
        Chen et al., "Decision Transformer", arXiv 2106.01345, section 3 (tanh head and squared
        error for continuous actions).
    """

    center: Tensor
    half_width: Tensor

    def __init__(self, d_model: int, space: spaces.Box) -> None:
        super().__init__()
        self.space = space
        self.n_features = int(np.prod(space.shape))
        self.bounded = space.is_bounded()
        self.rounds = not np.issubdtype(space.dtype, np.floating)
        self.linear = nn.Linear(d_model, self.n_features)
        low, high = space.low.astype(np.float64).ravel(), space.high.astype(np.float64).ravel()
        center = (low + high) / 2 if self.bounded else np.zeros(self.n_features)
        half = (high - low) / 2 if self.bounded else np.ones(self.n_features)
        half[half == 0] = 1.0  # a dimension with one possible value
        self.register_buffer("center", torch.tensor(center, dtype=torch.float32))
        self.register_buffer("half_width", torch.tensor(half, dtype=torch.float32))
        self.offset, self.scale = center.astype(np.float32), half.astype(np.float32)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (..., D) to normalised actions (..., A)."""
        y: Tensor = self.linear(x)
        return y.tanh() if self.bounded else y

    def features(self, actions: Tensor) -> Tensor:
        """Normalise actions to [-1, 1]; see `Head.features`."""
        rank = len(self.space.shape)
        if rank != 1:
            actions = actions.flatten(-rank) if rank else actions.unsqueeze(-1)
        return (actions - self.center) / self.half_width

    def loss(self, parameters: Tensor, actions: Tensor, mask: Tensor) -> Losses:
        """Mean squared error over real steps and action dimensions, in normalised units."""
        error = (parameters - self.features(actions)).square().mean(-1)
        return {"loss": (error * mask).sum() / mask.sum()}

    def act(
        self, parameters: NDArray[np.float32], deterministic: bool, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Scale to the space, round where it holds integers, clip; there is nothing to sample."""
        actions = parameters * self.scale + self.offset
        if len(self.space.shape) != 1:
            actions = actions.reshape(-1, *self.space.shape)
        if self.rounds:
            actions = np.rint(actions)
        actions = np.minimum(np.maximum(actions, self.space.low), self.space.high)
        chosen: NDArray[Any] = actions.astype(self.space.dtype)
        return chosen


class DiscreteHead(Head):
    """A categorical action for a Discrete space, learnt by cross-entropy.

    Args:
        d_model: Width D of the features.
        space: The action space.

    References:
        Chen et al., "Decision Transformer", arXiv 2106.01345 (bias-free head of the Atari model).
    """

    def __init__(self, d_model: int, space: spaces.Discrete) -> None:
        super().__init__()
        self.space = space
        self.n_features = int(space.n)
        self.linear = nn.Linear(d_model, self.n_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (..., D) to logits (..., n)."""
        return cast(Tensor, self.linear(x))

    def features(self, actions: Tensor) -> Tensor:
        """One-hot actions; see `Head.features`."""
        index = actions.long() - int(self.space.start)
        return F.one_hot(index, self.n_features).to(self.linear.weight.dtype)

    def loss(self, parameters: Tensor, actions: Tensor, mask: Tensor) -> Losses:
        """Mean cross-entropy over real steps, and the share of actions guessed right."""
        labels = actions.long() - int(self.space.start)
        error = F.cross_entropy(parameters.flatten(0, 1), labels.flatten(), reduction="none")
        hits = (parameters.detach().argmax(-1) == labels) & mask
        return {
            "loss": (error * mask.flatten()).sum() / mask.sum(),
            "accuracy": hits.sum() / mask.sum(),
        }

    def act(
        self, parameters: NDArray[np.float32], deterministic: bool, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Take the likeliest action, or sample from the softmax at temperature 1 (Gumbel-max)."""
        noise = 0.0 if deterministic else rng.gumbel(size=parameters.shape)
        choice = (parameters + noise).argmax(-1) + int(self.space.start)
        chosen: NDArray[Any] = choice.astype(self.space.dtype)
        return chosen


def make_head(d_model: int, space: spaces.Space[Any]) -> Head:
    """Choose the head that fits an action space.

    Args:
        d_model: Width D of the features.
        space: A Box or Discrete action space.
    """
    if isinstance(space, spaces.Box):
        return ContinuousHead(d_model, space)
    if isinstance(space, spaces.Discrete):
        return DiscreteHead(d_model, space)
    raise TypeError(f"no head for the action space {space}")
