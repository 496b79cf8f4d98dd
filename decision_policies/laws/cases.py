"""What the laws are asserted of: tiny random data in six kinds of spaces, and tiny algorithms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.batch import Window
from decision_policies.data import Trajectories, WindowSampler
from decision_policies.learning import hyperparameters as settings
from decision_policies.models.model import SequenceModel
from decision_policies.policy import SequencePolicy
from decision_policies.spaces import whole_range
from decision_policies.spec import Inference

SPACES: dict[str, tuple[spaces.Space[Any], spaces.Space[Any]]] = {
    "box-box": (
        spaces.Box(-np.inf, np.inf, (3,), np.float64),
        spaces.Box(np.array([-2.0, -1.0], np.float32), np.array([3.0, 1.0], np.float32)),
    ),
    "box-discrete": (spaces.Box(-1, 1, (2, 2)), spaces.Discrete(3, start=1)),
    "discrete-discrete": (spaces.Discrete(5), spaces.Discrete(2)),
    "discrete-box": (spaces.Discrete(4, start=-1), spaces.Box(-np.inf, np.inf, (1,))),
    "binary-choices": (spaces.MultiBinary([2, 2]), spaces.MultiDiscrete([3, 2], start=[-1, 4])),
    "choices-binary": (spaces.MultiDiscrete([2, 4], start=[3, -1]), spaces.MultiBinary(3)),
}
"""Space kinds: observation space and action space by name."""

MODES: tuple[Inference, ...] = ("window", "recurrent", "staggered")
"""The ways to remember; every law of acting holds in each."""

SMALL: dict[str, Any] = {
    "d_model": 16,
    "n_layers": 2,
    "context_length": 6,
    "batch_size": 8,
    "warmup_steps": 3,
    "learning_rate": 1e-3,
    "seed": 0,
    "device": "cpu",
}
"""Hyper-parameters that make an algorithm tiny, where it has them."""


def sample(rng: np.random.Generator, space: spaces.Space[Any], n: int) -> NDArray[Any]:
    """Draw n elements of a Box, Discrete, MultiDiscrete or MultiBinary space."""
    ends = whole_range(space)
    if ends is not None:
        return rng.integers(*ends, (n, *ends[0].shape), endpoint=True)
    assert isinstance(space, spaces.Box)
    low, high = np.maximum(space.low, -2.0), np.minimum(space.high, 2.0)
    return rng.uniform(low, high, (n, *space.shape)).astype(np.float32)


def trajectories(
    kind: str = "box-box", *, episodes: int = 12, seed: int = 0, longest: int = 15
) -> Trajectories:
    """Make random episodes.

    Args:
        kind: Space kind, a key of `SPACES`.
        episodes: Number of episodes.
        seed: Seed of everything random.
        longest: Lengths are drawn from 1 to this many steps.
    """
    rng = np.random.default_rng(seed)
    observation_space, action_space = SPACES[kind]
    drawn = []
    for _ in range(episodes):
        steps = int(rng.integers(1, longest + 1))
        drawn.append(
            {
                "observations": sample(rng, observation_space, steps + 1),
                "actions": sample(rng, action_space, steps),
                "rewards": rng.normal(size=steps),
            }
        )
    return Trajectories.from_episodes(drawn, observation_space, action_space)


def windows(kind: str, batch: int, length: int, seed: int = 0) -> Window:
    """Draw a batch of windows, some padded and some full, out of random episodes.

    Args:
        kind: Space kind, a key of `SPACES`.
        batch: Number B of windows, at least 2.
        length: Steps T in each, at least 2.
        seed: Seed of everything random.
    """
    data = trajectories(kind, seed=seed, longest=max(15, 2 * length))
    sampler = WindowSampler(data, length, batch, seed)
    while True:
        window = sampler.sample()
        if not window.mask.all() and window.mask.all(1).any():
            return window


class RandomEpisodes(gym.Env[Any, Any]):
    """Observations and rewards from a seed, whatever one does; episodes of 2 to 19 steps.

    `info["executed"]` names an action that may be reported as the one that was executed.

    Args:
        kind: Space kind, a key of `SPACES`.
    """

    def __init__(self, kind: str) -> None:
        self.observation_space, self.action_space = SPACES[kind]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the episode of a seed."""
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, 20))
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go on, whatever the action.

        Raises:
            ValueError: The action is not of the action space.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"the action {action!r} is not in {self.action_space}")
        self.left -= 1
        reward = float(self.np_random.normal())
        info = {"executed": sample(self.np_random, self.action_space, 1)[0]}
        return self.observe(), reward, self.left == 0, False, info

    def observe(self) -> Any:
        """Draw an observation."""
        return sample(self.np_random, self.observation_space, 1)[0]


