"""DMM: Decision MetaMamba, a dense mixer of the last tokens before a Mamba without convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.learning.hyperparameters import setting
from decision_policies.models import SequenceModel, StepEmbedding, TokenModel, make_head
from decision_policies.models.embedding import EmbeddingStyle
from decision_policies.nets import Chain, DenseWindow, Mamba, Residual
from decision_policies.spec import Inference, SequenceSpec


@dataclass(kw_only=True, eq=False)
class DMM(SequenceAlgorithm):
    """Decision MetaMamba: x + Dense(norm(x)), then x + Mamba(norm(x)), without positions.

    The convolution leaves the Mamba block and becomes a dense mixer of the last tokens in front of
    it, with a residual branch of its own. Each of the two norms is one module for all layers.

    Attributes:
        d_model: Token width D.
        n_layers: Number of blocks.
        d_state: State size N of each Mamba channel.
        expand: Inner width of the Mamba block, in units of D.
        window: Width of the dense mixer, in tokens; 6 tokens are 2 steps.
        dsm_mode: "per_layer" trains a dense mixer in each layer; "shared_frozen" has a single
            one, drawn at random and never trained, as the published code has for two of its tasks.
        embedding: "layernorm" or "tanh", see `StepEmbedding`.
        dropout: Probability of dropping an entry of the embedding.

    References:
        "Decision MetaMamba", arXiv 2602.19805.

    Deviations:
        Contexts are padded on the right rather than, unmasked, on the left. Mamba's own
        initialisation of the step sizes is kept; the published code overwrites it, which leaves a
        memory of about two tokens. Dropout is 0 by default (published: 0.1).
    """

    context_length: int = setting(8, 1, 16384)
    d_model: int = setting(64, 1, 8192)
    n_layers: int = setting(3, 1, 128)
    d_state: int = setting(16, 1, 1024)
    expand: int = setting(1, 1, 16)
    window: int = setting(6, 1, 1024)
    dsm_mode: Literal["per_layer", "shared_frozen"] = "per_layer"
    embedding: EmbeddingStyle = "layernorm"
    dropout: float = setting(0.0, 0.0, 0.99)

    def default_inference(self) -> Inference:
        """Choose how the policy remembers where the user does not."""
        return "staggered"

    def build_model(self, spec: SequenceSpec) -> SequenceModel:
        """Compose the model."""
        head = make_head(self.d_model, spec.action_space)
        embedding = StepEmbedding(
            spec, self.d_model, head.n_features, style=self.embedding, dropout=self.dropout
        )
        spec.check_window(self.window)
        frozen = self.dsm_mode == "shared_frozen"
        shared = DenseWindow(self.d_model, self.window, frozen=True) if frozen else None
        norms = nn.LayerNorm(self.d_model), nn.LayerNorm(self.d_model)
        layers: list[Residual] = []
        for _ in range(self.n_layers):
            dense = shared or DenseWindow(self.d_model, self.window)
            mamba = Mamba(self.d_model, self.d_state, None, self.expand)
            layers.append(Residual(self.d_model, dense, norms[0]))
            layers.append(Residual(self.d_model, mamba, norms[1]))
        return TokenModel(spec, embedding, Chain(*layers), head, self.d_model)
