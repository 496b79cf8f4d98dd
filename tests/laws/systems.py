"""What the laws are asserted of: every system in every variant, and every mixer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from decision_policies import AD, BC, DC, DM, DMM, DT, DeMa, DMHybrid, MambaDM, SequenceAlgorithm
from decision_policies.nets import (
    Attention,
    Chain,
    ChunkAttention,
    Chunked,
    DenseWindow,
    Fuse,
    LocalMamba,
    Mamba,
    Mixer,
    ModalConv,
    Pointwise,
    Positions,
    Residual,
)

System: TypeAlias = tuple[type[SequenceAlgorithm], dict[str, Any]]

VARIANTS: dict[str, dict[str, Any]] = {
    "B3LD-pre": {},
    "B3LD-post": {"block": "post", "expand": 2},
    "BL3D-pre": {"layout": "BL3D"},
    "BL3D-post-tanh": {"layout": "BL3D", "block": "post", "embedding": "tanh"},
    "rnn-B3LD": {"kind": "rnn"},
    "rnn-BL3D": {"kind": "rnn", "layout": "BL3D"},
}
"""DeMa in every layout, block and kind."""

SYSTEMS: dict[str, System] = {
    **{f"DeMa-{name}": (DeMa, options) for name, options in VARIANTS.items()},
    "DeMa-without-actions": (DeMa, {"remove_act_embs": True}),
    "MambaDM-sliding-linear": (MambaDM, {}),
    "MambaDM-sliding-gated": (MambaDM, {"fuse": "gated", "window": 2, "local_d_state": 3}),
    "MambaDM-chunk-sum": (MambaDM, {"local_mode": "chunk", "fuse": "sum", "window": 4}),
    "DeMa-averaged": (DeMa, {"ema_decay": 0.9, "dropout": 0.1}),
    "DeMa-constant-returns": (DeMa, {"return_mode": "constant", "balance_returns": True}),
    "DeMa-predicted-rewards": (DeMa, {"return_mode": "predict"}),
    "DMM": (DMM, {}),
    "DMM-shared-frozen": (DMM, {"dsm_mode": "shared_frozen", "window": 3}),
    "DM": (DM, {"max_ep_len": 8}),
    "DM-positions": (DM, {"token_positions": True, "max_ep_len": 0, "embedding": "tanh"}),
    "DT": (DT, {"max_ep_len": 8}),
    "DT-heads-without-actions": (DT, {"n_heads": 4, "remove_act_embs": True}),
    "DT-sliding": (DT, {"attention_window": 2, "token_positions": True, "activation": "gelu"}),
    "DC": (DC, {"max_ep_len": 8}),
    "DC-hybrid": (DC, {"hybrid": True, "conv_proj": True, "window": 4, "remove_act_embs": True}),
    "BC": (BC, {}),
    "AD-transformer": (AD, {"n_heads": 2, "max_ep_len": 5}),
    "AD-mamba": (AD, {"backbone": "mamba"}),
    "DMHybrid": (DMHybrid, {"chunk_length": 3, "context_episodes": 2, "n_heads": 2}),
    "DMHybrid-aligned": (
        DMHybrid,
        {
            "chunk_length": 4,
            "context_episodes": 4,
            "inclusive": True,
            "align_coef": 0.5,
            "chunks_per_update": 5,
            "memory_layers": 1,
        },
    ),
}
"""Class and hyper-parameters by name; what is tiny about them is the laws' choice."""

FEW = ("DeMa-B3LD-pre", "DeMa-BL3D-pre", "DeMa-rnn-B3LD", "DT", "BC", "AD-mamba", "DMHybrid")


def systems_of(kind: str) -> dict[str, System]:
    """Systems to check in a kind of spaces: heads and doors of choices are the same for all."""
    few = kind in ("binary-choices", "choices-binary")
    return {name: system for name, system in SYSTEMS.items() if not few or name in FEW}


WIDTH = 24

MIXERS: dict[str, Callable[[], Mixer]] = {
    "pointwise": lambda: Pointwise(WIDTH),
    "mamba": lambda: Mamba(WIDTH),
    "mamba-narrow": lambda: Mamba(WIDTH, d_state=5, d_conv=2, expand=1, bias=True, conv_bias=False),
    "mamba-without-conv": lambda: Mamba(WIDTH, d_conv=None, expand=1),
    "mamba-conv-1": lambda: Mamba(WIDTH, d_conv=1, dt_init="constant"),
    "residual": lambda: Residual(WIDTH, Mamba(WIDTH, expand=1)),
    "chain": lambda: Chain(
        Residual(WIDTH, Mamba(WIDTH)),
        Residual(WIDTH, Pointwise(WIDTH)),
        Residual(WIDTH, Mamba(WIDTH)),
    ),
    "chain-without-mixing": lambda: Chain(Chain(), Residual(WIDTH, Pointwise(WIDTH))),
    "attention": lambda: Attention(WIDTH, 3, window=9),
    "attention-wide": lambda: Attention(WIDTH, 2),
    "chunk-attention": lambda: ChunkAttention(WIDTH, 3, window=24),
    "dense-window": lambda: DenseWindow(WIDTH, 6, bias=True),
    "dense-window-1": lambda: DenseWindow(WIDTH, 1),
    "modal-conv": lambda: ModalConv(WIDTH, 3, 6, project=True),
    "modal-conv-1": lambda: ModalConv(WIDTH, 1, 4),
    "local-mamba": lambda: LocalMamba(WIDTH, 6, d_state=5),
    "local-mamba-1": lambda: LocalMamba(WIDTH, 1, expand=2),
    "chunked": lambda: Chunked(Mamba(WIDTH), 5),
    "chunked-modal": lambda: Chunked(ModalConv(WIDTH, 3, 2), 4),
    "fuse-linear": lambda: Fuse(WIDTH, Mamba(WIDTH), LocalMamba(WIDTH)),
    "fuse-gated": lambda: Fuse(WIDTH, Attention(WIDTH), DenseWindow(WIDTH), "gated"),
    "fuse-sum": lambda: Fuse(WIDTH, Pointwise(WIDTH), Mamba(WIDTH), "sum"),
    "positions": lambda: Chain(Positions(WIDTH, 10), Residual(WIDTH, Mamba(WIDTH))),
}
"""How to make each mixer for tokens of width `WIDTH`."""

KINDS: dict[str, int] = {"modal-conv": 3, "chunked-modal": 3}
"""Number of modalities, for mixers that treat them differently; 1 for all others."""
