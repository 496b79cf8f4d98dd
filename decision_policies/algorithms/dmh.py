"""DMHybrid: Decision Mamba-Hybrid, a Mamba that remembers episodes and prompts a transformer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from decision_policies import nets
from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.data import Histories, SortedEpisodesSampler, SubgoalRule, Trajectories
from decision_policies.data.windows import Sampler
from decision_policies.learning.hyperparameters import setting
from decision_policies.models import HybridModel, StepEmbedding, SubgoalHead, make_head
from decision_policies.spec import SequenceSpec


@dataclass(kw_only=True, eq=False)
class DMHybrid(SequenceAlgorithm):
    """Decision Mamba-Hybrid (DM-H): Mamba names sub-goals, a transformer acts on them.

    Trained on contexts of several episodes of a task, each better than the one before, it does
    better from one episode to the next in a task that it has never seen. See `HybridModel`.

    Attributes:
        context_length: Steps that `inference="window"` encodes; training sees whole episodes.
        context_episodes: Episodes of a context; acting keeps the best past ones and the present.
        chunk_length: Steps c that a sub-goal is for.
        d_model: Token width D.
        memory_layers: Number of Mamba blocks.
        n_layers: Number of blocks of the transformer.
        n_heads: Number of attention heads; it divides D.
        d_state: State size N of each channel of a Mamba block.
        dropout: Probability with which the transformer drops entries, as in `AD`.
        inclusive: See `valuable_subgoals`.
        init_log_std: Logarithm of the sub-goals' deviation before training.
        align_coef: Weight of the squared distance between a sub-goal that is named and the
            valuable one; 0 in the source. It helps where rewards come at the end only.
        chunks_per_update: Chunks of a batch that the transformer learns from; None is all.

    References:
        Huang et al., "Decision Mamba" with hybrid selective modelling (DM-H), arXiv 2406.00079.

    Deviations:
        4 heads, since the published 3 do not divide the width of 128. Acting takes the mean of a
        sub-goal's distribution. One LayerNorm serves all tokens of a memory.
    """

    context_length: int = setting(100, 1, 16384)
    context_episodes: int = setting(10, 1, 1024)
    chunk_length: int = setting(5, 1, 4096)
    d_model: int = setting(128, 1, 8192)
    memory_layers: int = setting(2, 1, 128)
    n_layers: int = setting(3, 1, 128)
    n_heads: int = setting(4, 1, 1024)
    d_state: int = setting(16, 1, 1024)
    dropout: float = setting(0.1, 0.0, 0.99)
    inclusive: bool = False
    init_log_std: float = setting(-3.0, -5.0, 2.0)
    align_coef: float = setting(0.0, 0.0)
    chunks_per_update: int | None = setting(None, 1)

    @property
    def remembers_episodes(self) -> bool:
        """Whether memory goes on over the end of an episode: it does."""
        return True

    def make_spec(self, *spaces: Any, **returns: Any) -> SequenceSpec:
        """Say what the model sees of a step: no return, but the reward."""
        spec = super().make_spec(*spaces, **returns)
        spec = replace(spec, context_episodes=self.context_episodes)
        return replace(spec, modalities=(*spec.modalities[1:], "reward"))

    def sampler_for(self, data: Trajectories, histories: Histories | None) -> Sampler:
        """Choose what batches are: contexts of sorted episodes, with their sub-goals."""
        assert histories is not None, "it remembers episodes"
        rule = SubgoalRule(self.chunk_length, self.inclusive)
        drawn = (self.context_episodes, self.batch_size, self.seed)
        return SortedEpisodesSampler(histories, *drawn, subgoals=rule)

    def build_model(self, spec: SequenceSpec) -> HybridModel:
        """Compose the model."""
        width, drop = self.d_model, self.dropout
        head = make_head(width, spec.action_space)
        places = 1 + self.chunk_length * spec.tokens_per_step
        blocks = [nets.Mamba(width, self.d_state) for _ in range(self.memory_layers)]
        memory = nets.Chain(*(nets.Residual(width, block) for block in blocks))
        short: list[nets.Mixer] = [nets.Positions(width, places)]
        for _ in range(self.n_layers):
            attention = nets.ChunkAttention(width, self.n_heads, window=places, dropout=drop)
            mlp = nets.Pointwise(width, dropout=drop, activation="relu")
            short += nets.Residual(width, attention), nets.Residual(width, mlp)
        return HybridModel(
            SubgoalHead(spec, width, self.init_log_std),
            StepEmbedding(spec, width, head.n_features, dropout=drop),
            *(memory, nets.Chain(*short), head, self.chunk_length),
            align_coef=self.align_coef,
            chunks_per_update=self.chunks_per_update,
        )
