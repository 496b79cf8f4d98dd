"""Causal sequence maps and their composition; nothing in here knows of reinforcement learning."""

from decision_policies.nets.attention import (
    Attention,
    AttentionState,
    ChunkAttention,
    ChunkAttentionState,
)
from decision_policies.nets.compose import (
    Chain,
    Fuse,
    Fusion,
    Pointwise,
    Positions,
    Residual,
)
from decision_policies.nets.local import Chunked, ChunkedState, LocalMamba
from decision_policies.nets.mamba import Mamba, MambaState
from decision_policies.nets.mixer import Mixer
from decision_policies.nets.window import DenseWindow, ModalConv

__all__ = [
    "Attention",
    "AttentionState",
    "Chain",
    "ChunkAttention",
    "ChunkAttentionState",
    "Chunked",
    "ChunkedState",
    "DenseWindow",
    "Fuse",
    "Fusion",
    "LocalMamba",
    "Mamba",
    "MambaState",
    "Mixer",
    "ModalConv",
    "Pointwise",
    "Positions",
    "Residual",
]
