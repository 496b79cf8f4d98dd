"""Looking into trained models: hidden attention, its decay, and the weight of each modality."""

from decision_policies.analysis.decay import Decay, DecayCurve, decay_curve
from decision_policies.analysis.episodes import logged_episode, played_episode
from decision_policies.analysis.hidden_attention import (
    HiddenAttention,
    attention_matrices,
    attention_matrix,
    attention_rollout,
)
from decision_policies.analysis.in_context import plot_in_context
from decision_policies.analysis.inputs import (
    ActivationNorms,
    GradientNorms,
    activation_norms,
    gradient_norms,
)
from decision_policies.analysis.pictures import draw_decay, draw_norms, draw_rollout, draw_surface
from decision_policies.analysis.returns import draw_returns
from decision_policies.analysis.surface import DecisionSurface, decision_surface
from decision_policies.analysis.targets import TargetSweep, draw_targets, sweep_targets

__all__ = [
    "ActivationNorms",
    "Decay",
    "DecayCurve",
    "DecisionSurface",
    "GradientNorms",
    "HiddenAttention",
    "TargetSweep",
    "activation_norms",
    "attention_matrices",
    "attention_matrix",
    "attention_rollout",
    "decay_curve",
    "decision_surface",
    "draw_decay",
    "draw_norms",
    "draw_returns",
    "draw_rollout",
    "draw_surface",
    "draw_targets",
    "gradient_norms",
    "logged_episode",
    "played_episode",
    "plot_in_context",
    "sweep_targets",
]
