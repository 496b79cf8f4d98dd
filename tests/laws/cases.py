"""What the laws are asserted of: every mixer, and DeMa in every layout, block, kind and space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from decision_policies import DeMa, Trajectories
from decision_policies.batch import Window
from decision_policies.data import WindowSampler
from decision_policies.models.model import SequenceModel
from decision_policies.nets import Chain, Mamba, Mixer, Pointwise, Residual
from decision_policies.spec import Inference

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
}

VARIANTS: dict[str, dict[str, Any]] = {
    "B3LD-pre": {},
    "B3LD-post": {"block": "post", "expand": 2},
    "BL3D-pre": {"layout": "BL3D"},
    "BL3D-post-tanh": {"layout": "BL3D", "block": "post", "embedding": "tanh"},
    "rnn-B3LD": {"kind": "rnn"},
    "rnn-BL3D": {"kind": "rnn", "layout": "BL3D"},
}

SPACES: dict[str, tuple[spaces.Space[Any], spaces.Space[Any]]] = {
    "box-box": (
        spaces.Box(-np.inf, np.inf, (3,), np.float64),
        spaces.Box(np.array([-2.0, -1.0], np.float32), np.array([3.0, 1.0], np.float32)),
    ),
    "box-discrete": (spaces.Box(-1, 1, (2, 2)), spaces.Discrete(3, start=1)),
    "discrete-discrete": (spaces.Discrete(5), spaces.Discrete(2)),
    "discrete-box": (spaces.Discrete(4, start=-1), spaces.Box(-np.inf, np.inf, (1,))),
}

MODES: tuple[Inference, ...] = ("window", "recurrent", "staggered")


def dema(**changes: Any) -> DeMa:
    """Make a tiny DeMa."""
    small = {"d_model": 16, "n_layers": 2, "context_length": 6, "batch_size": 8, "warmup_steps": 3}
    return DeMa(**{**small, "learning_rate": 1e-3, "seed": 0, **changes})


def trajectories(kind: str = "box-box", *, episodes: int = 12, seed: int = 0) -> Trajectories:
    """Make random episodes of 1 to 15 steps."""
    rng = np.random.default_rng(seed)
    observation_space, action_space = SPACES[kind]
    return Trajectories.from_episodes(
        [_episode(rng, observation_space, action_space) for _ in range(episodes)],
        observation_space,
        action_space,
    )


def windows(kind: str, batch: int, length: int, seed: int = 0) -> Window:
    """Draw a batch of windows, some padded and some full, out of random episodes."""
    sampler = WindowSampler(trajectories(kind, seed=seed), length, batch, seed)
    while True:
        window = sampler.sample()
        if not window.mask.all() and window.mask.all(1).any():
            return window


def model(kind: str = "box-box", changes: dict[str, Any] | None = None) -> SequenceModel:
    """Make a tiny model with fresh weights, large enough for its memory to matter."""
    policy = dema(**(changes or {})).make_policy(*SPACES[kind], return_scale=3.0, target_return=2.0)
    with torch.no_grad():  # a random network forgets at once; larger steps make memory visible
        for parameter in policy.model.parameters():
            parameter.mul_(1.5)
    return policy.model


def sample(rng: np.random.Generator, space: spaces.Space[Any], n: int) -> np.ndarray[Any, Any]:
    """Draw n elements of a space."""
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.start, space.start + space.n, n)
    assert isinstance(space, spaces.Box)
    low, high = np.maximum(space.low, -2.0), np.minimum(space.high, 2.0)
    return rng.uniform(low, high, (n, *space.shape)).astype(np.float32)


def _episode(
    rng: np.random.Generator, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> dict[str, Any]:
    steps = int(rng.integers(1, 16))
    return {
        "observations": sample(rng, observation_space, steps + 1),
        "actions": sample(rng, action_space, steps),
        "rewards": rng.normal(size=steps),
    }
