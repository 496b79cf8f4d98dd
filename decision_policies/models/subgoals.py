"""Both ends of a hybrid's long memory: what it sees of a chunk, and the sub-goal it names."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from decision_policies.models.encoders import make_encoder
from decision_policies.spec import SequenceSpec

LOWEST, HIGHEST = -5.0, 2.0
"""Bounds of the logarithm of a sub-goal's deviation."""


class ChunkEmbedding(nn.Module):
    """Embeds what the long memory sees of a chunk: how the last one went, and where this begins.

    Args:
        spec: What the model sees of a step.
        d_model: Token width D.
    """

    def __init__(self, spec: SequenceSpec, d_model: int) -> None:
        super().__init__()
        self.return_scale = spec.return_scale
        self.paid = nn.Linear(1, d_model)
        self.begins = nn.Linear(1, d_model)
        self.observation = make_encoder(d_model, spec.observation_space)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, paid: Tensor, begins: Tensor, observations: Tensor) -> Tensor:
        """Embed chunks.

        Args:
            paid: (...,), sum of the rewards of the chunk before.
            begins: (...,), bool, whether the chunk begins an episode.
            observations: (..., *observation), the first of the chunk.

        Returns:
            (..., 3, D), a token each.
        """
        parts = (
            self.paid((paid / self.return_scale).unsqueeze(-1)),
            self.begins(begins.to(paid.dtype).unsqueeze(-1)),
            self.observation(observations),
        )
        return cast(Tensor, self.norm(torch.stack(parts, -2)))


class SubgoalHead(nn.Module):
    """Reads a distribution of sub-goals, and turns sub-goals into prompts.

    In training, the observation that a chunk should lead to is a sub-goal as well, by a fixed
    random projection.

    Args:
        spec: What the model sees of a step.
        d_model: Width D of features, sub-goals and prompts.
        init_log_std: Logarithm of the deviation to start with. Where it starts large, a sub-goal
            is noise, the prompt is not listened to, and the memory is never learnt.
    """

    def __init__(self, spec: SequenceSpec, d_model: int, init_log_std: float) -> None:
        super().__init__()
        self.spec = spec
        self.linear = nn.Linear(d_model, 2 * d_model)
        with torch.no_grad():
            self.linear.bias[d_model:] = init_log_std
        self.reached = make_encoder(d_model, spec.observation_space)
        for parameter in self.reached.parameters():
            if parameter.ndim == 2:
                nn.init.orthogonal_(parameter)
            elif parameter.ndim == 1:
                nn.init.zeros_(parameter)
            parameter.requires_grad_(False)
        self.prompt = nn.Sequential(nn.Linear(d_model, d_model), nn.LayerNorm(d_model))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Read mean and deviation of the sub-goals, (..., D) each, from features (..., D)."""
        mean, log_std = self.linear(features).chunk(2, -1)
        return mean, log_std.clamp(LOWEST, HIGHEST).exp()
