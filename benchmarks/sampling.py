"""Compare drawing a batch with the Decision Transformer's loop: `python -m benchmarks.sampling`."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

import random  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from typing import Any, TypeAlias  # noqa: E402

import numpy as np  # noqa: E402
from gymnasium.spaces import Box  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.ledger import Row, note  # noqa: E402
from benchmarks.timing import paired  # noqa: E402
from decision_policies.data import Trajectories  # noqa: E402
from decision_policies.data.windows import WindowSampler  # noqa: E402

Array: TypeAlias = NDArray[Any]
Episode: TypeAlias = Mapping[str, Array]
OBSERVATION, ACTION = 11, 3


class ReferenceSampler:
    """The batch loop published with the Decision Transformer, written anew from its description.

    Source: github.com/kzl/decision-transformer, gym/experiment.py, `get_batch`. Windows are cut one
    by one, returns-to-go summed over all the rest of the episode, arrays padded by concatenation.
    """

    scale = 1000.0

    def __init__(self, episodes: list[Episode], length: int, mean: Array, std: Array) -> None:
        self.episodes, self.length, self.mean, self.std = episodes, length, mean, std
        self.lengths = np.array([len(episode["rewards"]) for episode in episodes])
        self.shares = self.lengths / self.lengths.sum()

    def sample(self, batch_size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw episodes in proportion to their length, and a first step in each."""
        drawn = rng.choice(len(self.episodes), size=batch_size, p=self.shares)
        return self.batch([(e, random.randrange(self.lengths[e])) for e in drawn])

    def batch(self, places: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Cut the windows that begin at the given (episode, step)."""
        windows = [self._window(self.episodes[episode], first) for episode, first in places]
        stacked = {name: np.concatenate([w[name] for w in windows], axis=0) for name in windows[0]}
        kinds = {"dones": torch.long, "timesteps": torch.long, "mask": torch.float64}
        floats = torch.float32
        return {k: torch.from_numpy(v).to(kinds.get(k, floats)) for k, v in stacked.items()}

    def _window(self, episode: Episode, first: int) -> dict[str, Array]:
        cut = {name: values[first : first + self.length] for name, values in episode.items()}
        size = len(cut["rewards"])
        to_go = sums_to_go(episode["rewards"][first:])[: size + 1]
        if len(to_go) <= size:
            to_go = np.concatenate([to_go, np.zeros(1)])
        steps = np.minimum(np.arange(first, first + size), 999)
        missing = self.length - size
        return {
            "observations": (left_padded(cut["observations"], missing, 0) - self.mean) / self.std,
            "actions": left_padded(cut["actions"], missing, -10),
            "rewards": left_padded(cut["rewards"], missing, 0),
            "dones": left_padded(cut["dones"], missing, 2),
            "to_go": left_padded(to_go, missing, 0) / self.scale,
            "timesteps": left_padded(steps, missing, 0),
            "mask": left_padded(np.ones(size), missing, 0),
        }


def left_padded(values: Array, missing: int, fill: float) -> Array:
    """Put `missing` rows before (T, ...) and a batch axis of 1 in front."""
    return np.concatenate([np.full((1, missing, *values.shape[1:]), float(fill)), values[None]], 1)


def sums_to_go(values: Array) -> Array:
    """Sum each value and all later ones, step by step in Python, as the published loop does."""
    sums = np.zeros_like(values)
    sums[-1] = values[-1]
    for step in range(len(values) - 2, -1, -1):
        sums[step] = values[step] + 1.0 * sums[step + 1]
    return sums


def make_episodes(count: int, length: int) -> list[Episode]:
    """Draw episodes of the sizes of D4RL's Hopper."""
    rng = np.random.default_rng(0)
    return [
        {
            "observations": rng.normal(size=(length, OBSERVATION)).astype(np.float32),
            "actions": rng.uniform(-1, 1, size=(length, ACTION)).astype(np.float32),
            "rewards": rng.uniform(0, 4, size=length).astype(np.float32),
            "dones": np.arange(1, length + 1) == length,
        }
        for _ in range(count)
    ]


def largest_difference(
    ours: WindowSampler, theirs: ReferenceSampler, places: list[tuple[int, int]]
) -> float:
    """Compare the windows of the same places, without padding, in the same units."""
    rows = np.array([ours.trajectories.offsets[e] + first for e, first in places], np.int64)
    window = ours._window(rows, np.ones(len(rows), bool))
    batch = {name: tensor.numpy() for name, tensor in theirs.batch(places).items()}
    real = batch.pop("mask") == 1
    cut = {name: values[:, : theirs.length][real] for name, values in batch.items()}
    pairs = [
        (cut["observations"] * theirs.std + theirs.mean, window.observations),
        (cut["actions"], window.actions),
        (cut["rewards"], window.rewards),
        (cut["to_go"] * theirs.scale, window.returns_to_go),
        (cut["timesteps"], window.timesteps),
    ]
    gaps = [np.abs(a - b[window.mask].numpy()) / (1 + np.abs(a)) for a, b in pairs]
    return float(max(gap.max() for gap in gaps))


def main(episodes: int = 200, length: int = 1000, repeats: int = 25) -> None:
    """Print the time of a batch on both sides, and whether they cut the same windows."""
    batch, context, calls = 64, 20, 50  # a single call of ours is too short for the clock
    random.seed(0)
    rng = np.random.default_rng(0)
    data = make_episodes(episodes, length)
    spaces = Box(-np.inf, np.inf, (OBSERVATION,)), Box(-1.0, 1.0, (ACTION,))
    trajectories = Trajectories.from_episodes(data, *spaces)
    ours = WindowSampler(trajectories, context, batch, seed=0)
    theirs = ReferenceSampler(data, context, *trajectories.observation_statistics())
    timing = paired(
        lambda: [ours.sample() for _ in range(calls)], lambda: theirs.sample(batch, rng), repeats
    )
    ends = [(0, 0), (0, length - 1), (episodes - 1, length - context // 2)]  # two need padding
    places = ends + [(random.randrange(episodes), random.randrange(length)) for _ in range(61)]
    difference = largest_difference(ours, theirs, places)
    print(
        f"a batch of {batch} windows of {context} steps from {episodes} episodes x {length} steps"
    )
    print(f"one thread, CPU time, medians of {repeats} alternating measurements")
    print(f"  ours: WindowSampler               {timing.left / calls * 1e3:9.3f} ms")
    print(f"  Decision Transformer's get_batch  {timing.right * 1e3:9.3f} ms")
    print(f"  ratio                             {timing.ratio * calls:9.1f}x")
    what = f"a batch of {batch} windows of {context} steps"
    peer, spread = "Decision Transformer's published loop", timing.spread
    scaled = (spread[0] * calls, spread[1] * calls)
    note(Row(what, timing.left / calls, peer, timing.right, scaled, 100.0))
    print(f"  windows of the same places agree to {difference:.0e} of each value")


if __name__ == "__main__":
    main()
