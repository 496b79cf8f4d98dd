"""Systems, data and sessions behind a full context, for `benchmarks.in_context` to time.

Sessions of AD that carry a state, and those of DM-H, are acted full: DM-H begins and ends its
episodes, and at each border encodes the best of the past ones again. To act a long window full
would take hours, so its K steps are random data, put in the place of what the first `predict` left.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch

from benchmarks.acting import ACTION, OBSERVATION, observations
from decision_policies import (
    AD,
    DMHybrid,
    SequenceAlgorithm,
    SequencePolicy,
    Trajectories,
    tree,
)
from decision_policies.batch import Window
from decision_policies.contexts import (
    LifetimeContext,
    NativeLifetimeContext,
    NativeWindowContext,
    WindowContext,
)
from decision_policies.data.histories import Histories


class Shape(NamedTuple):
    """A context of several episodes."""

    episodes: int
    """Episodes of a context, the present one included."""

    horizon: int
    """Steps of each; at least two chunks."""

    chunk: int
    """Steps of a chunk of DM-H."""

    @property
    def context(self) -> int:
        """Steps of a context."""
        return self.episodes * self.horizon

    def __str__(self) -> str:
        return f"{self.episodes} x {self.horizon}, c {self.chunk}"


def make_systems(shape: Shape, width: int, batch: int = 2) -> dict[str, SequenceAlgorithm]:
    """Make AD over a transformer and over Mamba, and DM-H, for contexts of one shape."""
    return {
        "AD": make_ad("transformer", shape, width, batch),
        "AD-Mamba": make_ad("mamba", shape, width, batch),
        "DM-H": make_hybrid(shape, width, batch),
    }


def make_ad(
    backbone: Literal["transformer", "mamba"], shape: Shape, width: int, batch: int = 2
) -> AD:
    """Make AD with four layers over one of its backbones."""
    return AD(
        backbone=backbone,
        context_length=shape.context,
        d_model=width,
        n_layers=4,
        n_heads=4,
        batch_size=batch,
        seed=0,
        device="cpu",
    )


def make_hybrid(shape: Shape, width: int, batch: int = 2) -> DMHybrid:
    """Make DM-H with its defaults, but without dropout, which AD has none of."""
    return DMHybrid(
        context_episodes=shape.episodes,
        chunk_length=shape.chunk,
        d_model=width,
        batch_size=batch,
        dropout=0.0,
        seed=0,
        device="cpu",
    )


def make_histories(shape: Shape) -> Histories:
    """Draw one history that is one context long, so that every batch is full contexts."""
    rng = np.random.default_rng(0)
    steps = shape.horizon
    episodes = [
        {
            "observations": rng.normal(size=(steps + 1, 11)),
            "actions": rng.uniform(-1, 1, size=(steps, 3)),
            "rewards": rng.uniform(0, 4, size=steps),
        }
        for _ in range(shape.episodes)
    ]
    trajectories = Trajectories.from_episodes(episodes, OBSERVATION, ACTION)
    return Histories.from_episodes(trajectories, np.zeros(shape.episodes, np.int64))


def make_policy(algorithm: SequenceAlgorithm) -> SequencePolicy:
    """Make an untrained policy."""
    return algorithm.make_policy(OBSERVATION, ACTION)


def act(policy: SequencePolicy, steps: int) -> None:
    """Act for some steps in one environment, with rewards and all that belongs to them."""
    observation = observations(1)
    for _ in range(steps):
        policy.predict(observation, reward=1.0)


@torch.inference_mode()
def fill_window(policy: SequencePolicy, window: Window) -> None:
    """Begin a session that holds the steps of a window, (1, K), as its last K."""
    policy.predict(observations(1))
    assert policy._session is not None
    context = policy._session.context
    if isinstance(context, NativeWindowContext):  # of some hundred steps at most
        act(policy, window.shape[1])
        return
    assert isinstance(context, WindowContext)
    assert context.history is not None
    order = (window.actions, window.rewards, window.observations, window.returns_to_go)
    for memory, values in zip(context.history, (*order, window.timesteps), strict=True):
        memory.copy_(values)
    context.count[:] = context.length


class Lifetime:
    """Acts with DM-H for one episode after another of a fixed length.

    Args:
        policy: The policy; its past episodes are acted here.
        shape: Shape of its contexts.
    """

    def __init__(self, policy: SequencePolicy, shape: Shape) -> None:
        self.policy = policy
        self.shape = shape
        self.episodes(shape.episodes)

    def begin(self) -> None:
        """Act the first chunk of an episode; first the best past ones are encoded again."""
        self.policy.predict(observations(1), episode_start=True, reward=1.0)
        act(self.policy, self.shape.chunk - 1)

    def go_on(self) -> None:
        """Act the rest of the episode."""
        act(self.policy, self.shape.horizon - self.shape.chunk)

    def episodes(self, count: int) -> None:
        """Act whole episodes."""
        for _ in range(count):
            self.begin()
            self.go_on()

    def per_step(self, first: float, rest: float) -> tuple[float, float]:
        """Share the times of `begin` and `go_on` out: of a step with and without the border."""
        steps = self.shape.horizon
        return (first + rest) / steps, rest / (steps - self.shape.chunk)

    def held_bytes(self) -> int:
        """Count the bytes of the tensors that the session holds."""
        assert self.policy._session is not None
        context = self.policy._session.context
        assert isinstance(context, LifetimeContext | NativeLifetimeContext)
        episodes = [past for row in context.episodes.past for past in row]
        if context.episodes.room is not None:
            episodes.append(context.episodes.room)
        tensors = [x for values in episodes for x in values]
        if isinstance(context, LifetimeContext):
            tensors += tree.leaves(context.state)
            return sum(x.nbytes for x in tensors)
        arrays = context.runner.held
        return sum(x.nbytes for x in tensors) + sum(x.nbytes for x in arrays)
