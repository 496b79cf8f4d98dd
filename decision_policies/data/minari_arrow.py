"""Minari's Arrow and Parquet files, an episode at a time, however long it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from decision_policies.errors import DatasetError
from decision_policies.spaces import leaves

if TYPE_CHECKING:
    from minari import MinariDataset

FORMATS = ("arrow", "parquet")

WHOLE = 32_767
"""Rows of a file that Minari reads as an episode; of a longer one it takes them for several."""


def arrow_episodes(
    dataset: MinariDataset, fields: tuple[str, ...]
) -> Iterator[dict[str, Any]] | None:
    """Read some fields of each episode.

    Minari's own iterator takes what Arrow delivers at a time for an episode, and pairs what follows
    with the wrong ones; here every episode is read from its own folder, to its end.

    Args:
        dataset: A dataset of one of `FORMATS`.
        fields: Names of the fields.

    Returns:
        The episodes; None where they hold what may be pictures, for Minari's iterator to read.

    Raises:
        DatasetError: They may be pictures, and an episode is too long for Minari's iterator.
    """
    both = (dataset.observation_space, dataset.action_space)
    if any(_pictures(leaf) for space in both for _, leaf in leaves(space)):
        _check_short(dataset)
        return None
    return _episodes(dataset, fields)


def _pictures(leaf: spaces.Space[Any]) -> bool:
    """Whether Minari may have encoded the values as pictures."""
    return leaf.dtype == np.uint8 and len(leaf.shape or ()) > 1


def _check_short(dataset: MinariDataset) -> None:
    for metadata in dataset.storage.get_episode_metadata(dataset.episode_indices):
        if metadata["total_steps"] >= WHOLE:
            raise DatasetError(
                f"episode {metadata['id']} of {dataset.id!r} has {metadata['total_steps']} steps "
                f"and pictures: Minari reads {WHOLE} rows of its {dataset.storage.FORMAT} files as "
                "one; write the dataset in the format hdf5"
            )


def _episodes(dataset: MinariDataset, fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    import pyarrow.dataset

    kinds = {"observations": dataset.observation_space, "actions": dataset.action_space}
    number = spaces.Box(-np.inf, np.inf, ())
    for index in dataset.episode_indices:
        folder = str(Path(dataset.storage.data_path) / str(index))
        kept = pyarrow.dataset.dataset(
            folder, format=dataset.storage.FORMAT, ignore_prefixes=["_", ".", "metadata.json"]
        )
        table = kept.to_table(columns=list(fields))
        episode = {}
        for name in fields:
            values = _values(table.column(name).combine_chunks(), kinds.get(name, number))
            episode[name] = values if name == "observations" else _all_but_last(values)
        yield episode


def _values(column: Any, space: spaces.Space[Any]) -> Any:
    """Turn a column into an array (T + 1, ...), or into one for each part of a Dict or Tuple."""
    if isinstance(space, spaces.Dict):
        return {key: _values(column.field(key), part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_values(column.field(str(i)), part) for i, part in enumerate(space.spaces))
    if hasattr(column.type, "list_size"):
        column = column.flatten()
    return column.to_numpy(zero_copy_only=False).reshape(-1, *(space.shape or ()))


def _all_but_last(values: Any) -> Any:
    """Leave out the row that Minari fills up with, beside the last observation."""
    if isinstance(values, dict):
        return {key: _all_but_last(part) for key, part in values.items()}
    return tuple(map(_all_but_last, values)) if isinstance(values, tuple) else values[:-1]
