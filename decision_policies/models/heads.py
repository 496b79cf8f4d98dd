"""Action heads: from model features to actions, and from actions to features and a loss."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.batch import Losses
from decision_policies.errors import UnsupportedSpaceError
from decision_policies.spaces import choices


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


FAR = 1 << 24
"""Bounds beyond this are taken for none: float32 has no fractions of such numbers."""


class ContinuousHead(Head):
    """A deterministic action for a Box space, learnt by mean squared error.

    A bounded space is mapped to [-1, 1] and squashed by tanh; an unbounded one is left as it is. So
    is one whose bounds are as far as a number type goes: mapped, all its actions would be 0.

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
        self.rounds = not np.issubdtype(space.dtype, np.floating)
        low, high = space.low.astype(np.float64).ravel(), space.high.astype(np.float64).ravel()
        self.bounded = bool(max(-low.min(), high.max()) <= FAR and space.is_bounded())
        self.linear = nn.Linear(d_model, self.n_features)
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
        chosen: NDArray[Any] = actions.astype(self.space.dtype, copy=False)
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
        self.start, self.n_features = int(space.start), int(space.n)
        self.linear = nn.Linear(d_model, self.n_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (..., D) to logits (..., n)."""
        return cast(Tensor, self.linear(x))

    def features(self, actions: Tensor) -> Tensor:
        """One-hot actions; see `Head.features`."""
        index = actions.long() - self.start
        return F.one_hot(index, self.n_features).to(self.linear.weight.dtype)

    def loss(self, parameters: Tensor, actions: Tensor, mask: Tensor) -> Losses:
        """Mean cross-entropy over real steps, and the share of actions guessed right."""
        labels = actions.long() - self.start
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
        choice = (parameters + noise).argmax(-1) + self.start
        chosen: NDArray[Any] = choice.astype(self.space.dtype)
        return chosen


class MultiDiscreteHead(Head):
    """Independent categorical actions for a MultiDiscrete space, learnt by cross-entropy.

    Args:
        d_model: Width D of the features.
        space: The action space, of any shape.
    """

    component: Tensor
    value: Tensor

    def __init__(self, d_model: int, space: spaces.MultiDiscrete) -> None:
        super().__init__()
        self.space = space
        self.counts = space.nvec.ravel().tolist()
        self.start = space.start.ravel().astype(np.int64)
        self.n_features = sum(self.counts)
        self.linear = nn.Linear(d_model, self.n_features, bias=False)
        component, value = choices(space)
        self.register_buffer("component", torch.from_numpy(component), persistent=False)
        self.register_buffer("value", torch.from_numpy(value), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (..., D) to the logits of all components, side by side, (..., F)."""
        return cast(Tensor, self.linear(x))

    def features(self, actions: Tensor) -> Tensor:
        """One-hot actions, side by side; what is no choice has no one. See `Head.features`."""
        chosen = actions.flatten(-len(self.space.shape)).long()[..., self.component]
        return (chosen == self.value).to(self.linear.weight.dtype)

    def loss(self, parameters: Tensor, actions: Tensor, mask: Tensor) -> Losses:
        """Mean cross-entropy over real steps and components, and the share guessed right."""
        hot = torch.split(self.features(actions), self.counts, -1)
        logits = torch.split(parameters, self.counts, -1)
        errors, hits = [], []
        for guess, right in zip(logits, hot, strict=True):
            errors.append(-(guess.log_softmax(-1) * right).sum(-1))
            hits.append(guess.detach().argmax(-1) == right.argmax(-1))
        return {
            "loss": (torch.stack(errors).mean(0) * mask).sum() / mask.sum(),
            "accuracy": (torch.stack(hits).to(parameters.dtype).mean(0) * mask).sum() / mask.sum(),
        }

    def act(
        self, parameters: NDArray[np.float32], deterministic: bool, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Take each component's likeliest value, or sample each from its softmax (Gumbel-max)."""
        noise = 0.0 if deterministic else rng.gumbel(size=parameters.shape)
        each = np.split(parameters + noise, np.cumsum(self.counts)[:-1], -1)
        chosen = np.stack([part.argmax(-1) for part in each], -1) + self.start
        shaped: NDArray[Any] = chosen.reshape(-1, *self.space.shape).astype(self.space.dtype)
        return shaped


class MultiBinaryHead(Head):
    """Independent yes-or-no actions for a MultiBinary space, learnt by binary cross-entropy.

    Args:
        d_model: Width D of the features.
        space: The action space, of any shape.
    """

    def __init__(self, d_model: int, space: spaces.MultiBinary) -> None:
        super().__init__()
        self.space = space
        self.n_features = math.prod(space.shape)
        self.linear = nn.Linear(d_model, self.n_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (..., D) to the logits of yes, (..., F)."""
        return cast(Tensor, self.linear(x))

    def features(self, actions: Tensor) -> Tensor:
        """Lay actions out as 0 and 1; see `Head.features`."""
        return actions.flatten(-len(self.space.shape)).to(self.linear.weight.dtype)

    def loss(self, parameters: Tensor, actions: Tensor, mask: Tensor) -> Losses:
        """Mean binary cross-entropy over real steps and components, and the share guessed right."""
        right = self.features(actions)
        error = F.binary_cross_entropy_with_logits(parameters, right, reduction="none").mean(-1)
        hits = ((parameters.detach() > 0) == (right > 0)).to(parameters.dtype).mean(-1)
        return {
            "loss": (error * mask).sum() / mask.sum(),
            "accuracy": (hits * mask).sum() / mask.sum(),
        }

    def act(
        self, parameters: NDArray[np.float32], deterministic: bool, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Take what is likelier, or draw each component with its probability."""
        noise = 0.0 if deterministic else rng.logistic(size=parameters.shape)
        chosen = (parameters + noise > 0).reshape(-1, *self.space.shape)
        return chosen.astype(np.int8)


HEADS: dict[type, Callable[[int, Any], Head]] = {
    spaces.Box: ContinuousHead,
    spaces.Discrete: DiscreteHead,
    spaces.MultiDiscrete: MultiDiscreteHead,
    spaces.MultiBinary: MultiBinaryHead,
}


def make_head(d_model: int, space: spaces.Space[Any]) -> Head:
    """Choose the head that fits an action space.

    Args:
        d_model: Width D of the features.
        space: A Box, Discrete, MultiDiscrete or MultiBinary action space.

    Raises:
        UnsupportedSpaceError: It is none of these.
    """
    if type(space) not in HEADS:
        raise UnsupportedSpaceError(f"no head for the action space {space}")
    return HEADS[type(space)](d_model, space)
