"""The CartPole set that ships with the package."""

import re
import shlex
from pathlib import Path

import h5py
import minari
import numpy as np
import pytest

from zoo.__main__ import build_parser

from .support import PARTS, assert_follows_cartpole, files_under

SHIPPED = Path(__file__).parents[2] / "decision_policies" / "datasets"
SHIPPED_DATA = SHIPPED / "cartpole" / "mixed-v0" / "data"


@pytest.fixture(scope="module")
def shipped() -> minari.MinariDataset:
    return minari.MinariDataset(SHIPPED_DATA)


def test_the_shipped_set_loads_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(SHIPPED))
    assert list(minari.list_local_datasets()) == ["cartpole/mixed-v0"]
    dataset = minari.load_dataset("cartpole/mixed-v0")
    assert dataset.recover_environment().spec.id == "CartPole-v1"


def test_the_shipped_set_is_aligned(shipped: minari.MinariDataset) -> None:
    assert_follows_cartpole(shipped)


def test_the_shipped_set_has_a_spread_of_returns(shipped: minari.MinariDataset) -> None:
    returns = np.array([episode.rewards.sum() for episode in shipped.iterate_episodes()])
    counts, _ = np.histogram(returns, bins=[8, 50, 100, 150, 200, 300, 500, 501])
    assert (counts >= 3).all(), counts
    assert returns.max() == 500
    assert (np.diff(np.unique(returns)) < 100).all()
    metadata = shipped.storage.metadata
    assert metadata["ref_min_score"] < 30
    assert metadata["ref_max_score"] > 400


def test_the_shipped_set_is_small_and_compressed() -> None:
    assert sum(path.stat().st_size for path in files_under(SHIPPED)) < 400_000
    with h5py.File(SHIPPED_DATA / "main_data.hdf5") as file:
        for part in PARTS:
            array = file["episode_0"][part]
            assert array.chunks == array.shape
            assert (array.compression, array.compression_opts, array.shuffle) == ("gzip", 6, True)


def test_the_readme_of_the_shipped_set_gives_the_command_that_made_it(
    shipped: minari.MinariDataset,
) -> None:
    text = (SHIPPED / "README.md").read_text()
    command = re.search(r"python -m zoo (collect (?:[^\\\n]|\\\n)*)", text)
    assert command is not None
    parsed = build_parser("collect").parse_args(shlex.split(command[1].replace("\\\n", " ")))
    recipe, metadata = shipped.storage.metadata["recipe"], shipped.storage.metadata
    assert parsed.env == recipe["env_id"]
    assert parsed.dataset == metadata["dataset_id"]
    assert parsed.algo == recipe["algorithm"]
    for option in ("train_steps", "snapshots", "steps", "seed"):
        assert getattr(parsed, option) == recipe[option]
    assert parsed.epsilon == recipe["epsilons"]
    assert parsed.score_episodes == metadata["num_episodes_average_score"]
    scores = metadata["ref_min_score"], metadata["ref_max_score"]
    for figure in (shipped.total_steps, len(shipped), *scores):
        assert f"{figure:g}" in text
