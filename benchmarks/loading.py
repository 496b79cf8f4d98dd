"""Compare reading a Minari dataset with Minari's own iterator: `python -m benchmarks.loading`."""

from __future__ import annotations

import os
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.spaces import Box

from benchmarks.ledger import Row, note
from benchmarks.timing import interleaved
from decision_policies import Trajectories

if TYPE_CHECKING:
    from minari import MinariDataset

OBSERVATION, ACTION = 11, 3


def make_dataset(folder: Path, episodes: int, length: int) -> MinariDataset:
    """Write a set of Hopper's sizes into a Minari root, in Minari's default format."""
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    import minari
    from minari.data_collector import EpisodeBuffer

    rng = np.random.default_rng(0)
    buffers = [
        EpisodeBuffer(
            id=index,
            observations=rng.normal(size=(length + 1, OBSERVATION)),
            actions=rng.uniform(-1, 1, size=(length, ACTION)).astype(np.float32),
            rewards=rng.uniform(0, 4, size=length),
            terminations=np.zeros(length, bool),
            truncations=np.arange(1, length + 1) == length,
        )
        for index in range(episodes)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is no environment to name
        return minari.create_dataset_from_buffers(
            "benchmark/hopper-v0",
            buffers,
            observation_space=Box(-np.inf, np.inf, (OBSERVATION,), np.float64),
            action_space=Box(-1.0, 1.0, (ACTION,)),
            author="nobody",
            author_email="nobody@example.org",
            code_permalink="https://example.org",
            algorithm_name="random",
            description="Random numbers of Hopper's sizes.",
        )


def iterated(dataset: MinariDataset) -> tuple[np.ndarray, ...]:
    """Read all episodes by Minari's iterator, and join them as float32; no check is made."""
    episodes = list(dataset.iterate_episodes())
    return (
        np.concatenate([e.observations[:-1] for e in episodes], dtype=np.float32, casting="unsafe"),
        np.concatenate([e.actions for e in episodes]),
        np.concatenate([e.rewards for e in episodes], dtype=np.float32, casting="unsafe"),
    )


def main(episodes: int = 1000, length: int = 1000, repeats: int = 5) -> None:
    """Print and note the time of both sides, the first time and from the cache."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["DECISION_POLICIES_CACHE"] = str(Path(temporary) / "cache")
        dataset = make_dataset(Path(temporary), episodes, length)
        first = partial(Trajectories.from_minari, dataset, cache=False)
        kept = partial(Trajectories.from_minari, dataset)
        kept()
        theirs, cold, cached = interleaved((partial(iterated, dataset), first, kept), repeats)
        same = np.array_equal(first().rows[:, :OBSERVATION], iterated(dataset)[0])
    what = f"{episodes} episodes x {length} steps of a Minari set, checked and packed"
    print(f"{what}; CPU time, medians of {repeats} alternating rounds; the same rows: {same}")
    for name, ours, least in (("", cold, 1.7), (", again", cached, 30.0)):
        row = Row(what + name, ours, "Minari's iterator, joined", theirs, at_least=least)
        print(f"  {ours:8.4f} s{name:8}  Minari {theirs:8.4f} s  {row.ratio:6.1f}x")
        note(row)


if __name__ == "__main__":
    main()
