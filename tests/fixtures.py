"""Tiny data, algorithms and policies that several tests share."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import DeMa, SequencePolicy, Trajectories

if TYPE_CHECKING:
    from minari import MinariDataset

BOX_OBSERVATION = spaces.Box(-np.inf, np.inf, (3,), np.float32)
BOX_ACTION = spaces.Box(-2.0, 3.0, (2,), np.float32)
DISCRETE_OBSERVATION = spaces.Discrete(4)
DISCRETE_ACTION = spaces.Discrete(3)


def tiny_spaces(discrete: bool) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """Observation and action space of the tiny data."""
    if discrete:
        return DISCRETE_OBSERVATION, DISCRETE_ACTION
    return BOX_OBSERVATION, BOX_ACTION


def tiny_episodes(
    discrete: bool, seed: int = 0, lengths: tuple[int, ...] = (9, 5, 12, 8)
) -> list[dict[str, NDArray[Any]]]:
    """Random episodes, with the final observation that belongs to no action."""
    rng = np.random.default_rng(seed)
    episodes = []
    for t in lengths:
        if discrete:
            observations: NDArray[Any] = rng.integers(4, size=t + 1)
            actions: NDArray[Any] = rng.integers(3, size=t)
        else:
            observations = rng.normal(size=(t + 1, 3)).astype(np.float32)
            actions = rng.uniform(-2, 3, (t, 2)).astype(np.float32)
        episodes.append(
            {"observations": observations, "actions": actions, "rewards": rng.normal(size=t)}
        )
    return episodes


def tiny_trajectories(discrete: bool, seed: int = 0) -> Trajectories:
    """Pack the random episodes."""
    return Trajectories.from_episodes(tiny_episodes(discrete, seed), *tiny_spaces(discrete))


def tiny_algorithm(**changes: Any) -> DeMa:
    """Make an algorithm that trains in milliseconds."""
    small = {"d_model": 16, "n_layers": 2, "context_length": 4, "batch_size": 8}
    return DeMa(**{**small, "warmup_steps": 2, "seed": 0, **changes})


def write_minari(
    name: str,
    episodes: Iterable[Mapping[str, NDArray[Any]]] | None = None,
    discrete: bool = False,
    observation_space: spaces.Space[Any] | None = None,
    action_space: spaces.Space[Any] | None = None,
    data_format: str | None = None,
) -> MinariDataset:
    """Write episodes as a Minari dataset into the folder of $MINARI_DATASETS_PATH."""
    import minari
    from minari.data_collector import EpisodeBuffer

    observations, actions = tiny_spaces(discrete)
    buffers = []
    for index, episode in enumerate(tiny_episodes(discrete) if episodes is None else episodes):
        last = np.arange(len(episode["rewards"])) == len(episode["rewards"]) - 1
        buffers.append(
            EpisodeBuffer(
                id=index, terminations=last, truncations=np.zeros_like(last), infos={}, **episode
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari asks for an author, a description and so on
        return minari.create_dataset_from_buffers(
            name,
            buffers,
            observation_space=observation_space or observations,
            action_space=action_space or actions,
            data_format=data_format,
        )


def trained(discrete: bool = False, updates: int = 3, **changes: Any) -> DeMa:
    """Make an algorithm with a few updates behind it."""
    data = tiny_trajectories(discrete)
    return tiny_algorithm(**{"learning_rate": 1e-2, **changes}).learn(data, updates)


def tiny_policy(discrete: bool = False, **changes: Any) -> SequencePolicy:
    """Make an untrained policy; equal calls make equal policies."""
    observations, actions = tiny_spaces(discrete)
    return tiny_algorithm(**changes).make_policy(observations, actions, target_return=5.0)


def reseal(folder: Path) -> None:
    """Make a checkpoint's manifest consistent with its files again, as a forger would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        content = (folder / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"size": len(content), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def forge(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change entries of a checkpoint's config, named by dotted paths, and reseal it."""
    config = json.loads((folder / "config.json").read_text())
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = config
        for name in parents:
            place = place[name]
        place[last] = value
    (folder / "config.json").write_text(json.dumps(config))
    reseal(folder)
