"""Writes episodes as a small, verified Minari dataset that appears whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.namespace import NAMESPACE_METADATA_FILENAME

from zoo.progress import progress_bar

DATA_FILE = "main_data.hdf5"
ROOT_VARIABLE = "MINARI_DATASETS_PATH"
# Minari's own rule: a namespace has at least two characters, every part is made of word characters.
DATASET_ID = re.compile(r"(?:[-\w][-\w/]*[-\w]/)?[-\w]+-v\d+")


@dataclass(frozen=True)
class Description:
    """What a dataset says about itself.

    Attributes:
        dataset_id: Minari id, `(namespace/)name-vN`.
        algorithm: name of the agent's algorithm.
        text: how the set was made, for a reader.
        recipe: the same, for a program; JSON types only.
        random_score: mean return of the random policy (`ref_min_score`).
        agent_score: mean return of the final agent (`ref_max_score`).
        score_episodes: episodes behind each of the two scores.
    """

    dataset_id: str
    algorithm: str
    text: str
    recipe: dict[str, Any]
    random_score: float
    agent_score: float
    score_episodes: int


def dataset_folder(dataset_id: str, root: Path | None) -> Path:
    """Where a dataset lives.

    Args:
        dataset_id: Minari id, `(namespace/)name-vN`.
        root: a Minari root; `None` for Minari's own (`MINARI_DATASETS_PATH`, else
            `~/.minari/datasets`).

    Returns:
        The absolute path of the folder that holds (or would hold) the dataset's `data` folder.

    Raises:
        ValueError: when the id is not of that form.
    """
    if not DATASET_ID.fullmatch(dataset_id) or "//" in dataset_id:
        raise ValueError(
            f"dataset id {dataset_id!r} is not of the form (namespace/)name-vN, such as "
            "cartpole/mixed-v0; a namespace has at least two letters"
        )
    if root is None:
        stated = os.environ.get(ROOT_VARIABLE)
        root = Path(stated) if stated else Path.home() / ".minari" / "datasets"
    # Absolute, for Minari joins the paths it globs to the path it globbed in.
    return root.absolute() / dataset_id


def refuse_existing(folder: Path) -> None:
    """Raises `FileExistsError` when a dataset stands at `folder` already."""
    if folder.exists():
        raise FileExistsError(
            f"a dataset stands at {folder} already; choose another version or pass --overwrite"
        )


def write_dataset(
    episodes: Sequence[EpisodeBuffer],
    env: gym.Env[Any, Any],
    description: Description,
    root: Path | None,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Writes a compressed dataset, reads it back, and only then puts it in its place.

    Everything is written in a hidden folder of the root, which is removed whatever happens, a
    SIGKILL excepted; the last step is one rename.

    Args:
        episodes: complete episodes, T+1 observations against T actions.
        env: the environment they came from; its spaces and spec are recorded.
        description: the dataset's id and metadata.
        root: a Minari root; `None` for Minari's own.
        overwrite: replace a dataset of the same id.
        progress: show a progress bar.

    Returns:
        The dataset's folder.

    Raises:
        FileExistsError: when the dataset exists and `overwrite` is false.
        RuntimeError: when what Minari reads back differs from `episodes`.
    """
    target = dataset_folder(description.dataset_id, root)
    if not overwrite:
        refuse_existing(target)
    target_root = target.parents[description.dataset_id.count("/")]
    target_root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target_root, prefix=".collect-") as staging:
        staged = Path(staging) / description.dataset_id
        with progress_bar("writing", 3, progress) as tick:
            _create(episodes, env, description, Path(staging))
            tick(1)
            compress(staged / "data" / DATA_FILE)
            tick(1)
            dataset = minari.MinariDataset(staged / "data")
            dataset.storage.update_metadata({"dataset_size": dataset.storage.get_size()})
            verify(dataset, episodes)
            tick(1)
        _publish(staged, target, Path(staging), target_root)
    return target


