"""D4RL's files, d3rlpy's datasets and the Hub's give the same trajectories as lists of episodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import Trajectories
from decision_policies.errors import DatasetError
from tests.coded import LINE, PUSH, Episode, coded, packed, same
from tests.fixtures import tiny_episodes, tiny_spaces, write_minari
from zoo.__main__ import main


def flat(episodes: list[Episode]) -> Episode:
    """The flat arrays of D4RL: odd episodes are terminated, even ones cut off."""
    last = [np.arange(len(e["rewards"])) == len(e["rewards"]) - 1 for e in episodes]
    return {
        "observations": np.concatenate([e["observations"][:-1] for e in episodes]),
        "next_observations": np.concatenate([e["observations"][1:] for e in episodes]),
        "actions": np.concatenate([e["actions"] for e in episodes]),
        "rewards": np.concatenate([e["rewards"] for e in episodes]),
        "terminals": np.concatenate([end & (i % 2 == 1) for i, end in enumerate(last)]),
        "timeouts": np.concatenate([end & (i % 2 == 0) for i, end in enumerate(last)]),
    }


def written(path: Path, columns: Episode, without: tuple[str, ...] = ()) -> Path:
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            if name not in without:
                file[name] = column
        file["infos/goal"] = np.zeros((3, 2))
        file["metadata/algorithm"] = "none"
    return path


def test_a_d4rl_file_becomes_its_episodes(tmp_path: Path) -> None:
    path = written(tmp_path / "walk-v2.hdf5", flat(coded()))
    data = Trajectories.from_d4rl(path)
    same(data, packed(coded()))
    assert data.source.dataset == "walk-v2" and data.source.digest
    assert (data.observation_space, data.action_space) == (LINE, PUSH)
    without = written(tmp_path / "no-next.hdf5", flat(coded()), ("next_observations",))
    same(Trajectories.from_d4rl(str(without)), packed(coded()), finals=False)


def test_a_d4rl_file_without_timeouts_needs_the_limit_of_its_environment(tmp_path: Path) -> None:
    episodes = coded((4, 4, 2, 4, 3))
    columns = flat(episodes)
    columns["terminals"] = columns["terminals"] | (columns["timeouts"] & False)
    columns["terminals"][[9, 16]] = True  # the ends of the third and the last, after fewer steps
    path = written(tmp_path / "old.hdf5", columns, ("timeouts", "next_observations"))
    same(Trajectories.from_d4rl(path, max_episode_steps=4), packed(episodes), finals=False)
    with pytest.raises(DatasetError, match=r"no 'timeouts'.*max_episode_steps=1000"):
        Trajectories.from_d4rl(path)
    with pytest.raises(ValueError, match="max_episode_steps must be at least 1, got 0"):
        Trajectories.from_d4rl(path, max_episode_steps=0)


def test_an_episode_that_has_not_ended_is_left_out_unless_it_is_wanted(tmp_path: Path) -> None:
    columns = flat(coded())
    columns["timeouts"][-1] = columns["terminals"][-1] = False
    path = written(tmp_path / "cut.hdf5", columns)
    same(Trajectories.from_d4rl(path), packed(coded()[:3]))
    same(Trajectories.from_d4rl(path, keep_incomplete=True), packed(coded()))
    columns["timeouts"][:] = columns["terminals"][:] = False
    columns.pop("next_observations")
    path = written(tmp_path / "endless.hdf5", columns)
    with pytest.raises(DatasetError, match="14 steps but no end of an episode"):
        Trajectories.from_d4rl(path)
    assert Trajectories.from_d4rl(path, keep_incomplete=True).n_episodes == 1


def test_mistakes_with_d4rl_files_are_named(tmp_path: Path) -> None:
    columns = flat(coded())
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Trajectories.from_d4rl(tmp_path / "none.hdf5")
    (tmp_path / "text.hdf5").write_text("observations")
    with pytest.raises(DatasetError, match="cannot be read as HDF5"):
        Trajectories.from_d4rl(tmp_path / "text.hdf5")
    with pytest.raises(DatasetError, match="lacks rewards; it has actions, "):
        Trajectories.from_d4rl(written(tmp_path / "a.hdf5", columns, ("rewards",)))
    short = written(tmp_path / "b.hdf5", {**columns, "terminals": columns["terminals"][:-1]})
    with pytest.raises(DatasetError, match=r"differ in length: observations 14.*terminals 13"):
        Trajectories.from_d4rl(short)
    wide = written(tmp_path / "c.hdf5", {**columns, "actions": columns["actions"] * 10})
    with pytest.raises(DatasetError, match=r"action_space must be said.* from 0 to 3.2, beyond"):
        Trajectories.from_d4rl(wide)
    space = spaces.Box(-4, 4, (1,), np.float32)
    assert Trajectories.from_d4rl(wide, action_space=space).action_space is space
    whole = written(tmp_path / "d.hdf5", {**columns, "actions": np.zeros(14, np.int64)})
    with pytest.raises(
        DatasetError, match=r"action_space must be said, since int64.*Discrete\(n\)"
    ):
        Trajectories.from_d4rl(whole)
    taken = Trajectories.from_d4rl(whole, action_space=spaces.Discrete(2))
    assert taken.actions.tolist() == [0] * 14
    columns["rewards"][5] = np.nan
    with pytest.raises(DatasetError, match="episode 2, step 0: rewards hold nan"):
        Trajectories.from_d4rl(written(tmp_path / "e.hdf5", columns))


def test_the_verb_checks_a_d4rl_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "walk-v2.hdf5", flat(coded()))
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out.startswith("walk-v2: 4 episodes, 14 steps\n")


@dataclass(frozen=True)
class LoggedEpisode:
    """Has what d3rlpy's Episode has: T observations, rewards in a column."""

    observations: Any
    actions: NDArray[Any]
    rewards: NDArray[Any]
    terminated: bool = True


