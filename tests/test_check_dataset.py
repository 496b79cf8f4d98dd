"""check_dataset says what data are like, and names the first thing that cannot be learnt from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import Histories, Trajectories, check_dataset
from decision_policies.analysis import draw_returns
from decision_policies.data import DatasetReport
from decision_policies.errors import DatasetError
from tests.fixtures import tiny_episodes, tiny_spaces, tiny_trajectories, write_minari
from zoo.__main__ import main

LINE = spaces.Box(-np.inf, np.inf, (2,), np.float32)
PUSH = spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("DECISION_POLICIES_CACHE", str(tmp_path / "cache"))


def walks(n: int = 4, length: int = 30) -> list[dict[str, NDArray[Any]]]:
    """Smooth walks along a line, each marked as terminated at its end."""
    rng = np.random.default_rng(0)
    made: list[dict[str, NDArray[Any]]] = []
    for _ in range(n):
        place = rng.uniform(-1, 1) + 0.1 * np.arange(length + 1) + rng.normal(0, 0.01, length + 1)
        made.append(
            {
                "observations": np.stack((place, np.sin(place)), 1).astype(np.float32),
                "actions": rng.uniform(-0.9, 0.9, (length, 2)).astype(np.float32),
                "rewards": rng.normal(size=length),
                "terminations": np.arange(length) == length - 1,
                "truncations": np.zeros(length, bool),
            }
        )
    return made


def check(episodes: Any) -> DatasetReport:
    return check_dataset(episodes, LINE, PUSH)


def test_the_figures_are_those_of_the_episodes() -> None:
    episodes = walks()
    report = check(episodes)
    assert (report.n_episodes, report.n_steps, report.with_final) == (4, 120, 4)
    assert report.lengths.tolist() == [30] * 4
    assert report.returns == pytest.approx([e["rewards"].sum() for e in episodes], abs=1e-5)
    rewards = np.concatenate([e["rewards"] for e in episodes])
    assert report.rewards.quantiles == pytest.approx(
        np.percentile(rewards, [0, 5, 25, 50, 75, 95, 100]), abs=1e-6
    )
    assert (report.rewards.mean, report.rewards.std) == pytest.approx(
        (rewards.mean(), rewards.std()), abs=1e-6
    )
    assert report.ends is not None and report.ends.terminated == 4
    assert report.reward_kind == "dense"
    assert report.advice == ()
    said = str(report)
    assert "T + 1 observations against T actions in every episode" in said
    assert "4 terminated, 0 truncated, 0 unmarked" in said and said.endswith("No remarks.")
    assert f"{rewards.mean():.5g}" in said and f"{report.returns.max():.5g}" in said


def test_a_list_a_dataset_and_packed_data_are_told_the_same() -> None:
    dataset = write_minari("tiny/check-v0")
    listed = check_dataset(tiny_episodes(False), *tiny_spaces(False))
    packed = check_dataset(tiny_trajectories(False))
    histories = check_dataset(Histories.from_episodes(tiny_trajectories(False), [0] * 4))
    for name in ("tiny/check-v0", dataset):
        read = check_dataset(name)
        assert read.name == "tiny/check-v0"
        assert read.ends is not None and read.ends.terminated == 4
        for other in (listed, packed, histories):
            assert other.returns.tolist() == read.returns.tolist()
            assert other.rewards == read.rewards
            assert cast(Any, other.actions.outside).tolist() == [0, 0]
    assert (listed.ends, listed.with_final) == (None, 4)
    assert (packed.ends, packed.with_final) == (None, None)
    assert "not marked" in str(packed) and "packed before" in str(packed)


def test_ends_inside_episodes_and_episodes_cut_off_are_found() -> None:
    episodes = walks()
    episodes[1]["truncations"][12] = True
    episodes[2]["terminations"][:] = False
    episodes[3]["observations"] = episodes[3]["observations"][:-1]
    report = check(episodes)
    assert report.ends is not None
    assert (report.ends.inside, report.ends.unmarked) == (((1, 12),), 1)
    assert report.with_final == 3
    inside, unmarked = report.advice
    assert "(1 times, first at episode 1, step 12)" in inside
    assert "1 episodes stop at a step that is not marked as an end" in unmarked
    assert "in 3 episodes; in the other 1 T" in str(report)


def test_one_episode_in_two_pieces_is_found_unless_the_first_was_terminated() -> None:
    episodes = walks()
    episodes[2]["observations"] += episodes[1]["observations"][-1] - episodes[2]["observations"][0]
    episodes[2]["observations"][0] = episodes[1]["observations"][-1]
    assert check(episodes).continued == ()
    episodes[1]["terminations"][:] = False
    episodes[1]["truncations"][-1] = True
    report = check(episodes)
    assert report.continued == (2,)
    assert "1 episodes begin where the one before stopped" in report.advice[0]


def test_missing_steps_show_as_a_jump_at_their_place() -> None:
    episodes = walks(n=8)
    episodes[5]["observations"][11:] += 4.0
    report = check(episodes)
    assert report.jumps == ((5, 10),)
    assert "first at episode 5, step 10" in report.advice[0]


def test_what_never_changes_is_named_by_its_dimension() -> None:
    episodes = walks()
    for episode in episodes:
        episode["observations"][:, 1] = 3.0
    assert check(episodes).constant == ("[1]",)
    space = spaces.Dict({"goal": LINE, "mode": spaces.Discrete(2)})
    for episode in episodes:
        mode = np.zeros(31, np.int64)
        episode["observations"] = cast(Any, {"goal": episode["observations"], "mode": mode})
    report = check_dataset(episodes, space, PUSH)
    assert report.constant == ("goal[1]", "mode[0]", "mode[1]")
    assert "3 dimensions of the observation never change" in report.advice[0]


def test_actions_beyond_and_at_their_bounds_are_counted_in_each_dimension() -> None:
    episodes = walks()
    for episode in episodes:
        episode["actions"][:3, 0] = 1.5
        episode["actions"][:21, 1] = -1.0
    report = check(episodes)
    assert report.actions.outside == pytest.approx([0.1, 0])
    assert report.actions.at_bound == pytest.approx([0, 0.7])
    beyond, clipped = report.advice
    assert "in dimension 0 at 10 % of the steps" in beyond
    assert "at a bound at 70 % of the steps in dimension 1" in clipped


def test_the_share_of_each_discrete_action_is_reported() -> None:
    episodes = tiny_episodes(True)
    for episode in episodes:
        episode["actions"] = np.minimum(episode["actions"], 1) + 5
    report = check_dataset(episodes, spaces.Discrete(4), spaces.Discrete(3, start=5))
    taken = np.concatenate([e["actions"] for e in episodes])
    assert report.actions.shares == pytest.approx([np.mean(taken == a) for a in (5, 6, 7)])
    assert report.advice[-1].startswith("Never taken: 7;")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("delayed", "Rewards come at the end of an episode only"),
        ("sparse", ""),
        ("constant", "a return is only the length of its episode"),
        ("equal", "All returns are the same"),
    ],
)
def test_rewards_that_teach_little_at_a_step_are_called_by_their_kind(kind: str, word: str) -> None:
    episodes = walks()
    for index, episode in enumerate(episodes):
        rewards = np.full(30, 1.0 if kind in ("constant", "equal") else 0.0)
        if kind == "delayed":
            rewards[-1] = index
        if kind == "sparse":
            rewards[3:5] = index
        episode["rewards"] = rewards
    if kind == "constant":
        episodes.append({key: value[-10:] for key, value in episodes[0].items()})
    report = check(episodes)
    assert report.reward_kind == ("constant" if kind == "equal" else kind)
    assert any(word in sentence for sentence in report.advice) == bool(word)


def test_rare_good_episodes_are_pointed_out() -> None:
    episodes = walks(n=40, length=10)
    episodes[7]["rewards"] += 100.0
    assert "Only 1 of 40 episodes come within a tenth of the best" in check(episodes).advice[0]


def spoil(field: str, step: int, value: float) -> list[dict[str, NDArray[Any]]]:
    episodes = walks()
    episodes[2][field][step] = value
    return episodes


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        (spoil("rewards", 4, np.nan), "episode 2, step 4: rewards hold nan"),
        (spoil("observations", 30, np.inf), "episode 2, step 30: observations hold inf"),
        (spoil("actions", 0, -np.inf), "episode 2, step 0: actions hold -inf"),
        ([*walks(1), {**walks(1)[0], "actions": np.zeros((29, 2))}], "episode 1 is ragged"),
        ([{**walks(1)[0], "truncations": np.zeros(4)}], r"episode 0: truncations must be one flag"),
    ],
)
def test_the_first_thing_that_cannot_be_learnt_from_is_named(episodes: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        check(episodes)


def test_spaces_are_asked_for_where_they_are_needed_and_nowhere_else() -> None:
    with pytest.raises(DatasetError, match="say what its spaces are"):
        check_dataset(walks())
    with pytest.raises(DatasetError, match="two spaces for a list of episodes, and none for a da"):
        check_dataset(walks(), LINE)
    with pytest.raises(DatasetError, match="got a str with"):
        check_dataset("cartpole/mixed-v0", LINE, PUSH)


def test_images_are_reported_without_their_pixels() -> None:
    space = spaces.Box(0, 255, (36, 36), np.uint8)
    episodes: list[dict[str, Any]] = [
        {**walk, "observations": np.zeros((31, 36, 36), np.uint8)} for walk in walks()
    ]
    report = check_dataset(episodes, space, PUSH)
    assert (report.constant, report.jumps, report.continued) == ((), (), ())


def test_the_verb_prints_the_report_and_draws_the_returns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "returns.png"
    assert main(["check", "cartpole/mixed-v0", "--picture", str(picture)]) == 0
    report = check_dataset("cartpole/mixed-v0")
    assert capsys.readouterr().out == f"{report}\n\npicture: {picture}\n"
    assert picture.stat().st_size > 5_000
    (axes,) = draw_returns(report).axes
    assert sum(cast(Any, bar).get_height() for bar in axes.patches) == report.n_episodes
    data = Trajectories.from_minari("cartpole/mixed-v0")
    assert [line.get_label() for line in axes.lines] == [
        f"median {np.median(data.returns):.5g}",
        f"p90 {np.percentile(data.returns, 90):.5g}",
    ]


def test_the_verb_says_what_is_wrong_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes = tiny_episodes(False)
    episodes[1]["rewards"][3] = np.nan
    write_minari("tiny/broken-v0", episodes)
    assert main(["check", str(tmp_path / "minari" / "tiny" / "broken-v0")]) == 2
    said = capsys.readouterr().err
    assert "episode 1, step 3: rewards hold nan" in said and said.count("\n") == 1
