"""StepEmbedding: from environment steps to tokens, in the layouts B3LD and BL3D.

Letters: B batch, T environment steps, D token width, F width of an action's features. Everything
before the last axis is batch, so one set of functions serves windows (B, T) and single steps (B,).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.models.encoders import make_encoder
from decision_policies.spec import SequenceSpec

EmbeddingStyle: TypeAlias = Literal["layernorm", "tanh"]


class StepEmbedding(nn.Module):
    """Embeds the modalities of a step as tokens.

    In B3LD a step is the tokens (return, observation, action), one after the other. In BL3D it is
    one token made of (return, observation, *previous* action): with the action of the same step in
    it, the token would contain the label that it must predict. The first step of an episode, and of
    a window cut out of one, has the zero vector as its previous action.

    Args:
        spec: Spaces, modalities and layout.
        d_model: Token width D.
        n_features: Width F of an action's features, which the head defines.
        style: "layernorm" puts one shared LayerNorm behind all embeddings, "tanh" a tanh behind
            each.
        dropout: Probability with which an entry is dropped in training.

    References:
        Dai et al., "Is Mamba Compatible with Trajectory Optimization in Offline Reinforcement
        Learning?" (DeMa), arXiv 2405.12094, for the layouts; Chen et al., arXiv 2106.01345, for the
        two styles ("layernorm" in its continuous, "tanh" in its Atari experiments).
    """

    def __init__(
        self,
        spec: SequenceSpec,
        d_model: int,
        n_features: int,
        *,
        style: EmbeddingStyle = "layernorm",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.modalities = spec.modalities
        self.interleaved = spec.layout == "B3LD"
        self.return_scale = spec.return_scale
        self.d_model = d_model
        self.n_features = n_features
        self.observation = make_encoder(d_model, spec.observation_space)
        if spec.uses_returns:
            self.returns = nn.Linear(1, d_model)
        if "action" in spec.modalities:
            bias = style == "layernorm"  # the Atari model looks actions up in a table
            self.action = nn.Linear(n_features, d_model, bias=bias)
        if not self.interleaved:
            self.project = nn.Linear(len(spec.modalities) * d_model, d_model)
        self.norm = nn.LayerNorm(d_model) if style == "layernorm" else None
        self.dropout = nn.Dropout(dropout) if dropout else None

    @property
    def tokens_per_step(self) -> int:
        """Number of tokens that a step takes."""
        return len(self.modalities) if self.interleaved else 1

    @property
    def acting_token(self) -> int:
        """Index, within a step, of the token from which the action is read."""
        given = [m for m in self.modalities if m != "action"]
        return len(given) - 1 if self.interleaved else 0

    def before_action(
        self, observations: Tensor, returns_to_go: Tensor, previous: Tensor | None
    ) -> Tensor:
        """Embed what is known of a step before its action.

        Args:
            observations: (..., *observation).
            returns_to_go: (...,), in the environment's units.
            previous: Features of the previous action, (..., F); read in the layout BL3D only.

        Returns:
            (..., m, D): one token for each such modality in B3LD, a single one in BL3D.
        """
        parts = self._given(observations, returns_to_go)
        if self.interleaved:
            return self._finish(torch.stack(parts, -2))
        if "action" in self.modalities:
            parts.append(self._squash(self.action(previous)))
        return self._finish(self.project(torch.cat(parts, -1)).unsqueeze(-2))

    def after_action(self, features: Tensor) -> Tensor:
        """Embed an action's features (..., F) as (..., m, D); m is 0 where it is no token."""
        if not self.interleaved or "action" not in self.modalities:
            return features.new_zeros(*features.shape[:-1], 0, self.d_model)
        return self._finish(self._squash(self.action(features)).unsqueeze(-2))

    def between(self, features: Tensor, observations: Tensor, returns_to_go: Tensor) -> Tensor:
        """Embed an action and what is known of the next step, as one run of tokens (B3LD only)."""
        parts = self._given(observations, returns_to_go)
        if "action" in self.modalities:
            parts.insert(0, self._squash(self.action(features)))
        return self._finish(torch.stack(parts, -2))

    def _given(self, observations: Tensor, returns_to_go: Tensor) -> list[Tensor]:
        parts = []
        if "return" in self.modalities:
            scaled = (returns_to_go / self.return_scale).unsqueeze(-1)
            parts.append(self._squash(self.returns(scaled)))
        parts.append(self._squash(self.observation(observations)))
        return parts

    def _squash(self, x: Tensor) -> Tensor:
        return x.tanh() if self.norm is None else x

    def _finish(self, tokens: Tensor) -> Tensor:
        if self.norm is not None:
            weight, bias = self.norm.weight, self.norm.bias
            tokens = F.layer_norm(tokens, (tokens.shape[-1],), weight, bias, self.norm.eps)
        return tokens if self.dropout is None else self.dropout(tokens)
