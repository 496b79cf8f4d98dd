"""Models: tokens of reinforcement learning in, parameters of the action out."""

from decision_policies.models.embedding import StepEmbedding
from decision_policies.models.heads import (
    ContinuousHead,
    DiscreteHead,
    Head,
    MultiBinaryHead,
    MultiDiscreteHead,
    make_head,
)
from decision_policies.models.hybrid import HybridModel
from decision_policies.models.model import SequenceModel, TokenModel
from decision_policies.models.subgoals import SubgoalHead

__all__ = [
    "ContinuousHead",
    "DiscreteHead",
    "Head",
    "HybridModel",
    "MultiBinaryHead",
    "MultiDiscreteHead",
    "SequenceModel",
    "StepEmbedding",
    "SubgoalHead",
    "TokenModel",
    "make_head",
]
