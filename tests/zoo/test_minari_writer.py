"""A dataset is written losslessly, and whole or not at all."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from zoo import collect as verb
from zoo import minari_writer
from zoo.__main__ import main
from zoo.collect import collect
from zoo.minari_writer import Description, compress, write_dataset
from zoo.rollout import play_episode

from .support import TINY, command_line, files_under


class InPlaceEnv(gym.Env[dict[str, Any], Any]):
    """Three steps; returns the same arrays every time, changed in place, and an image of noise."""

    observation_space = gym.spaces.Dict(
        {
            "image": gym.spaces.Box(0, 255, (36, 40, 3), np.uint8),
            "time": gym.spaces.Box(0.0, 9.0, (1,), np.float64),
        }
    )
    action_space = gym.spaces.MultiDiscrete([3, 4])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.state: dict[str, Any] = {"image": np.zeros((36, 40, 3), np.uint8), "time": np.zeros(1)}
        return self.state, {}

    def step(self, action: Any) -> Any:
        self.state["time"] += 1
        self.state["image"][:] = self.np_random.integers(256, size=(36, 40, 3))
        return self.state, 0.5, False, bool(self.state["time"][0] >= 3), {}


@pytest.fixture
def dict_episode() -> tuple[InPlaceEnv, EpisodeBuffer]:
    env = InPlaceEnv()
    env.spec = gym.spec("CartPole-v1")
    return env, play_episode(env, lambda observation: env.action_space.sample(), 4, limit=10)


DESCRIPTION = Description("dict/x-v0", "random", "noise", {"seed": 4}, 0.0, 1.5, 1)


def test_dict_observations_and_images_survive_unchanged(
    dict_episode: tuple[InPlaceEnv, EpisodeBuffer], tmp_path: Path
) -> None:
    env, episode = dict_episode
    folder = write_dataset([episode], env, DESCRIPTION, tmp_path)
    read = minari.MinariDataset(folder / "data")[0]
    np.testing.assert_array_equal(read.observations["time"][:, 0], [0, 1, 2, 3])
    assert read.observations["image"].dtype == np.uint8
    np.testing.assert_array_equal(read.observations["image"], episode.observations["image"])
    assert read.actions.shape == (3, 2)
    assert read.truncations.tolist() == [False, False, True]


def test_an_episode_without_an_end_is_truncated_at_the_limit() -> None:
    env = InPlaceEnv()
    episode = play_episode(env, lambda observation: env.action_space.sample(), 4, limit=2)
    assert episode.truncations.tolist() == [False, True]


def test_compression_keeps_groups_attributes_strings_and_empty_arrays(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    noise = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    with h5py.File(path, "w") as file:
        group = file.create_group("episode_0/observations")
        file["episode_0"].attrs["seed"] = 7
        group.create_dataset("x", data=noise, chunks=True, maxshape=(None, 4)).attrs["unit"] = "m"
        group.create_dataset("words", data=["a", "ß"], dtype=h5py.string_dtype())
        group.create_dataset("empty", data=np.zeros((0, 3)))
        group.create_dataset("scalar", data=3.5)
        file.create_dataset("zeros", data=np.zeros(10_000))
    before = path.stat().st_size
    compress(path)
    assert path.stat().st_size < before / 10
    assert files_under(tmp_path) == [path]
    with h5py.File(path) as file:
        group = file["episode_0/observations"]
        assert file["episode_0"].attrs["seed"] == 7
        assert group["x"].attrs["unit"] == "m"
        assert group["x"].dtype == np.float32
        np.testing.assert_array_equal(group["x"][()], noise)
        assert group["words"].asstr()[()].tolist() == ["a", "ß"]
        assert group["empty"].shape == (0, 3)
        assert group["scalar"][()] == 3.5
        assert not file["zeros"][()].any()


def test_a_set_that_reads_back_differently_is_not_published(
    dict_episode: tuple[InPlaceEnv, EpisodeBuffer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoil(path: Path) -> None:
        with h5py.File(path, "a") as file:
            file["episode_0/rewards"][1] += 1e-9

    monkeypatch.setattr(minari_writer, "compress", spoil)
    env, episode = dict_episode
    with pytest.raises(RuntimeError, match="rewards of episode 0"):
        write_dataset([episode], env, DESCRIPTION, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_touches_the_disk_before_all_episodes_are_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "write_dataset", stop)
    with pytest.raises(KeyboardInterrupt):
        collect(TINY, tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("moment", ["_create", "compress", "verify", "_publish"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_killed_run_leaves_nothing(
    moment: str,
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = getattr(minari_writer, moment)

    def kill(*arguments: Any) -> None:
        original(*arguments)
        os.kill(os.getpid(), number)

    if moment != "_publish":
        monkeypatch.setattr(minari_writer, moment, kill)
    else:
        monkeypatch.setattr(Path, "rename", lambda *_: os.kill(os.getpid(), number))
    handler = signal.getsignal(number)
    assert main(command_line(TINY, tmp_path)) == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(number) is handler
    assert [path for path in files_under(tmp_path) if path.name != "namespace_metadata.json"] == []
    assert list(tmp_path.glob(".*")) == []


def test_an_interrupted_overwrite_keeps_the_old_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = collect(TINY, tmp_path)
    rename = Path.rename

    def stop_at_the_new_one(self: Path, target: Path) -> Path:
        if self.name == "cartpole-v0" and target == folder:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop_at_the_new_one)
    with pytest.raises(KeyboardInterrupt):
        collect(replace(TINY, seed=1), tmp_path, overwrite=True)
    assert minari.MinariDataset(folder / "data").storage.metadata["recipe"]["seed"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
