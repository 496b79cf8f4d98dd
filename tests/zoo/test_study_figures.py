"""Figures of the studies are what they are said to be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from decision_policies import Trajectories
from zoo.__main__ import main
from zoo.studies import data_scaling, delayed_reward, goal_maze, model_scaling
from zoo.studies.report import over_seeds
from zoo.studies.study import Row, read_rows
from zoo.studies.training import Training

SMALL = ["--updates", "2", "--width", "8", "--seeds", "0", "--nice", "0", "--quiet"]


def numbered(*lengths: int) -> Trajectories:
    """Episodes of given lengths; an observation holds the number of its episode."""
    episodes = [
        {"observations": np.full((n, 1), i), "actions": np.zeros((n, 1)), "rewards": np.ones(n)}
        for i, n in enumerate(lengths)
    ]
    box = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    return Trajectories.from_episodes(episodes, box, box)


def drawn(share: float, seed: int = 0) -> list[float]:
    part = data_scaling.draw_episodes(numbered(*range(5, 45)), share, seed)
    return [float(number) for number in part.observations[part.offsets[:-1], 0]]


class Corridor(gym.Env[Any, Any]):
    """Four steps long; each has a reward and words of its own."""

    observation_space = action_space = gym.spaces.Discrete(1)

    def __init__(self, rewards: list[float], infos: list[dict[str, Any]]) -> None:
        self.rewards, self.infos = rewards, infos

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        self.t = -1
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return 0, self.rewards[self.t], self.t == 3, False, self.infos[self.t]


def played(env: gym.Env[Any, Any]) -> list[float]:
    env.reset()
    return [float(env.step(0)[1]) for _ in range(4)]


def test_delayed_environment_pays_each_return_at_the_end() -> None:
    env = delayed_reward.DelayedReward(Corridor([1, -2, 4, 8], [{}] * 4))
    assert played(env) == [0, 0, 0, 11]
    env.reset()
    env.step(0)  # an episode that is given up owes nothing to the next one
    assert played(env) == [0, 0, 0, 11]


def test_delayed_cells_learn_from_and_play_for_delayed_rewards_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, tuple[Trajectories, list[float]]] = {}
    run = Training.run

    def spy(work: Training, data: Trajectories, make: Any, *rest: Any) -> Row:
        env, rewards, over = make(), [], False
        env.reset(seed=0)
        while not over:
            _, reward, terminated, truncated, _ = env.step(0)
            rewards.append(float(reward))
            over = terminated or truncated
        seen["dense" if not seen else "delayed"] = data, rewards
        return run(work, data, make, *rest)

    monkeypatch.setattr(Training, "run", spy)
    words = ["study", "delayed-reward", "--algorithms", "BC", *SMALL, "--output", str(tmp_path)]
    assert main(words) == 0
    (dense, paid), (delayed, withheld) = seen["dense"], seen["delayed"]
    np.testing.assert_allclose(delayed.returns, dense.returns)
    last = delayed.offsets[1:] - 1
    np.testing.assert_allclose(delayed.rewards[last], dense.returns)
    assert np.count_nonzero(delayed.rewards) == delayed.n_episodes < np.count_nonzero(dense.rewards)
    assert paid == [1.0] * len(paid)
    assert withheld == [0.0] * (len(paid) - 1) + [len(paid)]
    rows = read_rows(tmp_path / "delayed-reward.jsonl").values()
    returns = [row["evaluations"][0]["returns"] for row in rows]
    assert returns[0] == returns[1]  # a system that sees no returns does not notice
    assert "| BC | is not asked |" in (tmp_path / "delayed-reward.md").read_text()


def test_a_system_that_asks_for_returns_notices_the_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the tables say: the whole episode's return is the same, delayed or not."""
    seen = []
    run = Training.run

    def spy(work: Training, *rest: Any) -> Row:
        seen.append(work.recipe.hyperparameters["return_mode"])
        return run(work, *rest)

    monkeypatch.setattr(Training, "run", spy)
    words = ["study", "delayed-reward", "--algorithms", "DeMa", *SMALL, "--output", str(tmp_path)]
    assert main(words) == 0
    assert set(seen) == {"decrement"}


def test_delayed_table_says_the_difference_of_means() -> None:
    rows = [
        {
            "algorithm": "DT",
            "rewards": rewards,
            "seed": seed,
            "evaluations": [{"target": 9.0, "mean": mean}],
        }
        for rewards, seed, mean in (
            ("dense", 0, 10.0),
            ("dense", 1, 20.0),
            ("delayed", 0, 4.0),
            ("delayed", 1, 6.0),
        )
    ]
    assert "| DT | 9 | 15 [10 to 20] | 5 [4 to 6] | -10 |" in delayed_reward.table(rows)
    assert "| DT | 9 | 15 [10 to 20] |  |  |" in delayed_reward.table(rows[:2])


