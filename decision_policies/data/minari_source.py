"""Read Minari datasets: by id, by folder, or loaded; packed once and kept as a memory map."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Iterator
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from decision_policies.data import cache as disk
from decision_policies.data.episodes import EpisodeReader
from decision_policies.data.minari_arrow import FORMATS, arrow_episodes
from decision_policies.data.minari_files import ENDS, LEARNT, digest, plain_episodes
from decision_policies.data.trajectories import Source, Trajectories
from decision_policies.errors import DatasetError

if TYPE_CHECKING:
    from minari import EpisodeData, MinariDataset

SHIPPED = Path(__file__).parent.parent / "datasets"
"""Minari root of the small sets that ship with the package."""

ID = re.compile(r"(?:[\w-]+/)*[\w-]+-v\d+")
REMOTE = re.compile(rf"hf://[\w.-]+/(?P<id>{ID.pattern})")
"""A dataset in an account on the Hub, as Minari's own download takes it."""


def read_minari(dataset: MinariDataset | str | PathLike[str], *, cache: bool) -> Trajectories:
    """Read a Minari dataset; see `Trajectories.from_minari`."""
    loaded = load_minari(dataset)
    source = _source(loaded)
    folder = disk.folder(source.dataset or "dataset", source.digest) if cache else None
    spaces = (loaded.observation_space, loaded.action_space)
    if folder is not None:
        kept = disk.read(folder, *spaces, source)
        if kept is not None:
            return kept
        if disk.write(folder, EpisodeReader(*spaces).pieces(episodes_of(loaded))):
            kept = disk.read(folder, *spaces, source)
            if kept is not None:
                return kept
    return Trajectories.from_episodes(episodes_of(loaded), *spaces, source=source)


def recover_environment(
    dataset: MinariDataset | str | PathLike[str], *, evaluation: bool = False
) -> Callable[[], gym.Env[Any, Any]]:
    """Say how to make the environment that a Minari dataset records, with all of its options.

    The environment's id alone, `trajectories.source.environment`, leaves out what the id does not
    say, such as the map of a maze or the kind of reward; and it is known to gymnasium only once
    the package that registers it is imported. What the dataset records needs neither.

    Making the environment imports and runs the module that the dataset names: call it for datasets
    that you trust. Nothing else in this package does so; least of all loading a checkpoint.

    Args:
        dataset: A loaded dataset, its id, or the path of its folder, as in
            `Trajectories.from_minari`.
        evaluation: Take the environment that the dataset names for evaluation, if it names one,
            rather than the one it was recorded in. They may differ in what ends an episode.

    Returns:
        A function of no arguments that makes it, for `evaluate_policy`. It raises `DatasetError`
        where the environment's package is missing.

    Raises:
        DatasetError: No such dataset, or it records no environment.

    Example:
        >>> from decision_policies.data import recover_environment
        >>> make = recover_environment("cartpole/mixed-v0")
        >>> make().spec.id
        'CartPole-v1'
    """
    loaded = load_minari(dataset)
    if loaded.env_spec is None:
        raise DatasetError(
            f"the dataset {loaded.id!r} records no environment: make it yourself, and pass "
            "evaluate_policy a function that does"
        )
    return partial(_make, loaded, evaluation)


def _make(dataset: MinariDataset, evaluation: bool) -> gym.Env[Any, Any]:
    try:
        env: gym.Env[Any, Any] = dataset.recover_environment(eval_env=evaluation)
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        needed = " ".join(map(str, dataset.storage.metadata.get("requirements", [])))
        cure = f"pip install {needed}" if needed else "install the package that it comes from"
        raise DatasetError(
            f"the environment {dataset.env_spec.id!r} of the dataset {dataset.id!r} cannot be made "
            f"({type(error).__name__}: {error}); {cure}"
        ) from error
    return env


