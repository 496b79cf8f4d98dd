"""BC: behaviour cloning from the last observations, of all episodes or of the best (BC-10 %)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.data.trajectories import Trajectories
from decision_policies.learning.hyperparameters import setting
from decision_policies.models import SequenceModel, StepEmbedding, TokenModel, make_head
from decision_policies.models.embedding import EmbeddingStyle
from decision_policies.nets import Chain, DenseWindow, Pointwise, Residual
from decision_policies.nets.compose import Activation
from decision_policies.spec import Inference, SequenceSpec


@dataclass(kw_only=True, eq=False)
class BC(SequenceAlgorithm):
    """Behaviour cloning: the logged action from the last K observations, without returns.

    Attributes:
        top_fraction: Learn only from the episodes of highest return that together hold at most
            this share of the steps; 0.1 is BC-10 %, 1 takes all.
        d_model: Width D of the perceptron.
        n_layers: Its hidden layers: one over the K observations, then residual ones.
        activation: "relu", "gelu" or "gelu_tanh".
        embedding: "layernorm" or "tanh", see `StepEmbedding`.
        dropout: Probability of dropping an entry of the embedding and of each layer's output.

    References:
        The behaviour-cloning baselines of Chen et al., "Decision Transformer", arXiv 2106.01345,
        section 5.

    Deviations:
        Each observation is embedded before the K are joined. Dropout is 0 by default (paper: 0.1).
    """

    top_fraction: float = setting(1.0, 1e-9, 1.0)
    d_model: int = setting(128, 1, 8192)
    n_layers: int = setting(3, 1, 128)
    activation: Activation = "relu"
    embedding: EmbeddingStyle = "tanh"
    dropout: float = setting(0.0, 0.0, 0.99)

    def default_inference(self) -> Inference:
        """Choose how the policy remembers where the user does not."""
        return "recurrent"

    def select(self, data: Trajectories) -> Trajectories:
        """Keep the best episodes."""
        return data if self.top_fraction == 1.0 else data.best(self.top_fraction)

    def make_spec(self, *spaces: Any, **returns: Any) -> SequenceSpec:
        """Say what the model sees of a step: the observation only."""
        return replace(super().make_spec(*spaces, **returns), modalities=("observation",))

    def build_model(self, spec: SequenceSpec) -> SequenceModel:
        """Compose the model."""
        head = make_head(self.d_model, spec.action_space)
        embedding = StepEmbedding(
            spec, self.d_model, head.n_features, style=self.embedding, dropout=self.dropout
        )
        join = DenseWindow(self.d_model, self.context_length, bias=True)
        layers = [
            Residual(
                self.d_model, Pointwise(self.d_model, 1, self.dropout, activation=self.activation)
            )
            for _ in range(self.n_layers - 1)
        ]
        return TokenModel(spec, embedding, Chain(join, *layers), head, self.d_model)
