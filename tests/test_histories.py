"""Contexts across episodes: contiguous or sorted by return, of one task each, with right clocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import Trajectories
from decision_policies.batch import Window
from decision_policies.data import Histories, HistorySampler, SortedEpisodesSampler
from decision_policies.data.reading import as_histories
from decision_policies.errors import DatasetError
from tests.fixtures import tiny_episodes, write_minari

if TYPE_CHECKING:
    from minari import MinariDataset

CODE = spaces.Box(-np.inf, np.inf, (3,), np.float32)
TASKS = [7, 7, 7, 2, 2, 2, 2, 2, 5, 5, 5]
EVEN, RAGGED = (4,) * 11, (3, 5, 4, 2, 6, 1, 4, 4, 7, 2, 3)


def histories(lengths: tuple[int, ...] = RAGGED, held_out: tuple[int, ...] = (5,)) -> Histories:
    """Histories whose observations say (task, episode, step)."""
    rng = np.random.default_rng(0)
    episodes = []
    for index, (task, length) in enumerate(zip(TASKS, lengths, strict=True)):
        code = np.array([(task, index, t) for t in range(length + 1)], np.float32)
        rewards = rng.integers(4, size=length).astype(float)
        episodes.append({"observations": code, "actions": code[:-1], "rewards": rewards})
    data = Trajectories.from_episodes(episodes, CODE, CODE)
    return Histories.from_episodes(data, TASKS, held_out=held_out)


def real(window: Window, row: int) -> NDArray[np.int64]:
    """(task, episode, step) of the real steps of a row, (t, 3)."""
    assert window.mask[row].int().diff().le(0).all()  # a prefix
    codes: NDArray[np.int64] = window.observations[row][window.mask[row]].long().numpy()
    return codes


def row_numbers(codes: NDArray[np.int64], lengths: tuple[int, ...]) -> NDArray[np.int64]:
    """Where coded steps stand among all steps."""
    starts = np.concatenate(([0], np.cumsum(lengths)))
    return np.asarray(starts[codes[:, 1]] + codes[:, 2])


def check_clocks_and_returns(window: Window, data: Trajectories) -> None:
    for row in range(window.shape[0]):
        codes, kept = real(window, row), window.mask[row]
        np.testing.assert_array_equal(window.timesteps[row][kept], codes[:, 2])
        np.testing.assert_array_equal(window.actions[row][kept], codes)
        numbers = row_numbers(codes, tuple(data.lengths.tolist()))
        np.testing.assert_array_equal(window.rewards[row][kept], data.rewards[numbers])
        np.testing.assert_array_equal(window.returns_to_go[row][kept], data.returns_to_go[numbers])
    assert window.starts.all()


def test_histories_are_runs_of_the_same_task() -> None:
    made = histories()
    assert made.n_histories == 3
    assert made.tasks.tolist() == [7, 2, 5]
    assert made.lengths.tolist() == [3, 5, 3]
    assert made.held_out.tolist() == [False, False, True]
    for found, start, end in zip(made.returns(), (0, 3, 8), (3, 8, 11), strict=True):
        np.testing.assert_array_equal(found, made.trajectories.returns[start:end])


def test_train_and_unseen_share_no_task_and_no_episode() -> None:
    made = histories()
    train, unseen = made.train, made.unseen
    assert (train.tasks.tolist(), unseen.tasks.tolist()) == ([7, 2], [5])
    codes = [set(part.trajectories.observations[:, 1].tolist()) for part in (train, unseen)]
    assert codes == [set(range(8)), {8, 9, 10}]
    assert not train.held_out.any() and unseen.held_out.all()


def test_take_keeps_the_order_that_is_asked_for() -> None:
    taken = histories().take([2, 0])
    assert taken.tasks.tolist() == [5, 7]
    assert taken.trajectories.observations[:, 1].tolist() == [
        *[8.0] * 7, *[9.0] * 2, *[10.0] * 3, *[0.0] * 3, *[1.0] * 5, *[2.0] * 4
    ]  # fmt: skip


@pytest.mark.parametrize("lengths", [EVEN, RAGGED])
def test_contiguous_windows_run_on_across_episodes_of_one_task(lengths: tuple[int, ...]) -> None:
    made = histories(lengths)
    window = HistorySampler(made, 7, 256, seed=0).sample()
    assert window.shape == (256, 7)
    crossed = 0
    for row in range(256):
        codes = real(window, row)
        assert len(set(codes[:, 0].tolist())) == 1
        assert (np.diff(row_numbers(codes, lengths)) == 1).all()
        crossed += len(set(codes[:, 1].tolist())) > 1
    assert crossed > 128
    check_clocks_and_returns(window, made.trajectories)


def test_contiguous_windows_end_at_every_step_equally_often_and_pad_short_histories() -> None:
    made = histories()
    windows = [HistorySampler(made, 20, 400, seed=s).sample() for s in range(10)]
    steps = {7: 12, 2: 17, 5: 12}
    for window in windows:
        for row in range(400):
            codes = real(window, row)
            assert len(codes) == steps[int(codes[0, 0])]  # no history has 20 steps
    short = [HistorySampler(made, 1, 4100, seed=s).sample() for s in range(5)]
    numbers = np.concatenate(
        [row_numbers(w.observations[:, 0].long().numpy(), RAGGED) for w in short]
    )
    counts = np.bincount(numbers, minlength=41)
    assert counts.min() > 400 and counts.max() < 600


@pytest.mark.parametrize("lengths", [EVEN, RAGGED])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_sorted_contexts_hold_n_whole_episodes_by_rising_return(
    lengths: tuple[int, ...], n: int
) -> None:
    made = histories(lengths)
    sampler = SortedEpisodesSampler(made, n, 64, seed=1)
    returns, seen = made.trajectories.returns, set()
    for _ in range(5):
        window = sampler.sample()
        for row in range(64):
            codes = real(window, row)
            order = list(dict.fromkeys(codes[:, 1].tolist()))
            whole = [(e, t) for e in order for t in range(lengths[e])]
            assert [tuple(code) for code in codes[:, 1:].tolist()] == whole
            assert len(order) == n
            assert len(set(codes[:, 0].tolist())) == 1
            assert (np.diff(returns[order]) >= 0).all()
            seen.update(order)
        check_clocks_and_returns(window, made.trajectories)
        assert window.mask[:, -1].any()  # no longer than the longest row
    assert seen == set(range(11))


def test_equal_returns_stay_in_the_order_of_learning() -> None:
    data = histories(EVEN).trajectories
    rows = data.rows.copy()
    rows[:, -3:-1] = 0.0
    flat = Trajectories(rows, None, data.offsets, CODE, CODE)
    window = SortedEpisodesSampler(Histories.from_episodes(flat, TASKS), 3, 50, seed=2).sample()
    assert (window.observations[..., 1].diff() >= 0).all()


def test_a_constant_return_is_that_of_each_steps_own_episode() -> None:
    made = histories()
    whole = made.trajectories.returns
    for sampler in (
        HistorySampler(made, 9, 64, seed=3, return_mode="constant"),
        SortedEpisodesSampler(made, 2, 64, seed=3, return_mode="constant"),
    ):
        window = sampler.sample()
        for row in range(64):
            expected = whole[real(window, row)[:, 1]]
            np.testing.assert_array_equal(window.returns_to_go[row][window.mask[row]], expected)


def test_samplers_repeat_from_seed_and_from_state() -> None:
    made = histories()
    for kind, size in ((HistorySampler, 6), (SortedEpisodesSampler, 2)):
        one, other = kind(made, size, 8, seed=4), kind(made, size, 8, seed=4)
        assert torch.equal(one.sample().observations, other.sample().observations)
        kept = json.loads(json.dumps(one.state_dict()))
        following = one.sample().observations
        other.load_state_dict(kept)
        assert torch.equal(other.sample().observations, following)


def test_images_are_gathered_across_episodes() -> None:
    space = spaces.Box(0, 255, (36, 36), np.uint8)
    episodes = [
        {
            "observations": np.full((4, 36, 36), e * 10, np.uint8)
            + np.arange(4, dtype=np.uint8)[:, None, None],
            "actions": np.zeros(4, int),
            "rewards": np.full(4, float(-e)),
        }
        for e in range(3)
    ]
    data = Trajectories.from_episodes(episodes, space, spaces.Discrete(2))
    made = Histories.from_episodes(data, [1, 1, 1])
    window = HistorySampler(made, 12, 2, seed=0).sample()
    assert window.observations[0, :, 0, 0].tolist() == [*range(4), *range(10, 14), *range(20, 24)]
    window = SortedEpisodesSampler(made, 3, 2, seed=0).sample()
    assert window.observations[0, ::4, 0, 0].tolist() == [20, 10, 0]
    stacked = Histories.from_episodes(data.stack_frames(2), [1, 1, 1])
    with pytest.raises(DatasetError, match="stacked frames"):
        HistorySampler(stacked, 4, 2)


def test_mistakes_are_named() -> None:
    made = histories()
    with pytest.raises(DatasetError, match="history of task 7 has 3"):
        SortedEpisodesSampler(made, 4, 2)
    with pytest.raises(ValueError, match="at least 1"):
        SortedEpisodesSampler(made, 0, 2)
    with pytest.raises(DatasetError, match="11 task numbers"):
        Histories.from_episodes(made.trajectories, [1, 2])
    with pytest.raises(DatasetError, match="from 0 to 2"):
        made.take([3])
    with pytest.raises(DatasetError, match="filtered out"):
        Histories(made.trajectories, np.array([0, 5]), np.array([1]), np.array([False]))
    with pytest.raises(DatasetError, match="both held out"):
        Histories(
            made.trajectories, np.array([0, 5, 11]), np.array([1, 1]), np.array([False, True])
        )
    with pytest.raises(DatasetError, match="offsets"):
        Histories(made.trajectories, np.array([0, 11]), np.array([1, 2]), np.array([False, True]))
    with pytest.raises(DatasetError, match="needs an episode"):
        Histories(made.trajectories, np.array([0, 0, 11]), np.array([1, 2]), np.zeros(2, bool))


def test_histories_of_one_task_are_told_apart_by_their_numbers() -> None:
    data = histories().trajectories
    numbers = [3, 3, 3, 0, 0, 1, 1, 1, 4, 4, 4]  # task 2 has two
    made = Histories.from_episodes(data, TASKS, held_out=[2], histories=numbers)
    assert made.tasks.tolist() == [7, 2, 2, 5] and made.lengths.tolist() == [3, 2, 3, 3]
    assert made.held_out.tolist() == [False, True, True, False]
    assert Histories.from_episodes(data, TASKS).lengths.tolist() == [3, 5, 3]  # for all one history


def test_episodes_of_a_history_that_stand_apart_are_refused() -> None:
    data = histories().trajectories
    turns = [7, 2, 5] * 3 + [7, 2]
    with pytest.raises(DatasetError, match=r"task 7 goes on at episode 3, .* histories="):
        Histories.from_episodes(data, turns)
    with pytest.raises(DatasetError, match="history 1 goes on at episode 2"):
        Histories.from_episodes(data, [7] * 11, histories=[1, 2, *[1] * 9])
    with pytest.raises(DatasetError, match="history 2 holds episode 8, of task 5, after"):
        Histories.from_episodes(data, TASKS, histories=[1, 1, 1, *[2] * 8])
    with pytest.raises(DatasetError, match="11 history numbers"):
        Histories.from_episodes(data, TASKS, histories=[1])
    wrong: Any
    for wrong in ([[0], [1, 2]], 7, "7", [7.5] * 11, [True] * 11, np.full(11, 2**64 - 1)):
        with pytest.raises(DatasetError, match="list of whole numbers for task"):
            Histories.from_episodes(data, wrong)


def test_only_tasks_that_there_are_can_be_held_out() -> None:
    data = histories().trajectories
    made = Histories.from_episodes(data, TASKS, held_out={2, 5})
    assert made.held_out.tolist() == [False, True, True]
    wrong: Any
    for wrong in ([True, False, False], 7.5, "7", [[2]]):
        with pytest.raises(DatasetError, match="list of whole numbers for held_out"):
            Histories.from_episodes(data, TASKS, held_out=wrong)
    with pytest.raises(DatasetError, match="held_out names task 22, of which there is no episode"):
        Histories.from_episodes(data, TASKS, held_out=[2, 22])
    with pytest.raises(DatasetError, match="no task is held out"):
        _ = Histories.from_episodes(data, TASKS).unseen
    with pytest.raises(DatasetError, match="there is none to learn from"):
        _ = Histories.from_episodes(data, TASKS, held_out=[2, 5, 7]).train


def test_what_is_shown_of_data_is_a_line() -> None:
    made = histories()
    of_data = "Trajectories(11 episodes of 1 to 7 steps, 41 in all)"
    assert repr(made.trajectories) == of_data
    assert repr(made) == f"Histories(3 of 3 tasks, 1 held out, 3 to 5 episodes each; {of_data})"


def test_a_dataset_without_histories_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = write_minari("tiny/plain-v0")
    with pytest.raises(DatasetError, match="python -m zoo histories"):
        Histories.from_minari(dataset)


def told(
    name: str, played: tuple[int, ...], said: tuple[tuple[int, int], ...] = ()
) -> MinariDataset:
    """Write episodes played at these tasks, and histories as (task, number of episodes)."""
    episodes: list[dict[str, Any]] = [
        {**episode, "options": {"task": task}}
        for task, episode in zip(played, tiny_episodes(False), strict=True)
    ]
    dataset = write_minari(name, episodes)
    if said:
        entries = [{"task": task, "episodes": n, "held_out": task == 9} for task, n in said]
        dataset.storage.update_metadata({"recipe": {"histories": entries}})
    return dataset


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


@pytest.mark.usefixtures("_folder")
def test_histories_hold_the_episodes_of_their_own_task_only() -> None:
    made = Histories.from_minari(told("told/right-v0", (4, 4, 9, 9), ((4, 2), (9, 2))), cache=False)
    assert made.tasks.tolist() == [4, 9] and made.held_out.tolist() == [False, True]
    for name, played, said in (
        ("told/other-v0", (4, 4, 9, 9), ((4, 2), (5, 2))),
        ("told/border-v0", (4, 4, 4, 9), ((4, 2), (9, 2))),
    ):
        with pytest.raises(DatasetError, match=r"episode 2 of the dataset .* played at task [49],"):
            Histories.from_minari(told(name, played, said), cache=False)


@pytest.mark.usefixtures("_folder")
def test_episodes_out_of_order_are_no_history() -> None:
    dataset = told("told/order-v0", (4, 4, 9, 9), ((4, 2), (9, 2)))
    dataset.episode_indices = np.array([1, 0, 2, 3])
    with pytest.raises(DatasetError, match="gives episode 0 after episode 1"):
        Histories.from_minari(dataset, cache=False)
    dataset.episode_indices = np.array([0, 0, 2, 3])
    with pytest.raises(DatasetError, match="gives episode 0 after episode 0"):
        Histories.from_minari(dataset, cache=False)


@pytest.mark.usefixtures("_folder")
def test_episodes_of_several_tasks_are_not_taken_for_one_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DECISION_POLICIES_CACHE", str(tmp_path / "cache"))
    assert as_histories(told("told/one-v0", (4, 4, 4, 4))).n_histories == 1
    assert as_histories(write_minari("told/untold-v0")).n_histories == 1
    with pytest.raises(DatasetError, match=r"played at 2 tasks, such as 4 and 9.*from_episodes"):
        as_histories(told("told/several-v0", (4, 9, 9, 4)))
    one, several = (Trajectories.from_minari(f"told/{name}-v0") for name in ("one", "several"))
    assert as_histories(one).n_histories == 1
    with pytest.raises(DatasetError, match=r"played at 2 tasks, such as 4 and 9.*from_episodes"):
        as_histories(several)
    told("told/both-v0", (4, 4, 9, 9), ((4, 2), (9, 2)))
    with pytest.raises(DatasetError, match=r"histories of several tasks.*\.train, or name each"):
        as_histories(Trajectories.from_minari("told/both-v0"))
    read = Trajectories.from_minari("told/one-v0")
    (tmp_path / "told" / "one-v0" / "data" / "main_data.hdf5").unlink()
    assert as_histories(read).n_histories == 1  # what has been read can be learnt from
