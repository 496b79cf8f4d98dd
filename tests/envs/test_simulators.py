"""The worlds step as their papers say, and no sequence of actions beats the optimal return."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from decision_policies.envs import Darkroom, KeyToDoor, Simulator, TMaze
from decision_policies.envs.darkroom import PERMUTATIONS
from decision_policies.envs.grid import DOWN, LEFT, RIGHT, UP, WAIT

MAZE_RIGHT, MAZE_UP, MAZE_LEFT, MAZE_DOWN = range(4)


def play(simulator: Simulator, actions: list[int]) -> tuple[list[Any], list[float]]:
    """Step the one world of a simulator; what it saw after each step, and was paid."""
    seen, rewards = [], []
    for action in actions:
        observations, paid = simulator.step([action])
        seen.append(observations[0].tolist())
        rewards.append(float(paid[0]))
    return seen, rewards


def begun(simulator: Simulator, seed: int = 0) -> Simulator:
    simulator.reset(np.random.default_rng(seed))
    return simulator


def test_darkroom_starts_in_the_middle_and_stops_at_walls() -> None:
    room = Darkroom([0], size=3, horizon=6, observation="box")
    assert room.reset(np.random.default_rng(0)).tolist() == [[1.0, 1.0]]
    seen, _ = play(room, [UP, UP, RIGHT, DOWN, LEFT, WAIT])
    assert seen == [[1, 2], [1, 2], [2, 2], [2, 1], [1, 1], [1, 1]]


def test_a_discrete_observation_is_the_number_of_the_cell() -> None:
    room = begun(Darkroom([0], size=3, horizon=3))
    assert play(room, [UP, LEFT, DOWN])[0] == [7, 6, 3]


def test_darkroom_pays_for_every_step_that_ends_on_the_goal() -> None:
    room = Darkroom([0], size=3, horizon=5)
    room.set_tasks([room.task_of({"goal": (2, 1)})])
    assert play(begun(room), [RIGHT, WAIT, RIGHT, UP, DOWN])[1] == [1, 1, 1, 0, 1]


def test_darkroom_hard_pays_once_and_goes_on() -> None:
    room = Darkroom([5], size=3, horizon=5, hard=True)
    assert play(begun(room), [RIGHT, WAIT, LEFT, RIGHT, UP])[1] == [1, 0, 0, 0, 0]
    assert room.ended


def test_darkroom_dynamic_permutes_the_actions_and_keeps_the_goal() -> None:
    room = Darkroom([0], size=3, horizon=2, permuted=True)
    room.set_tasks([room.task_of({"moves": [RIGHT, DOWN, UP, LEFT, WAIT]})])
    assert play(begun(room), [0, 1]) == ([5, 2], [0, 1])
    assert room.goals.tolist() == [[2, 0]]
    assert len(np.unique(PERMUTATIONS, axis=0)) == room.n_tasks == 120


def test_key_to_door_pays_the_key_once_and_then_the_door_once() -> None:
    room = KeyToDoor([0], size=3, horizon=6)
    room.set_tasks([room.task_of({"key": (1, 1), "door": (2, 1)})])
    begun(room)
    room.position[0] = (2, 0)
    actions = [UP, LEFT, RIGHT, WAIT, LEFT, RIGHT]  # over the door, to the key, and back
    assert play(room, actions)[1] == [0, 1, 1, 0, 0, 0]


def test_key_to_door_starts_anywhere_but_on_the_key() -> None:
    room = KeyToDoor(np.full(400, 7), size=3)
    room.reset(np.random.default_rng(0))
    keys = room.cells(room.keys)
    assert set(room.cells(room.position).tolist()) == set(range(9)) - {int(keys[0])}


def test_tmaze_shows_its_goal_at_the_first_step_only_and_pays_at_the_last() -> None:
    maze = TMaze([1], corridor_length=2)
    assert maze.reset(np.random.default_rng(0)).tolist() == [[0, 1]]
    seen, rewards = play(maze, [MAZE_RIGHT, MAZE_RIGHT, MAZE_UP])
    assert seen == [[0, 0], [1, 0], [1, 1]]
    assert rewards == [0, 0, 1]
    assert maze.ended and maze.terminates


def test_tmaze_hides_its_goal_from_an_agent_that_stays_at_the_start() -> None:
    maze = begun(TMaze([0], corridor_length=3, observation="discrete"))
    assert play(maze, [MAZE_LEFT, MAZE_UP, MAZE_DOWN])[0] == [1, 1, 1]


def test_tmaze_pays_nothing_in_the_wrong_arm_and_a_penalty_for_falling_behind() -> None:
    wrong = begun(TMaze([0], corridor_length=1))
    assert play(wrong, [MAZE_RIGHT, MAZE_UP])[1] == [0, 0]
    late = begun(TMaze([0], corridor_length=2, penalty=-0.5))
    assert play(late, [MAZE_RIGHT, MAZE_LEFT, MAZE_RIGHT])[1] == [0, -0.5, 0]


FAMILIES = {
    "darkroom": Darkroom([0], size=4, horizon=5),
    "hard": Darkroom([0], size=4, horizon=5, hard=True),
    "dynamic": Darkroom([0], size=5, horizon=5, permuted=True),
    "key to door": KeyToDoor([0], size=3, horizon=5),
    "T-maze": TMaze([0], corridor_length=3),
    "T-maze with penalty": TMaze([0], corridor_length=4, penalty=-0.25),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_of_all_action_sequences_has_the_optimal_return(family: str) -> None:
    one = FAMILIES[family]
    assert isinstance(one.action_space.n, np.integer)
    sequences = np.array(list(itertools.product(range(int(one.action_space.n)), repeat=5)))
    for task in np.random.default_rng(0).integers(one.n_tasks, size=12):
        worlds = one.with_tasks(np.full(len(sequences), task))
        worlds.reset(np.random.default_rng(1))
        if isinstance(worlds, KeyToDoor):
            worlds.position[:] = worlds.position[0]
        claimed = worlds.optimal_returns()[0]
        total = np.zeros(len(sequences))
        for step in range(one.horizon):
            # What is left to gain never grows by more than a step pays for.
            before = worlds.optimal_returns()
            rewards = worlds.step(sequences[:, step])[1]
            assert (rewards + worlds.optimal_returns() <= before + 1e-12).all()
            total += rewards
        assert total.max() == claimed


LARGE = {
    "darkroom": Darkroom([0], 40, 200),
    "hard": Darkroom([0], 17, hard=True),
    "dynamic": Darkroom([0], permuted=True),
    "key to door": KeyToDoor([0]),
    "T-maze": TMaze([0], 200, penalty=-0.005),
}


@pytest.mark.parametrize("family", LARGE)
def test_the_optimal_policy_attains_the_optimal_return_and_random_ones_do_not_pass_it(
    family: str,
) -> None:
    rng = np.random.default_rng(2)
    one = LARGE[family]
    worlds = one.with_tasks(rng.integers(one.n_tasks, size=50))
    returns = {}
    for name in ("optimal", "random"):
        worlds.reset(rng)
        best, returns[name] = worlds.optimal_returns(), np.zeros(50)
        while not worlds.ended:
            actions = worlds.optimal_actions(rng)
            if name == "random":
                actions = rng.integers(one.action_space.n, size=50)
            returns[name] += worlds.step(actions)[1]
            assert (worlds.states() < one.n_states).all()
        if name == "optimal":
            np.testing.assert_array_equal(returns[name], best)
        else:
            assert (returns[name] <= best).all()
    assert returns["random"].mean() < returns["optimal"].mean()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_task_and_its_description_name_each_other(family: str) -> None:
    one = FAMILIES[family]
    words = [one.describe(task) for task in range(one.n_tasks)]
    assert [one.task_of(word) for word in words] == list(range(one.n_tasks))
    assert len({str(word) for word in words}) == one.n_tasks


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_markov_states_have_equal_futures(family: str) -> None:
    one = FAMILIES[family]
    rng = np.random.default_rng(3)
    worlds = one.with_tasks(np.full(500, one.n_tasks - 1))
    worlds.reset(rng)
    for _ in range(3):
        worlds.step(rng.integers(one.action_space.n, size=500))
    states, best = worlds.states(), worlds.optimal_returns()
    assert len(set(zip(states.tolist(), best.tolist(), strict=True))) == len(np.unique(states))


def test_worlds_in_one_batch_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(4)
    tasks, actions = rng.integers(81, size=6), rng.integers(5, size=(20, 6))
    together = begun(Darkroom(tasks, hard=True))
    rewards = np.array([together.step(row)[1] for row in actions])
    for world, task in enumerate(tasks):
        alone = begun(Darkroom([task], hard=True))
        assert play(alone, actions[:, world].tolist())[1] == rewards[:, world].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_before_the_first_reset_there_is_nothing_to_gain(family: str) -> None:
    worlds = FAMILIES[family].with_tasks([1, 0, 1])
    assert worlds.ended
    assert worlds.optimal_returns().tolist() == [0.0, 0.0, 0.0]
    assert len(worlds.observe()) == len(worlds.states()) == 3


def test_mistakes_are_named() -> None:
    room = Darkroom([0], size=3)
    with pytest.raises(RuntimeError, match="call reset"):
        room.step([0])
    begun(room)
    for wrong in ([5], [-1], [0, 0], [0.5]):
        with pytest.raises(ValueError, match="actions"):
            room.step(wrong)
    for task in ({"goal": (3, 0)}, {"goal": 3}, {"door": (0, 0)}, 9, -1):
        with pytest.raises(ValueError, match=r"goal|task"):
            room.task_of(task)
    with pytest.raises(ValueError, match="different cells"):
        KeyToDoor([0]).task_of({"key": (1, 1), "door": (1, 1)})
    with pytest.raises(ValueError, match="0 to 4"):
        Darkroom([0], permuted=True).task_of({"moves": [0, 0, 1, 2, 3]})
    with pytest.raises(ValueError, match="from 0 to 8"):
        room.set_tasks([9])
    with pytest.raises(ValueError, match=r"size must be a whole number of at least 2, got 2\.5"):
        Darkroom([0], size=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="corridor_length must be a whole number of at least 1"):
        TMaze([0], 0)
    with pytest.raises(ValueError, match="penalty"):
        TMaze([0], penalty=0.1)
    with pytest.raises(ValueError, match="observation"):
        Darkroom([0], observation="pixels")  # type: ignore[arg-type]
