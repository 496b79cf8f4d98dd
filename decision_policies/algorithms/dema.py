"""DeMa: Mamba for trajectory optimisation, RNN-like and Transformer-like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.learning.hyperparameters import setting
from decision_policies.models import SequenceModel, StepEmbedding, TokenModel, make_head
from decision_policies.models.embedding import EmbeddingStyle
from decision_policies.nets import Chain, Mamba, Mixer, Pointwise, Residual
from decision_policies.spec import Inference, Layout, SequenceSpec


@dataclass(kw_only=True, eq=False)
class DeMa(SequenceAlgorithm):
    """Decision Mamba (DeMa): return-conditioned actions from Mamba blocks without positions.

    Tokens of (return-to-go, observation, action) run through residual Mamba blocks; the action is
    read at the observation's token. There is neither a timestep nor a position embedding. With the
    defaults the model has a quarter of the Decision Transformer's parameters.

    Attributes:
        d_model: Token width D.
        n_layers: Number of blocks.
        d_state: State size N of each Mamba channel.
        d_conv: Width of the causal convolution inside the block.
        expand: Inner width of the Mamba block, in units of D.
        block: "pre" up-projection is x + Mamba(norm(x)), the expansion being inside the block;
            "post" puts x + MLP(norm(x)) behind it.
        layout: "B3LD" makes three tokens of a step, "BL3D" one.
        kind: "transformer" trains on independent windows; "rnn" carries the hidden state along the
            trajectory (truncated back-propagation through time).
        inference: As in `SequenceAlgorithm`; None is "staggered" for the transformer-like and
            "recurrent" for the rnn-like kind.
        embedding: "layernorm" or "tanh", see `StepEmbedding`.
        dropout: Probability of dropping an entry of the embedding, and of the MLP's output.

    References:
        Dai et al., "Is Mamba Compatible with Trajectory Optimization in Offline Reinforcement
        Learning?", NeurIPS 2024, arXiv 2405.12094.

    Deviations:
        In BL3D the token holds the previous action, since this step's is the label, and is
        projected from 3 D to D. Contexts are padded on the right rather than the left. The
        rnn-like kind follows each trajectory to its end rather than for a set number of segments.
        Dropout is 0 by default (papers: 0.1), since it hides what small datasets teach.
    """

    d_model: int = setting(128, 1, 8192)
    n_layers: int = setting(3, 1, 128)
    d_state: int = setting(16, 1, 1024)
    d_conv: int = setting(4, 1, 64)
    expand: int = setting(1, 1, 16)
    block: Literal["pre", "post"] = "pre"
    layout: Layout = "B3LD"
    kind: Literal["transformer", "rnn"] = "transformer"
    embedding: EmbeddingStyle = "layernorm"
    dropout: float = setting(0.0, 0.0, 0.99)

    @property
    def carries_state(self) -> bool:
        """Whether training carries the hidden state from segment to segment."""
        return self.kind == "rnn"

    def default_inference(self) -> Inference:
        """Choose how the policy remembers where the user does not."""
        return "recurrent" if self.kind == "rnn" else "staggered"

    def make_spec(self, *spaces: Any, **returns: Any) -> SequenceSpec:
        """Say what the model sees of a step: the base's choice, in this layout."""
        return replace(super().make_spec(*spaces, **returns), layout=self.layout)

    def build_model(self, spec: SequenceSpec) -> SequenceModel:
        """Compose the model."""
        head = make_head(self.d_model, spec.action_space)
        embedding = StepEmbedding(
            spec, self.d_model, head.n_features, style=self.embedding, dropout=self.dropout
        )
        backbone = Chain(*(self._block() for _ in range(self.n_layers)))
        return TokenModel(spec, embedding, backbone, head, self.d_model)

    def _block(self) -> Mixer:
        mamba = Mamba(self.d_model, self.d_state, self.d_conv, self.expand)
        if self.block == "pre":
            return Residual(self.d_model, mamba)
        mlp = Pointwise(self.d_model, dropout=self.dropout)
        return Chain(Residual(self.d_model, mamba), Residual(self.d_model, mlp))
