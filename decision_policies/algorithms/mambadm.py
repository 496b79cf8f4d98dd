"""MambaDM: a global and a local Mamba side by side, fused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.learning.hyperparameters import setting
from decision_policies.models import SequenceModel, StepEmbedding, TokenModel, make_head
from decision_policies.models.embedding import EmbeddingStyle
from decision_policies.nets import (
    Chain,
    Chunked,
    Fuse,
    Fusion,
    LocalMamba,
    Mamba,
    Mixer,
    Pointwise,
    Residual,
)
from decision_policies.spec import Inference, SequenceSpec


@dataclass(kw_only=True, eq=False)
class MambaDM(SequenceAlgorithm):
    """MambaDM: x + Fuse(global Mamba, local Mamba)(norm(x)), then x + MLP(norm(x)).

    The global branch remembers the whole sequence, the local one the last few tokens.

    Attributes:
        d_model: Token width D.
        n_layers: Number of blocks.
        d_state: State size N of each channel of the global Mamba.
        d_conv: Width of the causal convolution inside the global Mamba.
        expand: Inner width of the global Mamba, in units of D.
        window: Memory of the local Mamba, in tokens; 6 tokens are 2 steps.
        local_mode: "sliding": every token sees the w tokens that end at it; "chunk": the local
            Mamba starts anew every w tokens.
        local_d_state: State size of each channel of the local Mamba.
        local_expand: Inner width of the local Mamba, in units of D.
        fuse: "linear", "sum" or "gated", see `Fuse`.
        embedding: "layernorm" or "tanh", see `StepEmbedding`.
        dropout: Probability of dropping an entry of the embedding and of each branch's output.

    References:
        Cao et al., "Mamba as Decision Maker: Exploring Multi-scale Sequence Modeling in Offline
        Reinforcement Learning", arXiv 2406.02013.

    Deviations:
        The paper publishes neither code nor sizes of its global-local mixer; window, fusion and
        the local branch (without convolution, of a smaller state) are ours. There is no timestep
        embedding. Contexts are padded on the right. Dropout is 0 by default.
    """

    d_model: int = setting(128, 1, 8192)
    n_layers: int = setting(3, 1, 128)
    d_state: int = setting(16, 1, 1024)
    d_conv: int = setting(4, 1, 64)
    expand: int = setting(2, 1, 16)
    window: int = setting(6, 1, 1024)
    local_mode: Literal["sliding", "chunk"] = "sliding"
    local_d_state: int = setting(4, 1, 1024)
    local_expand: int = setting(1, 1, 16)
    fuse: Fusion = "linear"
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
        backbone = Chain(*(self._block() for _ in range(self.n_layers)))
        return TokenModel(spec, embedding, backbone, head, self.d_model)

    def _block(self) -> Mixer:
        width = self.d_model
        whole = Mamba(width, self.d_state, self.d_conv, self.expand)
        mixer = Fuse(width, whole, self._local(), self.fuse, self.dropout)
        mlp = Pointwise(width, dropout=self.dropout)
        return Chain(Residual(width, mixer), Residual(width, mlp))

    def _local(self) -> Mixer:
        state, expand = self.local_d_state, self.local_expand
        if self.local_mode == "sliding":
            return LocalMamba(self.d_model, self.window, d_state=state, expand=expand)
        return Chunked(Mamba(self.d_model, state, None, expand), self.window)
