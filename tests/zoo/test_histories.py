"""`python -m zoo histories` keeps how learners got better, in order, with tasks held out."""

from __future__ import annotations

import random
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
import torch

from decision_policies.data import recover_environment
from decision_policies.data.histories import Histories
from decision_policies.envs import Darkroom, SingleEnv, TMaze
from zoo.__main__ import main
from zoo.histories import command_of
from zoo.history_learners import NoiseCurriculum, QLearning, play_history
from zoo.history_set import Recipe, make_histories, reference_scores

from .support import assert_equal_data

SMALL = Recipe(
    "Darkroom-v0",
    "dark/small-v0",
    tasks=6,
    held_out=3,
    episodes=150,
    keep=20,
    options={"size": 4},
)
RECIPES = {
    "q-learning": SMALL,
    "noise": replace(SMALL, learner="noise", dataset_id="dark/noise-v1"),
    "dqn": replace(
        SMALL, learner="dqn", dataset_id="dark/dqn-v0", options={"size": 3}, tasks=2, held_out=1,
        episodes=70, keep=50, epsilon=(1.0, 0.02),
    ),
    "key to door": replace(
        SMALL, env_id="DarkKeyToDoor-v0", dataset_id="dark/key-v0", options={"size": 3}
    ),
    "search": replace(
        SMALL, learner="search", dataset_id="dark/search-v0", episodes=20, keep=20, repeats=3
    ),
    "box": replace(
        SMALL, env_id="DarkroomDynamic-v0", dataset_id="dark/box-v0",
        options={"size": 4, "observation": "box"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=RECIPES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    recipe = RECIPES[request.param]
    folder = make_histories(recipe, tmp_path_factory.mktemp("root"))
    return recipe, folder, Histories.from_minari(folder, cache=False)


def test_a_set_names_the_command_that_makes_it(
    made: tuple[Recipe, Path, Histories], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        "zoo.histories.make_histories", lambda recipe, *_, **__: asked.append(recipe)
    )
    line = command_of(made[1])
    assert line.startswith("python -m zoo histories --env ")
    assert main([*shlex.split(line)[3:], "--quiet"]) == 0
    assert asked == [made[0]]


def test_histories_improve(made: tuple[Recipe, Path, Histories]) -> None:
    recipe, _, histories = made
    returns = np.stack(histories.returns())
    tenth = recipe.keep // 10
    first, last = returns[:, :tenth].mean(), returns[:, -tenth:].mean()
    best = minari.MinariDataset(made[1] / "data").storage.metadata["ref_max_score"]
    assert first < last <= best
    assert last > 0.6 * best


def test_tasks_are_split_and_never_met_twice(made: tuple[Recipe, Path, Histories]) -> None:
    recipe, _, histories = made
    train, unseen = histories.train, histories.unseen
    assert not set(train.tasks.tolist()) & set(unseen.tasks.tolist())
    assert len(set(histories.tasks.tolist())) == recipe.tasks
    assert histories.n_histories == recipe.tasks * recipe.repeats
    assert unseen.n_histories == recipe.held_out * recipe.repeats
    assert (histories.lengths == recipe.keep).all()


def test_every_step_replays_in_the_environment_of_its_task(
    made: tuple[Recipe, Path, Histories],
) -> None:
    _, folder, histories = made
    dataset = minari.MinariDataset(folder / "data")
    env = recover_environment(folder)()
    single = env.unwrapped
    assert isinstance(single, SingleEnv)
    tasks = np.repeat(histories.tasks, histories.lengths)
    for index in range(0, len(dataset), 7):
        episode, task = dataset[index], int(tasks[index])
        observation, _ = env.reset(seed=0, options={"task": task})
        if "KeyToDoor" in type(single).__name__:  # it starts anywhere
            size = single.simulator.size  # type: ignore[attr-defined]
            y, x = divmod(int(episode.observations[0]), size)
            single.simulator.position[0] = (x, y)  # type: ignore[attr-defined]
        else:
            assert np.array_equal(observation, episode.observations[0])
        for t, action in enumerate(episode.actions):
            observation, reward, terminated, truncated, _ = env.step(action)
            assert np.array_equal(observation, episode.observations[t + 1])
            assert (reward, terminated, truncated) == (
                episode.rewards[t], episode.terminations[t], episode.truncations[t]
            )  # fmt: skip
        assert terminated or truncated


def test_metadata_says_how_the_set_was_made(made: tuple[Recipe, Path, Histories]) -> None:
    recipe, folder, histories = made
    dataset = minari.MinariDataset(folder / "data")
    metadata = dataset.storage.metadata
    single = gym.make(recipe.env_id, **recipe.options).unwrapped
    assert isinstance(single, SingleEnv)
    described = metadata["recipe"]["histories"]
    assert [entry["task"] for entry in described] == histories.tasks.tolist()
    for entry, returns in zip(described, histories.returns(), strict=True):
        words = single.simulator.describe(entry["task"])
        assert {key: entry[key] for key in words} == words
        assert entry["first_tenth_return"] == round(returns[: recipe.keep // 10].mean(), 4)
    kept = metadata["recipe"]["kept"]
    assert kept == sorted(set(kept)) and (kept[0], kept[-1]) == (0, recipe.episodes - 1)
    assert recipe.learner in metadata["description"] and recipe.env_id in metadata["description"]


@pytest.mark.parametrize("learner", ["q-learning", "dqn"])
def test_equal_seeds_make_equal_bytes_and_other_seeds_do_not(learner: str, tmp_path: Path) -> None:
    recipe = replace(RECIPES[learner], tasks=2, held_out=1, episodes=8, keep=5)
    folders = [
        make_histories(replace(recipe, seed=seed), tmp_path / str(run))
        for run, seed in enumerate((5, 5, 6))
    ]
    one, same = (minari.MinariDataset(folder / "data") for folder in folders[:2])
    assert_equal_data(one, same)
    files = [(folder / "data" / "main_data.hdf5").read_bytes() for folder in folders]
    assert files[0] == files[1] != files[2]
    assert one.storage.metadata["recipe"] == same.storage.metadata["recipe"]


def test_q_learning_and_noise_leave_global_generators_alone(tmp_path: Path) -> None:
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index, union-attr]  # noqa: NPY002
    for name in ("q-learning", "noise"):
        make_histories(replace(RECIPES[name], episodes=3, keep=2), tmp_path)
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index, union-attr]  # noqa: NPY002
    assert before == after


def test_kept_episodes_are_those_of_the_whole_history() -> None:
    rooms = Darkroom(np.arange(6), size=4)
    every, some = (
        play_history(rooms, QLearning(rooms), 21, keep, np.random.default_rng(0), lambda n: None)
        for keep in (21, 5)
    )
    assert some.numbers.tolist() == [0, 5, 10, 15, 20]
    for name in ("observations", "actions", "rewards"):
        assert np.array_equal(getattr(some, name), getattr(every, name)[:, some.numbers])


def test_q_learning_updates_one_entry_as_the_textbook_says() -> None:
    room = Darkroom([0], size=2, horizon=2)
    learner = QLearning(room, rate=0.5, discount=0.9)
    room.reset(np.random.default_rng(0))  # starts in cell 3; cell 0 is the goal
    learner.values[0, 1] = [0.0, 0.0, 0.0, 0.0, 2.0]
    before, actions = room.states(), np.array([3])
    rewards = room.step(actions)[1]
    learner.learn(before, actions, rewards, room)
    assert learner.values[0, 3].tolist() == [0, 0, 0, 0.5 * 0.9 * 2.0, 0]
    before, actions = room.states(), np.array([4])
    rewards = room.step(actions)[1]
    learner.learn(before, actions, rewards, room)  # truncated: what follows would still count
    assert learner.values[0, 1, 4] == 0.5 * 2.0 + 0.5 * 1.0


def test_q_learning_sees_no_future_behind_a_terminal_step() -> None:
    maze = TMaze([1], corridor_length=1)
    learner = QLearning(maze, rate=1.0)
    learner.values[:] = 7.0
    maze.reset(np.random.default_rng(0))
    for action in (0, 1):
        before, actions = maze.states(), np.array([action])
        learner.learn(before, actions, maze.step(actions)[1], maze)
    assert learner.values[0, before[0], 1] == 1.0


def test_without_noise_every_episode_is_optimal() -> None:
    mazes = TMaze([0, 1], corridor_length=30)
    record = play_history(
        mazes, NoiseCurriculum((0.0, 0.0)), 5, 5, np.random.default_rng(0), lambda n: None
    )
    assert (record.returns == 1.0).all()


def test_with_noise_only_actions_are_uniform() -> None:
    rooms = Darkroom(np.arange(50), size=9)
    record = play_history(
        rooms, NoiseCurriculum((1.0, 1.0)), 10, 10, np.random.default_rng(0), lambda n: None
    )
    counts = np.bincount(record.actions.reshape(-1), minlength=5)
    assert (abs(counts - 2000) < 200).all()


def test_reference_scores_are_random_and_optimal() -> None:
    low, high = reference_scores(Darkroom(np.arange(9), size=3, horizon=4), 0)
    assert high == pytest.approx(np.mean([3, 4, 3, 4, 4, 4, 3, 4, 3]), abs=1e-4)
    assert 0 < low < 1


def test_the_verb_makes_a_set_and_sums_it_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (
        "histories --env PassiveTMaze-v0 --dataset maze/optimal-v0 --learner noise --epsilon 0 0 "
        "--tasks 2 --held-out 0 --episodes 4 --option corridor_length=6 "
        "--option observation=discrete"
    )
    assert main([*line.split(), "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "2 histories, mean return 1.00 in their first tenth, 1.00 in their last" in printed
    assert "56 steps, 8 episodes" in printed
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    histories = Histories.from_minari("maze/optimal-v0", cache=False)
    assert histories.trajectories.observation_space == gym.spaces.Discrete(6)
    assert histories.trajectories.lengths.tolist() == [7] * 8
    assert main([*line.split(), "--output", str(tmp_path)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_filtered_datasets_are_no_histories(tmp_path: Path) -> None:
    folder = make_histories(replace(SMALL, episodes=4, keep=2), tmp_path)
    dataset = minari.MinariDataset(folder / "data").filter_episodes(lambda e: e.id % 2 == 0)
    with pytest.raises(ValueError, match="filtered out"):
        Histories.from_minari(dataset, cache=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_id": "CartPole-v1"}, "no environment 'CartPole-v1' with tasks"),
        ({"learner": "ppo"}, "unknown learner 'ppo'"),
        ({"dataset_id": "nonsense"}, "not of the form"),
        ({"tasks": 17}, "has 16 with these options"),
        ({"tasks": 0}, "tasks is 0"),
        ({"held_out": 6}, "held_out is 6"),
        ({"keep": 151}, "more than the 150 episodes"),
        ({"epsilon": (1.0, -0.1)}, "shares, from 0 to 1"),
        ({"options": {"colour": 3}}, "does not take these options"),
        ({"options": {"task": 3}}, "no options"),
        ({"options": {"size": 1}}, "size must be a whole number of at least 2, got 1"),
    ],
)
def test_mistakes_are_named_before_anything_is_learnt(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        make_histories(replace(SMALL, **changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_option_without_a_value_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    line = "histories --env Darkroom-v0 --dataset dark/x-v0 --option size"
    assert main(line.split()) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