def load_minari(dataset: MinariDataset | str | PathLike[str]) -> MinariDataset:
    """Load a Minari dataset by id or folder; a loaded one is given back.

    Raises:
        DatasetError: There is none, or the id is malformed.
        ImportError: It is kept in Arrow's format or in Parquet's, and pyarrow is not installed.
    """
    import minari

    if isinstance(dataset, minari.MinariDataset):
        return dataset
    if isinstance(dataset, PathLike):
        return _of_folder(Path(dataset))
    if not isinstance(dataset, str):
        raise DatasetError(
            f"expected a Minari id, a path object or a MinariDataset, got {type(dataset).__name__}"
        )
    address, remote = dataset, REMOTE.fullmatch(dataset)
    dataset = remote["id"] if remote else dataset
    shipped = {str(p.parent.parent.relative_to(SHIPPED)) for p in SHIPPED.rglob("metadata.json")}
    here = minari.list_local_datasets()
    local = sorted({*here, *({} if remote else shipped)})
    if not ID.fullmatch(dataset):
        raise DatasetError(
            f"{dataset!r} is no Minari id: ids end in a version, as in 'mujoco/hopper/medium-v0' "
            "and 'hf://owner/mujoco/hopper/medium-v0' (for a dataset's folder, pass "
            "pathlib.Path(...))" + _close(dataset, local)
        )
    if dataset in local and dataset not in here:
        return minari.MinariDataset(SHIPPED / dataset / "data")
    try:
        if dataset not in local:
            told = f"downloading {address!r}, which is not here{_close(dataset, local)}"
            logging.getLogger(__name__).warning(told)  # without a network that takes half a minute
            minari.download_dataset(address)
        return minari.load_dataset(dataset)
    except Exception as error:  # Minari and its remotes raise anything from ValueError to OSError
        _name_pyarrow(error)
        reason = f"({type(error).__name__}: {error})"
        if dataset in local:
            raise DatasetError(f"the dataset {dataset!r} cannot be opened {reason}") from error
        raise DatasetError(
            f"Minari has no dataset {address!r} here, and it could not be downloaded {reason}"
            + _close(dataset, local)
        ) from error


def episodes_of(
    dataset: MinariDataset, *, ends: bool = False
) -> Iterator[EpisodeData | dict[str, Any]]:
    """Read a dataset's episodes one after the other.

    Args:
        dataset: The dataset.
        ends: Read the marks of their ends, too.

    Raises:
        DatasetError: Its files are damaged.
    """
    try:
        fields = LEARNT + ENDS * ends
        arrow = dataset.storage.FORMAT in FORMATS
        read = (arrow_episodes if arrow else plain_episodes)(dataset, fields)
        yield from read or dataset.iterate_episodes()
    except DatasetError:
        raise
    except Exception as error:  # HDF5 and Arrow each have their own
        raise DatasetError(
            f"the dataset {dataset.id!r} cannot be read ({type(error).__name__}: {error}); "
            "download or write it again"
        ) from error


def _of_folder(folder: Path) -> MinariDataset:
    import minari

    data = folder if folder.name == "data" else folder / "data"
    if not (data / "metadata.json").is_file():
        raise DatasetError(
            f"no Minari dataset in {folder}: {data / 'metadata.json'} is missing; "
            "pass an id as a string to load it from Minari's own folder"
        )
    try:
        return minari.MinariDataset(data)
    except ImportError as error:
        _name_pyarrow(error)
        raise


def _name_pyarrow(error: Exception) -> None:
    """Say what to install where it is pyarrow that is missing."""
    if isinstance(error, ImportError) and "pyarrow" in str(error):
        raise ImportError(
            "the dataset is kept in Arrow's format or in Parquet's, which needs pyarrow: "
            "pip install 'decision-policies[arrow]'"
        ) from error


def _close(name: str, local: list[str]) -> str:
    close = difflib.get_close_matches(name, local, n=3, cutoff=0.4)
    close = close or [x for x in local if name.split("/")[0] in x][:3]
    if close:
        return f"; did you mean {', '.join(map(repr, close))}?"
    return f"; {len(local)} datasets are here" + (f": {', '.join(local[:5])}" if local else "")


def _source(dataset: MinariDataset) -> Source:
    metadata: dict[str, Any] = dict(dataset.storage.metadata)
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    scores = None if low is None or high is None else (float(low), float(high))
    if scores is not None and not np.isfinite(scores).all():
        scores = None  # they stand for "unknown"; a checkpoint's JSON has no word for NaN
    return Source(
        dataset=dataset.id,
        digest=digest(dataset),
        environment=None if dataset.env_spec is None else dataset.env_spec.id,
        reference_scores=scores,
    )