@contextmanager
def _minari_root(root: Path) -> Iterator[None]:
    """Points Minari at `root`; it has no argument for this, only the environment variable."""
    before = os.environ.get(ROOT_VARIABLE)
    os.environ[ROOT_VARIABLE] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ[ROOT_VARIABLE]
        else:
            os.environ[ROOT_VARIABLE] = before


def _create(
    episodes: Sequence[EpisodeBuffer],
    env: gym.Env[Any, Any],
    description: Description,
    root: Path,
) -> None:
    """Lets Minari write the plain dataset and its namespace files under `root`."""
    with _minari_root(root):
        dataset = minari.create_dataset_from_buffers(
            description.dataset_id,
            list(episodes),
            env=env,
            eval_env=env,
            algorithm_name=description.algorithm,
            author="python -m zoo",
            author_email="none",
            code_permalink="zoo/ of decision_policies",
            ref_min_score=description.random_score,
            ref_max_score=description.agent_score,
            num_episodes_average_score=description.score_episodes,
            description=description.text,
            requirements=["gymnasium"],
            jpeg_encoding=False,
        )
    dataset.storage.update_metadata({"recipe": description.recipe})


def compress(path: Path) -> None:
    """Rewrites every array of an HDF5 file, losslessly, as one gzip-6 + shuffle chunk.

    Minari writes no compression and resizable arrays, whose chunk indices cost 10-20 kB an
    episode. Fixed shapes in the 1.10 file format need no index.

    Args:
        path: the file, replaced in place.
    """
    small = path.with_suffix(".small")
    # An explicit upper bound: "latest" may use a format that older HDF5 libraries cannot read.
    with (
        h5py.File(path, "r") as source,
        h5py.File(small, "w", libver=("v110", "v110"), track_order=True) as sink,
    ):
        _copy_group(source, sink)
    small.replace(path)


def _copy_group(source: h5py.Group, sink: h5py.Group) -> None:
    """Copies attributes, sub-groups and arrays, compressing the arrays that hold something."""
    sink.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy_group(item, sink.create_group(name))
        elif item.shape and item.size:
            copied = sink.create_dataset(
                name,
                data=item[()],
                dtype=item.dtype,
                chunks=item.shape,
                compression="gzip",
                compression_opts=6,
                shuffle=True,
            )
            copied.attrs.update(item.attrs)
        else:
            source.copy(name, sink)


def verify(dataset: minari.MinariDataset, episodes: Sequence[EpisodeBuffer]) -> None:
    """Reads a dataset back and compares every array, bit for bit, with the episodes.

    Args:
        dataset: as Minari reads it from disk.
        episodes: what was meant to be written.

    Raises:
        RuntimeError: naming the first episode and array that differ.
    """
    if len(dataset) != len(episodes):
        raise RuntimeError(f"Minari reads {len(dataset)} episodes back, not {len(episodes)}")
    for read, written in zip(dataset.iterate_episodes(), episodes, strict=True):
        for name in ("observations", "actions", "rewards", "terminations", "truncations"):
            if not _same(getattr(read, name), getattr(written, name)):
                raise RuntimeError(f"{name} of episode {read.id} came back different from disk")


def _same(read: object, written: object) -> bool:
    """Whether two arrays, or dicts of arrays, have equal types, shapes and bytes."""
    if isinstance(read, dict) and isinstance(written, dict):
        return read.keys() == written.keys() and all(_same(read[k], written[k]) for k in written)
    left, right = np.asarray(read), np.asarray(written)
    same_form = left.dtype == right.dtype and left.shape == right.shape
    return same_form and left.tobytes() == right.tobytes()


def _publish(staged: Path, target: Path, staging: Path, target_root: Path) -> None:
    """Moves a finished dataset to its place, with the namespace files that are missing there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for source in staging.rglob(NAMESPACE_METADATA_FILENAME):
        wanted = target_root / source.relative_to(staging)
        if not wanted.exists():
            shutil.copyfile(source, wanted)
    replaced = staging / "replaced"
    if target.exists():
        target.rename(replaced)
    try:
        staged.rename(target)
    except BaseException:
        if replaced.exists():
            replaced.rename(target)
        raise
