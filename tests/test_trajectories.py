"""Packed data: every observation beside its own action, exact returns, and a cache that heals."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import Trajectories
from decision_policies.data import cache
from decision_policies.errors import DatasetError
from tests.fixtures import tiny_episodes, tiny_spaces, tiny_trajectories, write_minari

CODE = spaces.Box(-np.inf, np.inf, (2,), np.float32)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("DECISION_POLICIES_CACHE", str(tmp_path / "cache"))


def entries(tmp_path: Path) -> list[Path]:
    """Cache folders that there are."""
    return sorted((tmp_path / "cache" / "trajectories").glob("*"))


def coded_episodes() -> list[dict[str, NDArray[Any]]]:
    """Episodes in which observation and action both say (episode, step)."""
    made: list[dict[str, NDArray[Any]]] = []
    for episode, length in enumerate((5, 1, 7, 3)):
        code = np.array([(episode, t) for t in range(length + 1)], np.float32)
        made.append({"observations": code, "actions": code[:-1], "rewards": np.ones(length)})
    return made


def check_alignment(observations: NDArray[Any], actions: NDArray[Any]) -> None:
    """Every action must stand beside the observation in which it was taken."""
    assert len(observations) >= len(actions)
    assert np.array_equal(observations[: len(actions)], actions)


@pytest.mark.parametrize("form", ["dataset", "id", "folder", "data folder"])
def test_every_observation_is_paired_with_its_own_action(form: str, tmp_path: Path) -> None:
    dataset = write_minari("code/pairs-v0", coded_episodes(), False, CODE, CODE)
    folder = tmp_path / "minari" / "code" / "pairs-v0"
    forms = {
        "dataset": dataset,
        "id": "code/pairs-v0",
        "folder": folder,
        "data folder": folder / "data",
    }
    data = Trajectories.from_minari(forms[form])
    check_alignment(data.observations, data.actions)
    assert data.source.dataset == "code/pairs-v0"
    assert data.actions[:, 0].tolist() == np.repeat(range(4), [5, 1, 7, 3]).tolist()
    assert data.actions[:, 1].tolist() == data.timesteps.tolist()


def test_the_alignment_check_catches_the_classic_shift() -> None:
    dataset = write_minari("code/pairs-v0", coded_episodes(), False, CODE, CODE)
    episodes = list(dataset.iterate_episodes())
    observations = np.concatenate([e.observations for e in episodes])  # all T + 1 of each
    actions = np.concatenate([e.actions for e in episodes])
    with pytest.raises(AssertionError):
        check_alignment(observations, actions)


def test_offsets_lengths_returns_and_timesteps_are_those_of_the_episodes() -> None:
    for discrete in (False, True):
        episodes, data = tiny_episodes(discrete), tiny_trajectories(discrete)
        assert data.n_episodes == 4
        assert data.n_steps == 34
        assert data.lengths.tolist() == [9, 5, 12, 8]
        assert data.offsets.tolist() == [0, 9, 14, 26, 34]
        assert data.timesteps.tolist() == [t for n in (9, 5, 12, 8) for t in range(n)]
        expected = [e["rewards"].astype(np.float32).sum(dtype=np.float64) for e in episodes]
        assert data.returns.tolist() == pytest.approx(expected, abs=1e-12)
        for name in ("observations", "actions"):
            parts = [e[name][: len(e["rewards"])] for e in episodes]
            values = getattr(data, name)
            assert np.array_equal(values, np.concatenate(parts))
            assert values.dtype == (np.int64 if discrete else np.float32)


def test_observations_without_the_final_one_and_column_rewards_are_the_same() -> None:
    episodes = tiny_episodes(False)
    for episode in episodes:
        episode["observations"] = episode["observations"][:-1]
        episode["rewards"] = episode["rewards"][:, None]
    data = Trajectories.from_episodes(episodes, *tiny_spaces(False))
    assert np.array_equal(data.rows, tiny_trajectories(False).rows)


def test_final_observations_are_those_that_belong_to_no_action() -> None:
    data = Trajectories.from_episodes(coded_episodes(), CODE, CODE)
    assert data.final_observations is not None
    assert data.final_observations.dtype == np.float32
    assert data.final_observations.tolist() == [[0, 5], [1, 1], [2, 7], [3, 3]]
    for changed in (data.clip_rewards(), data.delay_rewards()):
        assert changed.final_observations is data.final_observations
    taken, best = data.take([3, 0, 3]).final_observations, data.best(0.8).final_observations
    assert taken is not None and taken.tolist() == [[3, 3], [0, 5], [3, 3]]
    assert best is not None and best.tolist() == [[2, 7], [0, 5]]
    discrete = tiny_trajectories(True).final_observations
    assert discrete is not None
    assert discrete.tolist() == [[e["observations"][-1]] for e in tiny_episodes(True)]


def test_a_log_without_a_final_observation_repeats_its_last_one() -> None:
    episodes = [{**e, "observations": e["observations"][:-1]} for e in coded_episodes()]
    data = Trajectories.from_episodes(episodes, CODE, CODE)
    assert data.final_observations is not None
    assert data.final_observations.tolist() == [[0, 4], [1, 0], [2, 6], [3, 2]]


def test_a_final_observation_beyond_single_precision_is_named() -> None:
    episode = coded_episodes()[0]
    episode["observations"] = episode["observations"].astype(np.float64)
    episode["observations"][5, 0] = 1e300
    with pytest.raises(DatasetError, match=r"episode 0, step 5: .*largest"):
        Trajectories.from_episodes([episode], CODE, CODE)


def test_tensors_are_as_good_as_arrays_gradients_or_not() -> None:
    arrays = tiny_episodes(False)
    tensors = [
        {name: torch.tensor(values, requires_grad=name == "rewards") for name, values in e.items()}
        for e in arrays
    ]
    ours, theirs = (Trajectories.from_episodes(e, *tiny_spaces(False)) for e in (tensors, arrays))
    assert ours.source.digest == theirs.source.digest


def test_the_digest_of_packed_episodes_stays_what_it_was() -> None:
    """Training goes on exactly only with the data that it began with, which this identifies."""
    known = "f154089eb6f57a35711d2276b56ec1e0029d2d0c785415ae70bc79a4a53c0fa0"
    data = Trajectories.from_episodes(coded_episodes(), CODE, CODE)
    assert data.source.digest == known
    changed = coded_episodes()
    changed[0]["rewards"][0] = 2.0
    assert Trajectories.from_episodes(changed, CODE, CODE).source.digest != known


def brute_force(rewards: NDArray[np.float64]) -> list[float]:
    """Add up what is still to come, step by step, backwards."""
    total, sums = 0.0, []
    for reward in reversed(rewards.tolist()):
        total += reward
        sums.append(total)
    return sums[::-1]


def test_returns_to_go_are_the_sums_of_what_follows() -> None:
    data = tiny_trajectories(False)
    expected = [x for e in tiny_episodes(False) for x in brute_force(e["rewards"])]
    assert np.array_equal(data.returns_to_go, np.array(expected, np.float32))


def test_returns_to_go_of_long_episodes_are_summed_in_double_precision() -> None:
    rewards = np.full(200_000, 0.1)
    rewards[0] = 1e8
    zeros = np.zeros((len(rewards), 2), np.float32)
    episode = {"observations": zeros, "actions": zeros, "rewards": rewards}
    data = Trajectories.from_episodes([episode], CODE, CODE)
    expected = np.array(brute_force(rewards), np.float32)
    assert np.array_equal(data.returns_to_go, expected)
    single = np.cumsum(rewards[::-1], dtype=np.float32)[::-1]
    assert not np.array_equal(single, expected), "in single precision the sum would be off"


def test_a_second_read_is_a_memory_map_and_equal(tmp_path: Path) -> None:
    write_minari("tiny/box-v0")
    first, second = (Trajectories.from_minari("tiny/box-v0") for _ in range(2))
    direct = Trajectories.from_minari("tiny/box-v0", cache=False)
    assert isinstance(second.rows, np.memmap)
    assert not isinstance(direct.rows, np.memmap)
    assert len(entries(tmp_path)) == 1
    last = [episode["observations"][-1] for episode in tiny_episodes(False)]
    for data in (first, second, direct):
        assert np.array_equal(data.rows, direct.rows)
        assert np.array_equal(data.offsets, direct.offsets)
        assert data.final_observations is not None
        assert data.source == direct.source
        assert np.array_equal(data.final_observations, np.stack(last))
    second.rows[:] = 0  # a private copy: what is on disk stays as it is
    assert np.array_equal(Trajectories.from_minari("tiny/box-v0").rows, direct.rows)


def test_changed_content_under_the_same_id_is_read_anew(tmp_path: Path) -> None:
    write_minari("tiny/box-v0")
    before = np.array(Trajectories.from_minari("tiny/box-v0").rows)
    minari.delete_dataset("tiny/box-v0")
    write_minari("tiny/box-v0", tiny_episodes(False, seed=1))
    after = Trajectories.from_minari("tiny/box-v0")
    assert np.array_equal(after.rows, tiny_trajectories(False, seed=1).rows)
    assert not np.array_equal(after.rows, before)
    assert len(entries(tmp_path)) == 2


def rewrite(folder: Path, **changes: Any) -> None:
    shapes = json.loads((folder / "shapes.json").read_text())
    (folder / "shapes.json").write_text(json.dumps({**shapes, **changes}))


DAMAGE: dict[str, Any] = {
    "rows truncated": lambda f: (f / "rows.npy").write_bytes((f / "rows.npy").read_bytes()[:-1]),
    "rows cut in the header": lambda f: (f / "rows.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00"),
    "rows empty": lambda f: (f / "rows.npy").write_bytes(b""),
    "rows missing": lambda f: (f / "rows.npy").unlink(),
    "rows a zip": lambda f: (f / "rows.npy").write_bytes(b"PK\x03\x04" + bytes(99)),
    "rows a pickle": lambda f: np.save(f / "rows.npy", np.array([{}]), allow_pickle=True),
    "final observations missing": lambda f: (f / "final_observations.npy").unlink(),
    "final observations of fewer": lambda f: np.save(
        f / "final_observations.npy", np.zeros((3, 3), np.float32)
    ),
    "offsets empty": lambda f: (f / "offsets.npy").write_bytes(b""),
    "shapes missing": lambda f: (f / "shapes.json").unlink(),
    "shapes empty": lambda f: (f / "shapes.json").write_text(""),
    "shapes of nothing": lambda f: (f / "shapes.json").write_text("{}"),
    "shapes a list": lambda f: (f / "shapes.json").write_text("[]"),
    "shapes wrong": lambda f: rewrite(f, rows=[33, 8]),
    "offsets of others": lambda f: np.save(f / "offsets.npy", np.array([0, 9, 14, 26, 40])),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_cache_is_rebuilt(name: str, tmp_path: Path) -> None:
    write_minari("tiny/box-v0")
    expected = Trajectories.from_minari("tiny/box-v0", cache=False).rows
    Trajectories.from_minari("tiny/box-v0")
    (folder,) = entries(tmp_path)
    DAMAGE[name](folder)
    data = Trajectories.from_minari("tiny/box-v0")
    assert np.array_equal(data.rows, expected)
    assert isinstance(data.rows, np.memmap)
    assert data.offsets.tolist() == [0, 9, 14, 26, 34]
    assert entries(tmp_path) == [folder], "nothing is left over"


def test_a_cache_that_cannot_be_written_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minari("tiny/box-v0")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DECISION_POLICIES_CACHE", str(tmp_path / "file"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = Trajectories.from_minari("tiny/box-v0")
    assert [str(w.message)[:33] for w in caught] == ["trajectories are not cached on di"]
    assert np.array_equal(data.rows, tiny_trajectories(False).rows)


@pytest.mark.parametrize("place", ["os.fsync", "decision_policies.data.cache._Growing.append"])
def test_a_failed_write_leaves_nothing_behind(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    write_minari("tiny/box-v0")
    monkeypatch.setattr(place, full)
    with pytest.warns(UserWarning, match=r"not cached on disk: .*No space left"):
        data = Trajectories.from_minari("tiny/box-v0")
    assert np.array_equal(data.rows, tiny_trajectories(False).rows)
    assert entries(tmp_path) == []


def test_two_ids_never_share_a_cache_entry() -> None:
    names = ["a/b-v0", "a-b-v0", "a_b-v0", "A/b-v0", "a/b-v1", "a" * 300, "a" * 301]
    folders = [cache.folder(name, "f" * 64) for name in names]
    assert len({str(f).lower() for f in folders}) == len(names)
    assert all(len(f.name) < 128 for f in folders)


def test_the_same_name_with_other_content_has_another_cache_entry() -> None:
    assert cache.folder("a-v0", "e" * 64) != cache.folder("a-v0", "f" * 64)


def test_filtered_episodes_have_a_cache_entry_of_their_own(tmp_path: Path) -> None:
    dataset = write_minari("tiny/box-v0")
    whole = Trajectories.from_minari(dataset)
    long = Trajectories.from_minari(dataset.filter_episodes(lambda e: len(e) > 8))
    assert whole.lengths.tolist() == [9, 5, 12, 8]
    assert long.lengths.tolist() == [9, 12]
    assert Trajectories.from_minari("tiny/box-v0").lengths.tolist() == [9, 5, 12, 8]
    assert len(entries(tmp_path)) == 2
    with pytest.raises(DatasetError, match="no episode"):
        Trajectories.from_minari(dataset.filter_episodes(lambda e: len(e) > 99))


def test_images_are_cached_apart_from_the_rows() -> None:
    space = spaces.Box(0, 255, (4, 36, 36), np.uint8)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, 4, 36, 36), np.uint8)
    episode = {"observations": frames, "actions": rng.integers(3, size=5), "rewards": np.ones(5)}
    write_minari("tiny/frames-v0", [episode], True, space)
    for _ in range(2):
        data = Trajectories.from_minari("tiny/frames-v0")
        assert data.images is not None and data.final_observations is None
        assert np.array_equal(data.observations, frames[:5])
        assert data.rows.shape == (5, 4)
        assert data.actions.tolist() == episode["actions"].tolist()


def test_observation_statistics_are_those_of_numpy() -> None:
    data = tiny_trajectories(False)
    mean, std = data.observation_statistics()
    np.testing.assert_allclose(mean, data.observations.mean(0, np.float64), atol=1e-7)
    np.testing.assert_allclose(std, data.observations.std(0, np.float64), atol=1e-7)