@dataclass(frozen=True)
class LoggedInfo:
    action_size: int


@dataclass(frozen=True)
class Logged:
    """Has what d3rlpy's ReplayBuffer has."""

    episodes: list[LoggedEpisode]
    dataset_info: LoggedInfo | None = None


def logged(discrete: bool) -> list[LoggedEpisode]:
    return [
        LoggedEpisode(
            e["observations"][:-1],
            (e["rewards"][:, None].astype(np.int64) if discrete else e["actions"]),
            e["rewards"][:, None].astype(np.float32),
        )
        for e in coded()
    ]


def test_a_dataset_of_d3rlpy_becomes_its_episodes() -> None:
    data = Trajectories.from_d3rlpy(Logged(logged(False)))
    same(data, packed(coded()), finals=False)
    assert (data.observation_space, data.action_space) == (LINE, PUSH)
    whole = Trajectories.from_d3rlpy(Logged(logged(True), LoggedInfo(9)))
    assert whole.action_space == spaces.Discrete(9)
    assert whole.actions.tolist() == whole.rewards.tolist()
    pixels = [
        LoggedEpisode(np.zeros((4, 1, 40, 40), np.uint8), np.zeros((4, 1), np.float32), np.ones(4))
    ]
    images = Trajectories.from_d3rlpy(Logged(pixels))
    assert images.observation_space == spaces.Box(0, 255, (1, 40, 40), np.uint8)


def test_mistakes_with_datasets_of_d3rlpy_are_named() -> None:
    for wrong, message in (
        (logged(False), r"with `episodes`; got list"),
        (Logged([]), "the dataset has no episode"),
        (Logged(logged(True)), r"does not say how many there are: action_space=Discrete\(n\)"),
        (
            Logged([LoggedEpisode([np.zeros(3), np.zeros(3)], np.zeros((3, 1)), np.ones(3))]),
            "tuple",
        ),
    ):
        with pytest.raises(DatasetError, match=message):
            Trajectories.from_d3rlpy(wrong)  # type: ignore[arg-type]


def test_an_address_on_the_hub_is_downloaded_once_by_minari(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    asked: list[str] = []

    def download(address: str) -> None:
        asked.append(address)
        write_minari(address.removeprefix("hf://some-one.else/"))

    monkeypatch.setattr(minari, "download_dataset", download)
    address = "hf://some-one.else/walks/tiny-v0"
    for _ in range(2):
        data = Trajectories.from_minari(address, cache=False)
        assert data.source.dataset == "walks/tiny-v0"
        assert np.array_equal(
            data.rows, Trajectories.from_episodes(tiny_episodes(False), *tiny_spaces(False)).rows
        )
    assert asked == [address]
    assert caplog.messages == [
        f"downloading {address!r}, which is not here; 0 datasets are here"
    ]  # said before, since without a network it takes half a minute to fail
    for wrong in ("hf://walks-v0", "hf://owner/walks", "gs://owner/walks-v0"):
        with pytest.raises(DatasetError, match=r"is no Minari id.*and 'hf://owner/"):
            Trajectories.from_minari(wrong)


def test_a_shipped_id_in_somebody_elses_account_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))

    def download(address: str) -> None:
        raise ValueError(f"no {address}")

    monkeypatch.setattr(minari, "download_dataset", download)
    with pytest.raises(DatasetError, match="no dataset 'hf://me/cartpole/mixed-v0' here"):
        Trajectories.from_minari("hf://me/cartpole/mixed-v0")
