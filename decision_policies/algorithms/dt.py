"""DT: the Decision Transformer, causal attention over returns, observations and actions."""

from __future__ import annotations

from dataclasses import dataclass

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.learning.hyperparameters import setting
from decision_policies.models import SequenceModel, StepEmbedding, TokenModel, make_head
from decision_policies.models.embedding import EmbeddingStyle
from decision_policies.nets import Attention, Chain, Mixer, Pointwise, Positions, Residual
from decision_policies.nets.compose import Activation
from decision_policies.spec import Inference, SequenceSpec


@dataclass(kw_only=True, eq=False)
class DT(SequenceAlgorithm):
    """Decision Transformer: return-conditioned actions from a causal transformer.

    Recurrent inference caches keys and values: it is what the window gives while t < K, and
    sliding-window attention beyond. With an `attention_window` of a steps, a `context_length` of at
    least `n_layers * a + 1` and no `token_positions`, it is the same at any t.

    Attributes:
        d_model: Token width D.
        n_layers: Number of blocks x + Attention(norm(x)), x + MLP(norm(x)).
        n_heads: Number of attention heads; it divides D.
        activation: Of the MLP: "relu", "gelu" or "gelu_tanh" (GPT-2's).
        max_ep_len: Size of the table of timestep embeddings; later steps share its last vector.
            0 leaves it out.
        token_positions: Learn a vector for each token's place in the window as well, as the Atari
            model does.
        attention_window: Steps that a token sees, its own included; None is the whole context.
        embedding: "layernorm" or "tanh", see `StepEmbedding`.
        dropout: Probability of dropping an entry of the embedding, of the attention and of each
            branch's output.

    References:
        Chen et al., "Decision Transformer: Reinforcement Learning via Sequence Modeling",
        NeurIPS 2021, arXiv 2106.01345.

    Deviations:
        Contexts are padded on the right and need no attention mask. Dropout is 0 by default
        (paper: 0.1), since it hides what small datasets teach. It acts by staggered memory, which
        scored higher than the paper's window in 6 of 6 runs (docs/recipe.md).
    """

    d_model: int = setting(128, 1, 8192)
    n_layers: int = setting(3, 1, 128)
    n_heads: int = setting(1, 1, 1024)
    activation: Activation = "relu"
    max_ep_len: int = setting(1000, 0, 10_000_000)
    token_positions: bool = False
    attention_window: int | None = setting(None, 1, 16384)
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
        window = (self.attention_window or self.context_length) * spec.tokens_per_step
        spec.check_window(window)
        layers = [self._block(window) for _ in range(self.n_layers)]
        if self.token_positions:
            places = self.context_length * spec.tokens_per_step + 1
            layers.insert(0, Positions(self.d_model, places))
        return TokenModel(spec, embedding, Chain(*layers), head, self.d_model)

    def _block(self, window: int) -> Mixer:
        attention = Attention(self.d_model, self.n_heads, window=window, dropout=self.dropout)
        mlp = Pointwise(self.d_model, dropout=self.dropout, activation=self.activation)
        return Chain(Residual(self.d_model, attention), Residual(self.d_model, mlp))
