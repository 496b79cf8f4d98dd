"""RewardHead: what a step has earned, told by what was seen, done and seen next."""

from __future__ import annotations

from typing import Any, cast

import torch
from gymnasium import spaces
from torch import Tensor, nn

from decision_policies.batch import Window
from decision_policies.models.encoders import make_encoder, standardise


class RewardHead(nn.Module):
    """Predicts the reward of a step from its observation, its action and the next observation.

    It counts a return-to-go down where no rewards are reported. It sees neither the return that is
    asked for nor what the model makes of it: in training the return-to-go tells rewards to come,
    and a head that reads it would believe to have earned what was merely asked for. With an encoder
    of its own it shares no weight with what acts.

    Args:
        space: The observation space.
        n_features: Width F of an action's features.
        weight: Weight of its error in the loss.
        width: Width D of its layers.

    References:
        None: an idea of this project.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, space: spaces.Space[Any], n_features: int, weight: float = 1.0, width: int = 128
    ) -> None:
        super().__init__()
        self.weight = weight
        self.encoder = make_encoder(width, space)
        self.layers = nn.Sequential(
            nn.Linear(2 * width + n_features, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.last = nn.Linear(width, 1)
        nn.init.zeros_(self.last.weight)  # it begins with the mean of the data
        nn.init.zeros_(self.last.bias)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def forward(self, observations: Tensor, features: Tensor, following: Tensor) -> Tensor:
        """Predict rewards in the environment's units.

        Args:
            observations: (..., *observation).
            features: Features of the actions, (..., F).
            following: The observations that followed, (..., *observation).

        Returns:
            (...,).
        """
        return self._standardised(self.encoder(observations), features, self.encoder(following))

    def loss(self, window: Window, features: Tensor) -> Tensor:
        """Mean squared error over a window, in deviations of the data's rewards.

        The last step of a window and of an episode is left out: what followed it is not seen, and
        in acting nothing is asked for after an episode's end. The mean is taken over all real steps
        nevertheless, so that the parts of a batch add up to the whole.

        Args:
            window: (B, T) steps.
            features: Features of their actions, (B, T, F).
        """
        codes = self.encoder(window.observations)
        real = window.mask[:, 1:] & (window.timesteps[:, 1:] > 0)
        guess = self._standardised(codes[:, :-1], features[:, :-1], codes[:, 1:])
        error = ((guess - window.rewards[:, :-1]) / self.std).square()
        return (error * real).sum() / window.mask.sum()

    def set_statistics(
        self, observations: tuple[Tensor, Tensor] | None, rewards: tuple[float, float]
    ) -> None:
        """Take over mean and deviation of the data; statistics that are there already are kept.

        Args:
            observations: Mean and deviation, each of the observation's shape; None for images.
            rewards: Mean and deviation.
        """
        if observations is not None:
            standardise(self.encoder, *observations)
        if not bool(self.mean) and bool(self.std == 1):
            self.mean.fill_(rewards[0])
            self.std.fill_(rewards[1] if rewards[1] > 0 else 1.0)

    def _standardised(self, before: Tensor, features: Tensor, after: Tensor) -> Tensor:
        """Predict from codes (..., D) of two observations and the action between them."""
        x = self.layers(torch.cat((before, features.to(before.dtype), after), -1))
        return cast(Tensor, self.last(x).squeeze(-1).float() * self.std + self.mean)
