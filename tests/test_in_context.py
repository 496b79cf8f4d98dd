"""evaluate_in_context: many episodes of many tasks at once are those of each task alone."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import AD, DeMa, SequencePolicy, evaluate_in_context
from decision_policies.envs import Darkroom, KeyToDoor, Simulator, SingleEnv, TMaze

ROOM = Darkroom([0], size=4, horizon=6)
TASKS = [3, 14, 5, 0, 3]
EPISODES = 5


def untrained(algorithm: type[AD | DeMa], env: Any, **changes: Any) -> SequencePolicy:
    """A policy with weights so large that what it remembers decides what it does."""
    sizes = {"d_model": 16, "n_layers": 2, "context_length": 20, "seed": 3, **changes}
    policy = algorithm(**sizes).make_policy(
        env.observation_space, env.action_space, return_scale=2.0, target_return=4.0
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.ndim == 2:
                noise = torch.empty_like(parameter).normal_(generator=generator)
                parameter.add_(0.5 * noise)
    return policy


def play_alone(policy: SequencePolicy, env: gym.Env[Any, Any], seed: int, n: int) -> list[float]:
    """Play n episodes of one task, as a user would: one environment that the policy wraps."""
    actor = policy.fork()
    wrapped = actor.wrap(env)
    returns = []
    for episode in range(n):
        observation, _ = wrapped.reset(seed=None if episode else seed)
        total, over = 0.0, False
        while not over:
            action, _ = actor.predict(observation)
            observation, reward, terminated, truncated, _ = wrapped.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[NDArray[Any]]]:
    """The actions that simulators are stepped with, by the number of their worlds."""
    seen: dict[int, list[NDArray[Any]]] = {}
    step = Simulator.step

    def recorded(simulator: Simulator, actions: Any) -> Any:
        seen.setdefault(simulator.n, []).append(np.array(actions))
        return step(simulator, actions)

    monkeypatch.setattr(Simulator, "step", recorded)
    return seen


MADE: dict[str, tuple[str, dict[str, Any], Simulator]] = {
    "goals": ("Darkroom-v0", {"size": 4, "horizon": 6}, ROOM),
    "actions": (
        "DarkroomDynamic-v0",
        {"size": 3, "horizon": 7, "observation": "box"},
        Darkroom([0], 3, 7, permuted=True, observation="box"),
    ),
    "arms": (
        "PassiveTMaze-v0",
        {"corridor_length": 2, "penalty": -0.1},
        TMaze([1], 2, penalty=-0.1),
    ),
}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        (AD, {"n_heads": 2}),
        (AD, {"n_heads": 2, "inference": "window"}),
        (AD, {"backbone": "mamba", "max_ep_len": 4}),
        (AD, {"backbone": "mamba", "inference": "staggered"}),
        (DeMa, {}),
    ],
    ids=["transformer", "window", "mamba", "staggered", "forgetful"],
)
def test_tasks_played_together_are_tasks_played_alone(
    made: str, algorithm: Any, changes: dict[str, Any], executed: dict[int, list[NDArray[Any]]]
) -> None:
    env_id, options, simulator = MADE[made]
    policy = untrained(algorithm, simulator, **changes)
    tasks = [task % simulator.n_tasks for task in TASKS]
    result = evaluate_in_context(policy, simulator, tasks, EPISODES)
    together = np.array(executed.pop(5)).T  # random actions are played with more worlds
    alone = []
    for task, returns in zip(tasks, result.returns, strict=True):
        env = gym.make(env_id, **options, task=task)
        assert play_alone(policy, env, 0, EPISODES) == returns.tolist()
        alone.append(np.concatenate(executed.pop(1)))
    np.testing.assert_array_equal(together, alone)
    by_episode = together.reshape(5, EPISODES, -1)
    repeats = (by_episode == by_episode[:, :1]).all((1, 2))
    assert repeats.all() if algorithm is DeMa else not repeats.all()
    assert len(np.unique(together)) > 1


def test_an_id_of_ours_is_played_in_its_simulator(
    executed: dict[int, list[NDArray[Any]]],
) -> None:
    policy = untrained(AD, Darkroom([0]), n_heads=2)
    by_id = evaluate_in_context(policy, "Darkroom-v0", np.array([7, 60]), 3)
    assert [len(actions) for actions in executed[2]] == [2] * 60
    assert 1 not in executed
    described = [{"goal": (7, 0)}, {"goal": [6, 6]}]
    other = evaluate_in_context(policy, Darkroom([0]), described, 3)
    np.testing.assert_array_equal(by_id.returns, other.returns)
    assert by_id.optimal is not None
    assert by_id.optimal.tolist() == [20 - 7 + 1, 20 - 4 + 1]


@pytest.mark.parametrize(
    "simulator",
    [
        ROOM,
        Darkroom([0], size=4, horizon=6, hard=True),
        Darkroom([0], size=3, horizon=5, permuted=True),
        KeyToDoor([0], size=3, horizon=9),
        TMaze([0], 4),
    ],
    ids=["goals", "hard", "actions", "key to door", "arms"],
)
def test_a_policy_that_knows_the_tasks_obtains_what_is_optimal(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Simulator] = []
    with_tasks = Simulator.with_tasks

    def kept(self: Simulator, tasks: Any) -> Simulator:
        copies.append(with_tasks(self, tasks))
        return copies[-1]

    class Knowing(SequencePolicy):
        def predict(self, *_: Any, **__: Any) -> tuple[NDArray[Any], None]:
            return copies[0].optimal_actions(np.random.default_rng(0)), None

    monkeypatch.setattr(Simulator, "with_tasks", kept)
    policy = Knowing(untrained(AD, simulator, n_heads=2).model)
    result = evaluate_in_context(policy, simulator, range(2), 6)
    assert result.optimal is not None and result.optimal.min() > 0
    np.testing.assert_allclose(result.returns.mean(1), result.optimal)
    assert result.random is not None and 0 <= result.random < result.optimal.mean()


def test_random_actions_earn_their_expected_return() -> None:
    maze = TMaze([0], corridor_length=1)
    result = evaluate_in_context(untrained(AD, maze, n_heads=2), maze, [0, 1] * 20, 1)
    assert result.random == pytest.approx(1 / 16, abs=0.012)  # right, then up or down; 4000 times


def test_a_row_does_not_depend_on_the_other_rows() -> None:
    policy = untrained(AD, ROOM, n_heads=2)
    many = evaluate_in_context(policy, ROOM, [9, 2, 6, 11], EPISODES).returns
    few = evaluate_in_context(policy, ROOM, [9, 15], EPISODES).returns
    assert many[0].tolist() == few[0].tolist()
    rooms = KeyToDoor([0], size=3, horizon=9)  # starts are drawn
    policy = untrained(AD, rooms, n_heads=2)
    many = evaluate_in_context(policy, rooms, [9, 2, 6, 11], EPISODES, seed=4).returns
    few = evaluate_in_context(policy, rooms, [9, 5], EPISODES, seed=4).returns
    assert many[0].tolist() == few[0].tolist()


def test_first_states_differ_between_episodes_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[tuple[int, ...]] = []
    reset = Simulator.reset

    def recorded(simulator: Simulator, rng: np.random.Generator) -> Any:
        seen = reset(simulator, rng)
        if simulator.n == 8:
            starts.append(tuple(seen.tolist()))
        return seen

    monkeypatch.setattr(Simulator, "reset", recorded)
    rooms = KeyToDoor([0], size=9, horizon=2)
    policy = untrained(AD, rooms, n_heads=2)
    for seed in (0, 0, 1):
        evaluate_in_context(policy, rooms, range(8), 3, seed=seed)
    assert starts[:3] == starts[3:6]
    assert len(set(starts)) == 6


def test_seeds_repeat_samples_and_others_do_not() -> None:
    policy = untrained(AD, ROOM, n_heads=2)
    returns = [
        evaluate_in_context(policy, ROOM, range(16), 4, seed=s, deterministic=False).returns
        for s in (1, 1, 2)
    ]
    assert np.array_equal(returns[0], returns[1]) and not np.array_equal(returns[0], returns[2])


def test_a_room_of_another_size_is_told_of() -> None:
    policy = untrained(AD, Darkroom([0], size=4, observation="box"), n_heads=2)
    with pytest.warns(UserWarning, match=r"reach from 0 to 8, but the policy was made for 0 to 3"):
        evaluate_in_context(policy, Darkroom([0], size=9, observation="box"), [1, 2], 2)
    evaluate_in_context(policy, Darkroom([0], size=3, observation="box"), [1, 2], 2)


def test_the_policy_keeps_its_session_its_target_and_its_weights() -> None:
    policy = untrained(DeMa, ROOM)
    policy.predict(3)
    policy.observe(1.0)
    before = policy.returns_to_go
    weights = {name: value.clone() for name, value in policy.model.state_dict().items()}
    evaluate_in_context(policy, ROOM, range(16), 2, target_return=9.0)
    np.testing.assert_array_equal(policy.returns_to_go, before)
    assert float(policy.target_return) == 4.0
    for name, value in policy.model.state_dict().items():
        assert torch.equal(value, weights[name])


def test_every_episode_asks_for_the_return_that_is_given_and_counts_rewards() -> None:
    asked: list[Any] = []

    class Watched(SequencePolicy):
        def predict(self, *given: Any, **options: Any) -> tuple[NDArray[Any], None]:
            found = super().predict(*given, **options)
            asked.append(self.returns_to_go)
            return found

    policy = Watched(untrained(DeMa, ROOM).model)
    targets = np.linspace(-3, 3, 16)
    returns = evaluate_in_context(policy, ROOM, range(16), 3, target_return=targets).returns
    assert returns.max() > 1
    for episode, steps in enumerate(np.array(asked).reshape(3, ROOM.horizon, 16)):
        np.testing.assert_array_equal(steps[0], targets)
        earned = steps[0] - steps[-1]
        assert np.isin(returns[:, episode] - earned, (0, 1)).all()  # the last step is not in it


class Uneven(gym.Env[Any, Any]):
    """Episodes of 1 to 9 steps, short ones at low tasks; rewards depend on task and action."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(3, start=1)

    def __init__(self, task: int) -> None:
        self.task = task
        self.seeds: list[int | None] = []
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.left = int(self.np_random.integers(1, 3 + 3 * self.task))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.left > 0, "an environment whose episode is over must be reset"
        self.left -= 1
        over = not self.left
        reward = float(action == 1 + self.task) + 0.01 * float(self.np_random.normal())
        return self._observation(), reward, over and self.task == 1, over and self.task != 1, {}

    def close(self) -> None:
        self.closed = True

    def _observation(self) -> NDArray[np.float32]:
        return self.np_random.normal(size=2).astype(np.float32)


