"""From what `learn` is given to the sampler that a system learns with."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np

from decision_policies.data.histories import Histories
from decision_policies.data.history_samplers import HistorySampler
from decision_policies.data.minari_histories import (
    check_not_mixed,
    check_one_task,
    names_histories,
)
from decision_policies.data.minari_source import load_minari, read_minari
from decision_policies.data.trajectories import Trajectories
from decision_policies.data.windows import BalancedSampler, Sampler, SegmentSampler, WindowSampler
from decision_policies.errors import DatasetError
from decision_policies.spec import ReturnMode

if TYPE_CHECKING:
    from minari import MinariDataset

Dataset: TypeAlias = Union[Trajectories, Histories, "MinariDataset", str, PathLike[str]]
"""Trajectories, histories, a Minari dataset, its id, or the path of its folder."""


def as_trajectories(dataset: Dataset) -> Trajectories:
    """Read what `learn` is given, for a system that forgets at the end of an episode.

    Raises:
        DatasetError: It is a list, or there is no such dataset.
    """
    if isinstance(dataset, (list, tuple)):
        raise DatasetError(
            "learn was given a list; pack episodes first, since their spaces must be known: "
            "Trajectories.from_episodes(episodes, observation_space, action_space)"
        )
    if isinstance(dataset, Histories):
        return dataset.trajectories
    return dataset if isinstance(dataset, Trajectories) else read_minari(dataset, cache=True)


def as_histories(dataset: Dataset) -> Histories:
    """Read what `learn` is given, for a system that remembers over episodes.

    Of a Minari dataset of histories, those of held-out tasks are left out. Episodes that nothing
    is said of are taken for one history: all of one task, in the order in which they were played.

    Raises:
        DatasetError: It is a list, or there is no such dataset; or it does not say which episodes
            make a history, but that they were played at several tasks.
    """
    if isinstance(dataset, Histories):
        return dataset
    if not isinstance(dataset, (Trajectories, list, tuple)):
        dataset = load_minari(dataset)
        if names_histories(dataset):
            return Histories.from_minari(dataset).train
        check_one_task(dataset)
    trajectories = as_trajectories(dataset)
    if trajectories is dataset and (known := _dataset_of(trajectories)) is not None:
        check_not_mixed(known)
    return Histories.from_episodes(trajectories, np.zeros(trajectories.n_episodes, np.int64))


def _dataset_of(trajectories: Trajectories) -> MinariDataset | None:
    """Find the dataset that trajectories are of, if it is here and can be opened."""
    import minari

    named = trajectories.source.dataset
    if named is None or named not in minari.list_local_datasets():
        return None
    try:
        return load_minari(named)
    except (
        DatasetError,
        ImportError,
    ):  # what was read of it before can be learnt from all the same
        return None


def make_sampler(
    trajectories: Trajectories,
    length: int,
    batch_size: int,
    seed: int | None = None,
    *,
    return_mode: ReturnMode = "decrement",
    histories: Histories | None = None,
    consecutive: bool = False,
    balanced: bool = False,
) -> Sampler:
    """Make the sampler of a way to learn.

    Args:
        trajectories: The data.
        length: Number K of steps in a window.
        batch_size: Number B of windows in a batch.
        seed: Seeds its generator.
        return_mode: See `Sampler`.
        histories: Windows across the episodes of these histories: `HistorySampler`.
        consecutive: Segments that follow their episodes: `SegmentSampler`.
        balanced: Independent windows, of good and poor episodes equally often: `BalancedSampler`.

    Raises:
        DatasetError: The histories' frames are stacked.
    """
    if histories is not None:
        return HistorySampler(histories, length, batch_size, seed, return_mode)
    kind = SegmentSampler if consecutive else BalancedSampler if balanced else WindowSampler
    return kind(trajectories, length, batch_size, seed, return_mode)
