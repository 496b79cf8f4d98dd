"""StepEmbedding: from environment steps to tokens, in the layouts B3LD and BL3D.

Letters: B batch, T environment steps, D token width, F width of an action's features. Everything
before the last axis is batch, so one set of functions serves windows (B, T) and single steps (B,).
"""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.models.encoders import make_encoder, make_table
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
        max_ep_len: Adds a learnt vector for the step of the episode, a table of this many; later
            steps share the last. 0 adds none.
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
        max_ep_len: int = 0,
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
        if "reward" in spec.modalities:
            self.reward = nn.Linear(1, d_model)
        self.timestep = make_table(max_ep_len, d_model) if max_ep_len else None
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
        return self.modalities.index("observation") if self.interleaved else 0

    def before_action(
        self,
        observations: Tensor,
        returns_to_go: Tensor,
        timesteps: Tensor,
        previous: Tensor | None,
    ) -> Tensor:
        """Embed what is known of a step before its action.

        Args:
            observations: (..., *observation).
            returns_to_go: (...,), in the environment's units.
            timesteps: (...,), int64, steps since the episode's start.
            previous: Features of the previous action, (..., F); read in the layout BL3D only.

        Returns:
            (..., m, D): one token for each such modality in B3LD, a single one in BL3D.
        """
        time = self._time(timesteps)
        parts = self._given(observations, returns_to_go, time)
        if self.interleaved:
            return self._finish(torch.stack(parts, -2))
        if "action" in self.modalities:
            assert previous is not None
            parts.append(self._act(previous, time))
        return self._finish(self.project(torch.cat(parts, -1)).unsqueeze(-2))

    def after_action(self, features: Tensor, rewards: Tensor, timesteps: Tensor) -> Tensor:
        """Embed what was done and earned in a step.

        Args:
            features: Features of the action, (..., F).
            rewards: The reward that followed, (...,).
            timesteps: Of the step, (...,).

        Returns:
            (..., m, D): one token for each such modality; none in BL3D.
        """
        parts = self._done(features, rewards, self._time(timesteps)) if self.interleaved else []
        if not parts:
            return features.new_zeros(*features.shape[:-1], 0, self.d_model)
        return self._finish(torch.stack(parts, -2))

    def whole(
        self,
        observations: Tensor,
        returns_to_go: Tensor,
        timesteps: Tensor,
        features: Tensor,
        rewards: Tensor,
        previous: Tensor | None,
    ) -> Tensor:
        """Embed whole steps: what `before_action` and `after_action` give, one after the other.

        Args:
            observations: (..., *observation).
            returns_to_go: (...,).
            timesteps: (...,).
            features: Features of the action, (..., F).
            rewards: The reward that followed it, (...,).
            previous: See `before_action`.

        Returns:
            (..., m, D): all tokens of each step.
        """
        if not self.interleaved:
            return self.before_action(observations, returns_to_go, timesteps, previous)
        time = self._time(timesteps)
        given = self._given(observations, returns_to_go, time)
        return self._finish(torch.stack((*given, *self._done(features, rewards, time)), -2))

    def between(
        self,
        features: Tensor,
        rewards: Tensor,
        before: Tensor,
        observations: Tensor,
        returns_to_go: Tensor,
        timesteps: Tensor,
    ) -> Tensor:
        """Embed a step's end and what is known of the next step, as one run of tokens (B3LD only).

        Args:
            features: Features of the action, (..., F).
            rewards: The reward that followed it, (...,).
            before: Timestep of the action, (...,).
            observations: Of the next step, (..., *observation).
            returns_to_go: Of the next step, (...,).
            timesteps: Of the next step, (...,).
        """
        done = self._done(features, rewards, self._time(before))
        given = self._given(observations, returns_to_go, self._time(timesteps))
        return self._finish(torch.stack((*done, *given), -2))

    def _time(self, timesteps: Tensor) -> Tensor | None:
        if self.timestep is None:
            return None
        last = self.timestep.num_embeddings - 1
        return cast(Tensor, self.timestep(timesteps.clamp(max=last)))

    def _given(
        self, observations: Tensor, returns_to_go: Tensor, time: Tensor | None
    ) -> list[Tensor]:
        parts = []
        if "return" in self.modalities:
            scaled = (returns_to_go / self.return_scale).unsqueeze(-1)
            parts.append(self._squash(self.returns(scaled)))
        parts.append(self._squash(self.observation(observations)))
        return parts if time is None else [part + time for part in parts]

    def _done(self, features: Tensor, rewards: Tensor, time: Tensor | None) -> list[Tensor]:
        parts = []
        if "action" in self.modalities:
            parts.append(self._act(features, time))
        if "reward" in self.modalities:
            token = self._squash(self.reward((rewards / self.return_scale).unsqueeze(-1)))
            parts.append(token if time is None else token + time)
        return parts

    def _act(self, features: Tensor, time: Tensor | None) -> Tensor:
        token = self._squash(self.action(features))
        return token if time is None else token + time

    def _squash(self, x: Tensor) -> Tensor:
        return x.tanh() if self.norm is None else x

    def _finish(self, tokens: Tensor) -> Tensor:
        if self.norm is not None:
            weight, bias = self.norm.weight, self.norm.bias
            tokens = F.layer_norm(tokens, (tokens.shape[-1],), weight, bias, self.norm.eps)
        return tokens if self.dropout is None else self.dropout(tokens)