@pytest.mark.parametrize("algorithm", [AD, DeMa])
def test_rows_of_uneven_episodes_are_those_of_one_environment_alone(algorithm: Any) -> None:
    policy = untrained(algorithm, Uneven(0))
    made: list[Uneven] = []

    def make(task: int) -> Uneven:
        made.append(Uneven(task))
        return made[-1]

    counted: list[None] = []
    result = evaluate_in_context(
        policy, make, [0, 2, 1], 6, seed=11, on_episode=lambda: counted.append(None)
    )
    assert len(counted) == 18
    for row, task in enumerate([0, 2, 1]):
        expected = play_alone(policy, Uneven(task), 11 + row, 6)
        np.testing.assert_allclose(result.returns[row], expected, rtol=1e-12)
    assert result.optimal is None and result.random is None
    assert [env.seeds[:2] for env in made] == [[11, None], [12, None], [13, None]]
    assert len(made[0].seeds) > 6, "rows must end at different times"
    assert all(env.closed for env in made)


def test_an_environment_of_ours_with_something_around_it_is_stepped_as_it_is() -> None:
    entry = "decision_policies.envs:DarkroomEnv"
    gym.register("CutDarkroom-v0", entry, kwargs={"size": 4}, max_episode_steps=3)
    try:
        policy = untrained(AD, ROOM, n_heads=2)
        result = evaluate_in_context(policy, "CutDarkroom-v0", [2, 9], 4)
        for task, returns in zip([2, 9], result.returns, strict=True):
            env = gym.make("CutDarkroom-v0", task=task)
            assert isinstance(env.unwrapped, SingleEnv)
            assert play_alone(policy, env, 0, 4) == returns.tolist()
    finally:
        del gym.registry["CutDarkroom-v0"]
    assert result.optimal is None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_episodes": 0}, ValueError, "n_episodes must be a whole number of at least 1, got 0"),
        ({"n_episodes": 2.5}, ValueError, "n_episodes must be a whole number .* got 2.5"),
        ({"tasks": []}, ValueError, "got no tasks"),
        ({"tasks": 3}, TypeError, "tasks must be a list of tasks, got 3"),
        ({"tasks": {"goal": [1, 2]}}, TypeError, "must be a list of tasks"),
        ({"tasks": [2, 16]}, ValueError, "task must be from 0 to 15, got 16"),
        ({"tasks": [{"door": [1, 2]}]}, ValueError, r"described by \['goal'\]"),
        ({"env": "Darkroom-v0", "tasks": [81]}, ValueError, "task must be from 0 to 80, got 81"),
        ({"policy": AD()}, ValueError, "no policy yet"),
        ({"env": 7}, TypeError, "got int: pass lambda task: gym.make"),
        ({"env": "CartPole-v1"}, TypeError, "CartPole-v1 cannot be made with task=2"),
        ({"env": Darkroom([0])}, ValueError, "observation space is Discrete.81., but the policy"),
        ({"env": Uneven}, ValueError, "the observation space is Box"),
        ({"target_return": np.inf}, ValueError, "target_return must be a finite number"),
        ({"trained_on": [4, 5]}, ValueError, "task 5 was trained on"),
        ({"trained_on": [{"goal": (1, 1)}]}, ValueError, "task 5 was trained on"),
        (
            {"trained_on": [5], "tasks": [{"goal": [1, 1]}]},
            ValueError,
            r"task {'goal': \[1, 1\]} was trained on",
        ),
        ({"env": Uneven, "trained_on": np.arange(3)}, ValueError, "task 2 was trained on"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    policy = untrained(AD, ROOM, n_heads=2)
    given = {"policy": policy, "env": ROOM, "tasks": [2, 5], "trained_on": [0, 7], **changes}
    with pytest.raises(error, match=message):
        evaluate_in_context(**given)