@dataclass(frozen=True)
class Case:
    """An algorithm in one kind of spaces, which a law is asserted of.

    Attributes:
        algorithm: The class.
        kind: Space kind, a key of `SPACES`.
        hyperparameters: What differs from `SMALL`.
    """

    algorithm: type[SequenceAlgorithm]
    kind: str = "box-box"
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spaces(self) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
        """Observation space and action space."""
        return SPACES[self.kind]

    @property
    def steps(self) -> int:
        """The context length K, in steps."""
        return self.make().context_length

    def make(self, **changes: Any) -> SequenceAlgorithm:
        """Make a tiny algorithm; what the class has no field for is left out of `SMALL`."""
        known = settings.names(self.algorithm)
        small = {name: value for name, value in SMALL.items() if name in known}
        return self.algorithm(**{**small, **self.hyperparameters, **changes})

    def learner(self, **changes: Any) -> SequenceAlgorithm:
        """Make a tiny algorithm that draws random numbers while it learns, if it can: dropout."""
        drops = "dropout" in settings.names(self.algorithm)
        if drops and "dropout" not in self.hyperparameters:
            changes = {"dropout": 0.1, **changes}
        return self.make(**changes)

    def model(self, **changes: Any) -> SequenceModel:
        """Make a tiny model with fresh weights, large enough for its memory to matter."""
        algorithm = self.make(**changes)
        policy = algorithm.make_policy(*self.spaces, return_scale=3.0, target_return=2.0)
        with torch.no_grad():  # a random network forgets at once; larger steps make memory visible
            for parameter in policy.model.parameters():
                parameter.mul_(1.5)
            if policy.model.reward_head is not None:  # fresh, it takes nothing off
                policy.model.reward_head.last.weight.fill_(0.1)
        return policy.model

    def policy(self, mode: Inference, target: float) -> SequencePolicy:
        """Make a policy of `model` that remembers in a given way."""
        return SequencePolicy(self.model(), inference=mode, target_return=target)

    def lengths(self, wanted: tuple[int, ...]) -> list[int]:
        """Choose the context lengths that the algorithm accepts; it may refuse shorter ones.

        Args:
            wanted: Lengths K, in steps; the case's own is always among the chosen.
        """
        return sorted({k for k in wanted if self._accepts(k)} | {self.steps})

    def _accepts(self, length: int) -> bool:
        try:
            self.make(context_length=length).make_policy(*self.spaces)
        except ValueError:
            if length >= self.steps:
                raise
            return False
        return True

    def data(self) -> Trajectories:
        """Make random episodes."""
        return trajectories(self.kind, longest=max(15, 2 * self.steps))

    def windows(self, batch: int, seed: int = 0) -> Window:
        """Draw a batch of windows of `steps` steps, some padded and some full."""
        algorithm = self.make()
        window = windows(self.kind, batch, algorithm.context_length, seed)
        return window.to(algorithm.torch_device())

    def sample(self, n: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
        """Draw n observations and n actions."""
        rng = np.random.default_rng(seed)
        return sample(rng, self.spaces[0], n), sample(rng, self.spaces[1], n)
