"""What a Minari dataset says of learning histories: which there are, and at which tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from decision_policies.errors import DatasetError

if TYPE_CHECKING:
    from minari import MinariDataset


def names_histories(dataset: MinariDataset) -> bool:
    """Say whether a dataset tells which episodes make a learning history."""
    try:
        history_entries(dataset)
    except DatasetError:
        return False
    return True


def history_entries(dataset: MinariDataset) -> list[Mapping[str, Any]]:
    """Read what a dataset's metadata says about its histories, in their order.

    Returns:
        Mappings with the entries `task`, `episodes` (how many) and `held_out`, and others.

    Raises:
        DatasetError: It says nothing.
    """
    recipe = dict(dataset.storage.metadata).get("recipe")
    found = recipe.get("histories") if isinstance(recipe, Mapping) else None
    needed = {"task": int, "episodes": int, "held_out": bool}
    if not isinstance(found, list) or not all(
        isinstance(entry, Mapping) and all(type(entry.get(k)) is t for k, t in needed.items())
        for entry in found
    ):
        raise DatasetError(
            f"the dataset {dataset.id!r} does not say which episodes make a learning history; make "
            "one with `python -m zoo histories`, or name each episode's task to "
            "Histories.from_episodes"
        )
    return found


def check_histories(dataset: MinariDataset, tasks: NDArray[np.int64]) -> None:
    """Check that the episodes of histories are in order, and of the tasks that they are said to be.

    Args:
        dataset: The dataset.
        tasks: Task of each of its episodes, (E,), by its histories.

    Raises:
        DatasetError: They are not, as far as the dataset tells: by the numbers of its episodes and
            by the task among the options with which the environment was reset.
    """
    numbers = np.asarray(dataset.episode_indices)
    behind = np.flatnonzero(np.diff(numbers) <= 0)
    if len(behind):
        at = int(behind[0])
        raise DatasetError(
            f"the dataset {dataset.id!r} gives episode {numbers[at + 1]} after episode "
            f"{numbers[at]}; a learning history needs them in the order in which they were played: "
            "load the dataset anew, and choose histories with take()"
        )
    for number, played, said in zip(numbers, _tasks(dataset), tasks.tolist(), strict=True):
        if played is not None and played != said:
            raise DatasetError(
                f"episode {number} of the dataset {dataset.id!r} was played at task {played}, but "
                f"stands in a learning history of task {said}; a history is of one task: make the "
                "dataset again, or name each episode's task to Histories.from_episodes"
            )


def check_one_task(dataset: MinariDataset) -> None:
    """Check that a dataset without histories may be taken for one.

    Raises:
        DatasetError: Its episodes were played at different tasks, as far as it tells.
    """
    played = sorted({task for task in _tasks(dataset) if task is not None})
    if len(played) > 1:
        raise DatasetError(
            f"the episodes of the dataset {dataset.id!r} were played at {len(played)} tasks, such "
            f"as {played[0]} and {played[1]}, and it does not say which of them make a learning "
            "history; name each episode's task to Histories.from_episodes"
        )


def check_not_mixed(dataset: MinariDataset) -> None:
    """Check that a dataset's episodes, without more being said, may be taken for one history.

    Raises:
        DatasetError: It is of several histories, or was played at different tasks.
    """
    if names_histories(dataset):
        name = dataset.id
        raise DatasetError(
            f"these episodes are of {name!r}, which holds learning histories of several tasks, "
            f"and would be taken for one: give learn {name!r} itself or "
            f"Histories.from_minari({name!r}).train, or name each episode's task to "
            "Histories.from_episodes"
        )
    check_one_task(dataset)


def _tasks(dataset: MinariDataset) -> list[int | None]:
    """Read the task in each episode's reset options; None where they name no number."""
    try:
        metadata = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
    except Exception as error:  # HDF5 and Arrow each have their own
        raise DatasetError(
            f"the dataset {dataset.id!r} cannot be read ({type(error).__name__}: {error}); "
            "download or write it again"
        ) from error
    tasks: list[int | None] = []
    for entry in metadata:
        options = entry.get("options")
        task = options.get("task") if isinstance(options, Mapping) else None
        tasks.append(int(task) if isinstance(task, (int, np.integer)) else None)
    return tasks
