"""Minari's Arrow and Parquet files give the same trajectories as its HDF5."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from gymnasium import spaces

from decision_policies import Trajectories, check_dataset
from decision_policies.data.minari_arrow import FORMATS, WHOLE
from decision_policies.errors import DatasetError
from tests.coded import coded, packed, same
from tests.fixtures import write_minari
from tests.test_spaces import ACTIONS, NUMBERS, OBSERVATIONS, PARTS, Space, episodes

SOME = {name: OBSERVATIONS[name] for name in (*NUMBERS, *PARTS, "one of 4", "several", "binary")}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", SOME)
def test_observations_of_every_kind_are_read_as_from_hdf5(name: str, form: str) -> None:
    equal_to_hdf5(name, form, SOME[name], NUMBERS["bounded"])


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_of_every_kind_are_read_as_from_hdf5(name: str) -> None:
    equal_to_hdf5(f"action-{name}", "arrow", NUMBERS["unbounded"], ACTIONS[name])


def equal_to_hdf5(name: str, form: str, space: Space, action: Space) -> None:
    logged, read = episodes(space, action), []
    for data_format in ("hdf5", form):
        called = f"formats/{re.sub('[^a-z0-9]', '-', name)}-{form}/{data_format}-v0"
        written = write_minari(
            called,
            logged,
            observation_space=space,
            action_space=action,
            data_format=data_format,
        )
        read.append(Trajectories.from_minari(written, cache=False))
    same(read[1], read[0])
    same(read[1], Trajectories.from_episodes(logged, space, action))


def test_a_long_episode_is_read_to_its_end_and_selected_ones_in_order() -> None:
    logged = coded((5, WHOLE + 3, 7))
    space, action = packed(logged).observation_space, packed(logged).action_space
    written = write_minari(
        "formats/long-v0", logged, observation_space=space, action_space=action, data_format="arrow"
    )
    same(Trajectories.from_minari("formats/long-v0"), packed(logged))
    some = minari.MinariDataset(written.storage, episode_indices=np.array([2, 0]))
    same(Trajectories.from_minari(some, cache=False), packed([logged[2], logged[0]]))
    assert "3 episodes" in str(check_dataset(written))


def test_pictures_are_read_and_an_episode_of_them_that_is_too_long_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = spaces.Box(0, 255, (36, 40, 3), np.uint8)
    picture = np.random.default_rng(0).integers(256, size=(6, 36, 40, 3)).astype(np.uint8)
    episode: dict[str, Any] = {"observations": picture, "actions": np.zeros(5, np.int64)}
    logged = [{**episode, "rewards": np.arange(5.0)}]
    read = []
    for form in ("hdf5", "arrow"):
        written = write_minari(
            f"formats/pictures/{form}-v0",
            logged,
            observation_space=space,
            action_space=spaces.Discrete(2),
            data_format=form,
        )
        read.append(Trajectories.from_minari(written, cache=False))
    assert read[0].images is not None
    np.testing.assert_array_equal(read[1].images, read[0].images)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read[1].rows, read[0].rows)
    monkeypatch.setattr("decision_policies.data.minari_arrow.WHOLE", 5)
    with pytest.raises(DatasetError, match=r"episode 0 .* has 5 steps and pictures.* hdf5"):
        Trajectories.from_minari(written, cache=False)


@pytest.mark.parametrize("by", [str, Path])
def test_where_pyarrow_is_missing_the_error_says_what_to_install(
    by: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"formats/missing-{by.__name__.lower()}-v0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = write_minari(name, data_format="arrow")
    folder = Path(written.storage.data_path).parent
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "minari.dataset._storages.arrow_storage")
    with pytest.raises(ImportError, match=r"pip install 'decision-policies\[arrow\]'"):
        Trajectories.from_minari(folder if by is Path else name)
