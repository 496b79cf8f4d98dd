"""Causal sequence maps and their composition; nothing in here knows of reinforcement learning."""

from decision_policies.nets.compose import Chain, Pointwise, Residual
from decision_policies.nets.mamba import Mamba, MambaState
from decision_policies.nets.mixer import Mixer

__all__ = ["Chain", "Mamba", "MambaState", "Mixer", "Pointwise", "Residual"]
