"""The registered environments keep gymnasium's rules and step as their simulators do."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from decision_policies.envs import ENVIRONMENTS, Darkroom, SingleEnv, register
from decision_policies.spaces import check_supported


def made(name: str, **options: Any) -> SingleEnv:
    env = gym.make(name, **options).unwrapped
    assert isinstance(env, SingleEnv)
    return env


@pytest.mark.parametrize("observation", ["discrete", "box"])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_gymnasium_has_nothing_to_object_to(name: str, observation: str) -> None:
    env = made(name, observation=observation)
    check_env(env)  # warnings are errors
    check_supported(env.observation_space, "observation")


@pytest.mark.parametrize("observation", ["discrete", "box"])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_vectorised_stepper_equals_the_environments_step_for_step(
    name: str, observation: str
) -> None:
    rng = np.random.default_rng(0)
    envs = [gym.make(name, observation=observation) for _ in range(3)]
    one = envs[0].unwrapped
    assert isinstance(one, SingleEnv)
    tasks = rng.integers(one.simulator.n_tasks, size=3)
    worlds = one.simulator.with_tasks(tasks)
    seen = worlds.reset(np.random.default_rng(0))
    for i, env in enumerate(envs):
        env.reset(seed=0, options={"task": int(tasks[i])})
        single = env.unwrapped
        assert isinstance(single, SingleEnv)
        if hasattr(worlds, "position"):  # the starts of a batch are drawn together
            single.simulator.position[:] = worlds.position[i]  # type: ignore[attr-defined]
        assert np.array_equal(single.simulator.observe()[0], seen[i])
    while not worlds.ended:
        actions = rng.integers(one.action_space.n, size=3)  # type: ignore[attr-defined]
        seen, rewards = worlds.step(actions)
        for i, env in enumerate(envs):
            observation_, reward, terminated, truncated, info = env.step(actions[i])
            assert np.array_equal(observation_, seen[i])
            assert env.observation_space.contains(observation_)
            assert reward == rewards[i]
            ending = (worlds.terminates, not worlds.terminates)
            assert (terminated, truncated) == (ending if worlds.ended else (False, False))
            assert info["task"] == tasks[i]


def test_a_task_is_kept_until_a_seed_draws_another() -> None:
    env = made("LargeDarkroom-v0")
    tasks = [env.reset(seed=s)[1]["task"] for s in (0, None, None, 1, None, 0)]
    assert tasks[0] == tasks[1] == tasks[2] == tasks[5]
    assert tasks[3] == tasks[4] != tasks[0]


def test_a_given_task_survives_seeds_and_options_set_another() -> None:
    env = made("Darkroom-v0", task={"goal": (8, 1)})
    assert {env.reset(seed=s)[1]["task"] for s in range(5)} == {17}
    assert env.reset(options={"task": {"goal": [0, 0]}})[1]["task"] == 0
    assert env.reset()[1]["task"] == 17


def test_a_tmaze_draws_its_goal_anew_at_every_reset() -> None:
    env = made("PassiveTMaze-v0")
    drawn = [env.reset(seed=0 if i == 0 else None)[1]["task"] for i in range(20)]
    assert set(drawn) == {0, 1}


def test_the_optimal_action_attains_the_optimal_return() -> None:
    for name in ("Darkroom-v0", "DarkKeyToDoor-v0", "PassiveTMaze-v0"):
        env = made(name)
        env.reset(seed=3)
        claimed, total, ended = env.optimal_return, 0.0, False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(np.int64(env.optimal_action))
            total += reward
            ended = terminated or truncated
        assert total == claimed > 0


def test_a_room_is_drawn_in_letters_with_y_upwards() -> None:
    env = made("Darkroom-v0", size=3, task={"goal": (2, 1)}, render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "...\n.AG\n..."
    env.step(np.int64(2))
    assert env.render() == "...\n..@\n..."
    env.step(np.int64(1))
    assert env.render() == "..A\n..G\n..."


def test_a_key_a_door_and_a_maze_are_drawn() -> None:
    env = made("DarkKeyToDoor-v0", size=2, task={"key": (0, 0), "door": (1, 1)}, render_mode="ansi")
    env.reset(seed=0)
    drawn = env.render()
    assert isinstance(drawn, str)
    assert drawn in (".@\nK.", "AD\nK.", ".D\nKA")
    maze = made("PassiveTMaze-v0", corridor_length=2, task={"goal": -1}, render_mode="ansi")
    maze.reset()
    assert maze.render() == "##.\nA..\n##G"


def test_a_picture_shows_the_agent_where_it_is() -> None:
    env = made("Darkroom-v0", size=3, task=0, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert isinstance(before, np.ndarray)
    env.step(np.int64(2))
    after = env.render()
    assert isinstance(after, np.ndarray)
    assert before.shape == (72, 72, 3) and before.dtype == np.uint8
    moved = (before != after).any(-1)[::24, ::24]
    assert moved.tolist() == [[False] * 3, [False, True, True], [False] * 3]


def test_a_long_maze_makes_no_huge_picture() -> None:
    env = made("PassiveTMaze-v0", corridor_length=900, render_mode="rgb_array")
    env.reset()
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (3, 901, 3)


def test_registering_twice_changes_nothing() -> None:
    before = {name: gym.registry[name] for name in ENVIRONMENTS}
    register()
    assert all(gym.registry[name] is spec for name, spec in before.items())


def test_its_recorded_spec_makes_the_same_task() -> None:
    spec = gym.make("DarkKeyToDoor-v0", task={"key": (1, 2), "door": (3, 4)}).spec
    assert spec is not None
    again = gym.envs.registration.EnvSpec.from_json(spec.to_json())
    assert gym.make(again).reset(seed=0)[1] == gym.make(spec).reset(seed=0)[1]


def test_an_unknown_render_mode_or_task_is_refused() -> None:
    with pytest.raises(ValueError, match="task must be from 0 to 80"):
        gym.make("Darkroom-v0", task=81)
    for task in (1.7, "a", None):
        with pytest.raises(ValueError, match="it is a whole number, or a mapping"):
            Darkroom([0]).task_of(task)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="render_mode"):
        made("Darkroom-v0").__class__(render_mode="human")  # type: ignore[call-arg]
