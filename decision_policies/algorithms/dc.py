"""DC: the Decision ConvFormer, modality-wise convolutions in the place of attention."""

from __future__ import annotations

from dataclasses import dataclass

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.learning.hyperparameters import setting
from decision_policies.models import SequenceModel, StepEmbedding, TokenModel, make_head
from decision_policies.models.embedding import EmbeddingStyle
from decision_policies.nets import Attention, Chain, Mixer, ModalConv, Pointwise, Residual
from decision_policies.nets.compose import Activation
from decision_policies.spec import Inference, SequenceSpec


@dataclass(kw_only=True, eq=False)
class DC(SequenceAlgorithm):
    """Decision ConvFormer: return-conditioned actions from short convolutions.

    Attributes:
        d_model: Token width D.
        n_layers: Number of blocks x + Conv(norm(x)), x + MLP(norm(x)).
        window: Width of the convolutions, in tokens; 6 tokens are 2 steps.
        conv_proj: Put a linear map behind each convolution (used in some Atari games).
        hybrid: Use attention in the last layer.
        n_heads: Number of that attention's heads.
        activation: Of the MLP: "relu", "gelu" or "gelu_tanh".
        max_ep_len: Size of the table of timestep embeddings; later steps share its last vector.
            0 leaves it out.
        embedding: "layernorm" or "tanh", see `StepEmbedding`.
        dropout: Probability of dropping an entry of the embedding and of each MLP's output.

    References:
        Kim et al., "Decision ConvFormer: Local Filtering in MetaFormer is Sufficient for Decision
        Making", ICLR 2024, arXiv 2310.03022.

    Deviations:
        Contexts are padded on the right rather than, unmasked, on the left. Dropout is 0 by
        default (paper: 0.1). The hybrid's attention sees at most the last K steps when acting
        recurrently. It acts by staggered memory rather than the paper's window, as `DT` does.
    """

    context_length: int = setting(8, 1, 16384)
    d_model: int = setting(128, 1, 8192)
    n_layers: int = setting(3, 1, 128)
    window: int = setting(6, 1, 1024)
    conv_proj: bool = False
    hybrid: bool = False
    n_heads: int = setting(1, 1, 1024)
    activation: Activation = "relu"
    max_ep_len: int = setting(1000, 0, 10_000_000)
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
        spec.check_window(self.window)
        kinds = spec.tokens_per_step
        mixers: list[Mixer] = [
            ModalConv(
                self.d_model, kinds, self.window, project=self.conv_proj, dropout=self.dropout
            )
            for _ in range(self.n_layers)
        ]
        if self.hybrid:
            tokens = self.context_length * kinds
            mixers[-1] = Attention(self.d_model, self.n_heads, window=tokens, dropout=self.dropout)
        return TokenModel(spec, embedding, Chain(*map(self._block, mixers)), head, self.d_model)

    def _block(self, mixer: Mixer) -> Mixer:
        mlp = Pointwise(self.d_model, dropout=self.dropout, activation=self.activation)
        return Chain(Residual(self.d_model, mixer), Residual(self.d_model, mlp))