@pytest.mark.parametrize(
    ("rewards", "infos", "reached"),
    [
        ([0, 0, 0, 0], [{"success": False}, {"success": True}, {"success": False}, {}], True),
        ([0, 0, 0, 1], [{"success": False}] * 4, False),
        ([0, 0, 0, 0], [{}, {"is_success": 1.0}, {}, {}], True),
        ([0, 1, 0, 0], [{}] * 4, True),
        ([0, 0, 0, 0], [{}] * 4, False),
    ],
)
def test_success_is_what_the_environment_says_or_else_a_positive_return(
    rewards: list[float], infos: list[dict[str, Any]], reached: bool
) -> None:
    env = goal_maze.Success(Corridor(rewards, infos))
    env.reset()
    env.step(0)
    assert env.reached is None
    for _ in range(3):
        env.step(0)
    assert env.reached is reached


def test_only_the_first_episode_counts_as_success_or_not() -> None:
    corridor = Corridor([0] * 4, [{}] * 4)
    env = goal_maze.Success(corridor)
    played(env)
    corridor.rewards = [1] * 4
    played(env)
    assert env.reached is False


def test_interval_of_a_rate_is_wilsons() -> None:
    assert goal_maze.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert goal_maze.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert goal_maze.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_maze_table_counts_steps_of_successes_only() -> None:
    row = {
        "algorithm": "BC",
        "successes": [True, False, True, True],
        "evaluations": [{"lengths": [10, 300, 20, 30]}],
    }
    assert "| BC | 75 % | 30 to 95 % | 20 | 4 |" in goal_maze.table([row])
    lost = {**row, "successes": [False] * 4}
    assert "| BC | 0 % | 0 to 49 % | none | 4 |" in goal_maze.table([lost])


@pytest.mark.parametrize("share", [1 / 16, 1 / 4, 1 / 2])
def test_share_holds_about_its_steps_and_all_of_a_smaller_one(share: float) -> None:
    part = drawn(share)
    assert drawn(share / 2) == part[: len(drawn(share / 2))]
    assert len(set(part)) == len(part)
    lengths = np.array(part) + 5
    assert abs(lengths.sum() - share * sum(range(5, 45))) <= 44 / 2
    assert drawn(share, seed=1) != part


def test_whole_share_is_all_and_the_smallest_one_episode() -> None:
    assert sorted(drawn(1.0)) == list(range(40))
    assert len(drawn(1e-6)) == 1


def scored(share: str, seed: int, value: float) -> Row:
    return {
        "algorithm": "DT",
        "K": 10,
        "share": share,
        "seed": seed,
        "steps": 100,
        "evaluations": [{"mean": -1.0, "normalised": value}],
    }


def test_gain_is_over_the_seeds_that_both_shares_have() -> None:
    rows = [scored("1/2", 0, 10.0), scored("1", 0, 15.0), scored("1", 1, 90.0)]
    half, whole = data_scaling.gains(rows)
    assert half == (Fraction(1, 2), [10.0], None)
    assert whole[:2] == (Fraction(1), [15.0, 90.0])
    assert whole[2] == pytest.approx(50.0)
    assert "| DT | 10 | 1 | 100 | 52.5 [15.0 to 90.0] | +50 % |" in data_scaling.table(rows)


def test_gain_over_nothing_or_less_is_not_said() -> None:
    assert data_scaling.gain({0: -5.0}, {0: 10.0}) is None
    assert data_scaling.gain({0: 5.0}, {1: 10.0}) is None


def test_every_share_is_trained_on_the_scale_of_all_data(tmp_path: Path) -> None:
    words = ["data-scaling", "--shares", "1/16", "1", "--contexts", "2", "--algorithms", "BC"]
    assert main(["study", *words, *SMALL, "--output", str(tmp_path)]) == 0
    rows = list(read_rows(tmp_path / "data-scaling.jsonl").values())
    scales = [row["settings"]["hyperparameters"]["return_scale"] for row in rows]
    assert scales == [100.0, 100.0]  # a fifth of CartPole's 500
    data = Trajectories.from_minari("cartpole/mixed-v0")
    assert rows[1]["steps"] == data.n_steps
    assert rows[0]["steps"] == pytest.approx(data.n_steps / 16, abs=250)


def test_slope_is_the_score_for_each_doubling() -> None:
    sizes = [100.0, 200.0, 400.0]
    assert model_scaling.per_doubling(sizes, [5.0, 8.0, 11.0]) == pytest.approx(3.0)
    assert model_scaling.per_doubling([100.0, 100.0], [1.0, 2.0]) is None


def test_figure_over_seeds_shows_their_range() -> None:
    assert over_seeds([1.0, 2.0, 6.0], 1) == "3.0 [1.0 to 6.0]"
    assert over_seeds([4.4]) == "4"
