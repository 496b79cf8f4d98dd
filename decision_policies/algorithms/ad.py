"""AD: Algorithm Distillation, a policy that goes on improving over the episodes it remembers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.learning.hyperparameters import setting
from decision_policies.models import SequenceModel, StepEmbedding, TokenModel, make_head
from decision_policies.models.embedding import EmbeddingStyle
from decision_policies.nets import Attention, Chain, Mamba, Mixer, Pointwise, Residual
from decision_policies.nets.compose import Activation
from decision_policies.spec import SequenceSpec


@dataclass(kw_only=True, eq=False)
class AD(SequenceAlgorithm):
    """Algorithm Distillation: tokens (observation, action, reward) over many episodes of a task.

    Trained to predict the actions in the learning histories of an agent, it takes up not a policy
    but the way that policies improve: memory goes on over the ends of episodes, and in a new task
    the returns rise from one episode to the next while the weights stay as they are.

    Attributes:
        backbone: "transformer", or "mamba", whose memory is not bounded by the context.
        d_model: Token width D.
        n_layers: Number of blocks x + Mixer(norm(x)), x + MLP(norm(x)).
        n_heads: Number of attention heads; it divides D. A Mamba has none.
        d_state: State size N of each channel of a Mamba block; as `d_conv` and `expand`, of no
            meaning to a transformer.
        d_conv: Width of the causal convolution inside a Mamba block.
        expand: Inner width of a Mamba block, in units of D.
        activation: Of the MLP: "relu", "gelu" or "gelu_tanh".
        max_ep_len: Size of the table of timestep embeddings, which tell where in its episode a
            step is; later steps share its last vector. 0 leaves it out.
        embedding: "layernorm" or "tanh", see `StepEmbedding`.
        dropout: Probability of dropping an entry of the embedding, of the attention and of each
            branch's output.

    References:
        Laskin et al., "In-context Reinforcement Learning with Algorithm Distillation", ICLR 2023,
        arXiv 2210.14215. With Mamba: the ablation of Huang et al. (Decision Mamba-Hybrid), arXiv
        2406.00079.

    Deviations:
        There is no vector for a token's place in the context, so that a cache of keys and values
        may slide over it.
    """

    context_length: int = setting(100, 1, 65536)
    backbone: Literal["transformer", "mamba"] = "transformer"
    d_model: int = setting(64, 1, 8192)
    n_layers: int = setting(4, 1, 128)
    n_heads: int = setting(4, 1, 1024)
    d_state: int = setting(16, 1, 1024)
    d_conv: int = setting(4, 1, 64)
    expand: int = setting(2, 1, 16)
    activation: Activation = "gelu"
    max_ep_len: int = setting(0, 0, 10_000_000)
    embedding: EmbeddingStyle = "layernorm"
    dropout: float = setting(0.0, 0.0, 0.99)

    @property
    def remembers_episodes(self) -> bool:
        """Whether memory goes on over the end of an episode: it does."""
        return True

    def make_spec(self, *spaces: Any, **returns: Any) -> SequenceSpec:
        """Say what the model sees of a step: no return, but the reward."""
        spec = super().make_spec(*spaces, **returns)
        return replace(spec, modalities=(*spec.modalities[1:], "reward"))

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
        blocks = [self._block(spec) for _ in range(self.n_layers)]
        return TokenModel(spec, embedding, Chain(*blocks), head, self.d_model)

    def _block(self, spec: SequenceSpec) -> Mixer:
        if self.backbone == "transformer":
            window = self.context_length * spec.tokens_per_step
            mixer: Mixer = Attention(
                self.d_model, self.n_heads, window=window, dropout=self.dropout
            )
        else:
            mixer = Mamba(self.d_model, self.d_state, self.d_conv, self.expand)
        mlp = Pointwise(self.d_model, dropout=self.dropout, activation=self.activation)
        return Chain(Residual(self.d_model, mixer), Residual(self.d_model, mlp))
