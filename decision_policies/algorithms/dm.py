"""DM: plain Decision Mamba, the Decision Transformer with Mamba in the place of attention."""

from __future__ import annotations

from dataclasses import dataclass

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.learning.hyperparameters import setting
from decision_policies.models import SequenceModel, StepEmbedding, TokenModel, make_head
from decision_policies.models.embedding import EmbeddingStyle
from decision_policies.nets import Chain, Mamba, Mixer, Pointwise, Positions, Residual
from decision_policies.spec import Inference, SequenceSpec


@dataclass(kw_only=True, eq=False)
class DM(SequenceAlgorithm):
    """Decision Mamba: Mamba blocks as token mixers, each with an MLP, and timestep embeddings.

    Attributes:
        d_model: Token width D.
        n_layers: Number of blocks x + Mamba(norm(x)), x + MLP(norm(x)).
        d_state: State size N of each Mamba channel.
        d_conv: Width of the causal convolution inside the Mamba block.
        expand: Inner width of the Mamba block, in units of D.
        max_ep_len: Size of the table of timestep embeddings; later steps share its last vector.
            0 leaves it out.
        token_positions: Learn a vector for each token's place in the window as well, as the Atari
            model does.
        embedding: "layernorm" or "tanh", see `StepEmbedding`.
        dropout: Probability of dropping an entry of the embedding and of each MLP's output.

    References:
        Ota, "Decision Mamba: Reinforcement Learning via Sequence Modeling with Selective State
        Spaces", arXiv 2403.19925.

    Deviations:
        Contexts are padded on the right rather than, unmasked, on the left. Mamba's own
        initialisation of the step sizes is kept; the published code overwrites it, which leaves a
        memory of about two tokens. Dropout is 0 by default (paper: 0.1).
    """

    d_model: int = setting(128, 1, 8192)
    n_layers: int = setting(3, 1, 128)
    d_state: int = setting(16, 1, 1024)
    d_conv: int = setting(4, 1, 64)
    expand: int = setting(2, 1, 16)
    max_ep_len: int = setting(1000, 0, 10_000_000)
    token_positions: bool = False
    embedding: EmbeddingStyle = "layernorm"
    dropout: float = setting(0.0, 0.0, 0.99)

    def default_inference(self) -> Inference:
        """Choose how the policy remembers where the user does not."""
        return "staggered"

    def build_model(self, spec: SequenceSpec) -> SequenceModel:
        """Compose the model."""
        head = make_head(self.d_model, spec.action_space)
        embedding = StepEmbedding(
            spec,
            self.d_model,
            head.n_features,
            style=self.embedding,
            max_ep_len=self.max_ep_len,
            dropout=self.dropout,
        )
        layers = [self._block() for _ in range(self.n_layers)]
        if self.token_positions:
            places = self.context_length * spec.tokens_per_step + 1
            layers.insert(0, Positions(self.d_model, places))
        return TokenModel(spec, embedding, Chain(*layers), head, self.d_model)

    def _block(self) -> Mixer:
        mamba = Mamba(self.d_model, self.d_state, self.d_conv, self.expand)
        mlp = Pointwise(self.d_model, dropout=self.dropout)
        return Chain(Residual(self.d_model, mamba), Residual(self.d_model, mlp))
