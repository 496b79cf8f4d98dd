"""Evaluate how a policy gets better from episode to episode at tasks that it has to find out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker
from numpy.typing import ArrayLike, NDArray

from decision_policies.envs import Simulator, SingleEnv
from decision_policies.evaluation import HasPolicy, policy_of, vector_env
from decision_policies.inputs import check_same_space
from decision_policies.policy import SequencePolicy

MakeEnv: TypeAlias = Callable[[Any], gym.Env[Any, Any]]
Flags: TypeAlias = NDArray[np.bool_]
Outcome: TypeAlias = tuple[Any, NDArray[np.float64], Flags, Flags]
"""Observations, rewards, and which rows' episodes terminated and were truncated, each (n, ...)."""

RESAMPLES = 2000
RANDOM_EPISODES = 100
"""Of uniformly random actions, in each task."""


@dataclass(frozen=True)
class InContextEvaluation:
    """Returns of consecutive episodes at each of several tasks.

    Attributes:
        returns: Undiscounted return of each episode, (tasks, episodes), in the order of playing.
        optimal: Mean return of a policy that knows the task, in the same episodes, (tasks,); None
            where it is not known.
        random: Mean return of uniformly random actions at the same tasks; None where not known.
    """

    returns: NDArray[np.float64]
    optimal: NDArray[np.float64] | None = None
    random: float | None = None

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean return over tasks of each episode, (episodes,)."""
        return np.asarray(self.returns.mean(0))

    @property
    def interval(self) -> NDArray[np.float64]:
        """95 % interval of `mean`, (episodes, 2): tasks are resampled, each with all its episodes.

        It says how far another draw of tasks may lie; of a single task it says nothing.
        """
        tasks = len(self.returns)
        rng = np.random.default_rng(0)
        drawn = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=RESAMPLES)
        means = drawn @ self.returns / tasks
        return np.asarray(np.quantile(means, [0.025, 0.975], axis=0).T)

    @property
    def first(self) -> float:
        """Mean return of the first episode."""
        return float(self.returns[:, 0].mean())

    @property
    def last(self) -> float:
        """Mean return of the last episode."""
        return float(self.returns[:, -1].mean())

    @property
    def share_of_optimal(self) -> float | None:
        """Mean return of the last episode, divided by the optimum; None without a positive one."""
        if self.optimal is None or self.optimal.mean() <= 0.0:
            return None
        return self.last / float(self.optimal.mean())

    def __str__(self) -> str:
        """Say how the first and the last episode went."""
        share = self.share_of_optimal
        of_optimal = "" if share is None else f", {share:.0%} of optimal".replace("%", " %")
        digits = 1 if np.abs(self.returns).max() >= 10 else 2
        tasks, episodes = (
            f"{n} {word}{'' if n == 1 else 's'}"
            for n, word in zip(self.returns.shape, ("task", "episode"), strict=True)
        )
        return (
            f"{self.first:.{digits}f} in the first episode, {self.last:.{digits}f} in the last"
            f"{of_optimal} ({tasks} x {episodes})"
        )


def evaluate_in_context(  # noqa: PLR0913 - as evaluate_policy
    policy: SequencePolicy | HasPolicy,
    env: str | Simulator | MakeEnv,
    tasks: Iterable[Any],
    n_episodes: int = 20,
    *,
    seed: int = 0,
    deterministic: bool = True,
    target_return: ArrayLike | None = None,
    trained_on: Iterable[Any] = (),
    on_episode: Callable[[], None] | None = None,
) -> InContextEvaluation:
    """Play several episodes of each task one after the other, and see whether returns rise.

    All tasks are played at the same time, a row each. A policy with memory over episodes
    (`spec.memory == "lifetime"`) keeps it from a row's first step to its last, and its weights
    stay as they are; any other forgets at the end of each episode, and should show a flat line.
    The policy that is passed keeps its session; the evaluation runs in a fork of it.

    Args:
        policy: The policy, or an algorithm that has one.
        env: Id of an environment that takes `task=`; or a `Simulator`, such as `Darkroom([0],
            size=7)`, whose own tasks do not matter; or a function that makes the environment of a
            task. Simulators, and the ids of `decision_policies.envs`, are stepped as arrays, and
            tell what is optimal and what random actions earn. Other environments are stepped one
            by one: the first reset of row i is seeded with `seed + i`, the following ones are not
            seeded, and the environment must keep its task over them.
        tasks: Numbers or descriptions of tasks, such as `histories.unseen.tasks`; for a function,
            whatever it takes. A task's row is seeded by its place among them.
        n_episodes: Episodes of each task.
        seed: Seeds first states and sampled actions.
        deterministic: Take the likeliest action rather than sample.
        target_return: The return to ask for, as in `reset`, one for each task; None is the policy's
            own.
        trained_on: Tasks that the policy was trained on, such as `histories.train.tasks`, and that
            must therefore not be among `tasks`.
        on_episode: Called after each finished episode of a task, for a progress bar.

    Returns:
        The returns of all episodes.

    Warns:
        UserWarning: Observations may lie beyond the bounds of the policy's own space, as in a room
            that is larger than those it was trained in.

    Raises:
        TypeError: The environment or the tasks are of a wrong kind, or the id takes no task.
        ValueError: Fewer than one episode or task, a task that does not exist or was trained on,
            a policy that is not trained, a target that is not finite, or other spaces than the
            policy's.

    References:
        Laskin et al., "In-context RL with Algorithm Distillation", arXiv 2210.14215, figure 4;
        Huang et al. (DM-H), arXiv 2406.00079.

    Example:
        >>> from decision_policies import AD, evaluate_in_context
        >>> from decision_policies.envs import Darkroom
        >>> rooms = Darkroom([0], size=5)
        >>> policy = AD(d_model=16, seed=0).make_policy(rooms.observation_space, rooms.action_space)
        >>> evaluate_in_context(policy, rooms, tasks=[3, {"goal": (1, 4)}], n_episodes=4).mean.shape
        (4,)
    """
    if type(n_episodes) is not int or n_episodes < 1:
        raise ValueError(f"n_episodes must be a whole number of at least 1, got {n_episodes!r}")
    wanted, seen = _listed(tasks, "tasks"), _listed(trained_on, "trained_on")
    if not wanted:
        raise ValueError("got no tasks: name at least one")
    actor = policy_of(policy).fork(seed=seed)
    actor.reset(target_return)
    simulator = _simulator(env, wanted[0])
    _refuse_seen(wanted, seen, simulator)
    play = partial(_play, actor, n_episodes, deterministic, on_episode)
    if simulator is not None:
        simulator = simulator.with_tasks([simulator.task_of(task) for task in wanted])
        together = _Together(simulator, seed)
        returns = play(together)
        optimal = np.mean(together.optimal, 0)
        return InContextEvaluation(returns, optimal, _random_return(simulator, seed))
    assert not isinstance(env, Simulator)
    make = partial(_make, env) if isinstance(env, str) else env
    with vector_env([partial(make, task) for task in wanted]) as envs:
        return InContextEvaluation(play(_Apart(envs, seed)))


class _Rows(Protocol):
    """Environments that are played together, a task each."""

    n: int

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Space of a row's observation."""

    @property
    def action_space(self) -> spaces.Space[Any]:
        """Space of a row's action."""

    def begin(self, rows: Flags) -> Any:
        """Begin an episode in these rows, (n,); observations of all, (n, ...)."""

    def step(self, actions: NDArray[Any]) -> Outcome:
        """Take a step in all rows."""


class _Together:
    """Rows of a simulator: all episodes begin and end together."""

    def __init__(self, simulator: Simulator, seed: int) -> None:
        self.simulator = simulator
        self.observation_space = simulator.observation_space
        self.action_space = simulator.action_space
        self.n = simulator.n
        self.seed = seed
        self.optimal: list[NDArray[np.float64]] = []
        """The largest return of each episode so far, of all rows."""

    def begin(self, rows: Flags) -> Any:
        assert rows.all(), "all of a simulator's worlds begin together"
        episode = len(self.optimal)
        observations = self.simulator.reset(np.random.default_rng((self.seed, episode)))
        self.optimal.append(self.simulator.optimal_returns())  # what can be had from the start
        return observations

    def step(self, actions: NDArray[Any]) -> Outcome:
        observations, rewards = self.simulator.step(actions)
        ended, terminates = self.simulator.ended, self.simulator.terminates
        flags = (np.full(self.n, ended and terminates), np.full(self.n, ended and not terminates))
        return observations, rewards, *flags


class _Apart:
    """Rows of a vector environment: each episode ends when it does."""

    def __init__(self, envs: VectorEnv[Any, Any, Any], seed: int) -> None:
        self.envs = envs
        self.observation_space = envs.single_observation_space
        self.action_space = envs.single_action_space
        self.n = envs.num_envs
        self.seed: int | None = seed

    def begin(self, rows: Flags) -> Any:
        observations, _ = self.envs.reset(seed=self.seed, options={"reset_mask": rows})
        self.seed = None  # another seed might draw another task
        return observations

    def step(self, actions: NDArray[Any]) -> Outcome:
        observations, rewards, terminated, truncated, _ = self.envs.step(actions)
        return observations, rewards, terminated, truncated


def _play(
    actor: SequencePolicy,
    n_episodes: int,
    deterministic: bool,
    on_episode: Callable[[], None] | None,
    rows: _Rows,
) -> NDArray[np.float64]:
    """Play the episodes of all rows, and return their returns, (n, episodes)."""
    check_same_space(rows.observation_space, actor.observation_space, "observation")
    check_same_space(rows.action_space, actor.action_space, "action")
    _warn_of_range(rows.observation_space, actor.observation_space)
    returns = np.zeros((rows.n, n_episodes))
    episode = np.zeros(rows.n, np.int64)  # the one that each row plays
    ended = np.ones(rows.n, bool)
    while (playing := episode < n_episodes).any():
        if ended.any():  # a row that is through plays on until the last one is, and is not counted
            observations = rows.begin(ended)
        actions, _ = actor.predict(observations, deterministic=deterministic)
        observations, rewards, terminated, truncated = rows.step(actions)
        actor.observe(np.where(playing, rewards, 0.0), terminated, truncated)
        returns[playing, episode[playing]] += rewards[playing]
        ended = terminated | truncated
        episode[ended] += 1
        if on_episode is not None:
            for _ in range(int((ended & playing).sum())):
                on_episode()
    return returns


def _warn_of_range(found: spaces.Space[Any], expected: spaces.Space[Any]) -> None:
    """Warn where observations may lie beyond those that the policy was made for."""
    if not isinstance(found, spaces.Box) or not isinstance(expected, spaces.Box):
        return
    bounds = (found.low, found.high, expected.low, expected.high)
    low, high, own_low, own_high = (np.asarray(x, np.float32) for x in bounds)  # rounded alike
    if (low < own_low).any() or (high > own_high).any():
        warnings.warn(
            f"observations may reach from {low.min():g} to {high.max():g}, but the policy was made "
            f"for {own_low.min():g} to {own_high.max():g}: what it has learnt may not hold there. "
            "Is it an environment of another size?",
            UserWarning,
            stacklevel=4,
        )


def _simulator(env: str | Simulator | MakeEnv, task: Any) -> Simulator | None:
    """Take an environment's simulator, where it is one of ours and nothing stands around it."""
    if isinstance(env, Simulator):
        return env
    if callable(env):
        return None
    if not isinstance(env, str):
        raise TypeError(
            "env must be an id, a Simulator, or a function that makes the environment of a task, "
            f"got {type(env).__name__}: pass lambda task: gym.make(..., task=task)"
        )
    made = inner = _make(env, task)
    while isinstance(inner, (OrderEnforcing, PassiveEnvChecker)):  # they change nothing
        inner = inner.env
    made.close()
    return inner.simulator if isinstance(inner, SingleEnv) else None


def _make(env_id: str, task: Any) -> gym.Env[Any, Any]:
    try:
        return gym.make(env_id, task=task)
    except TypeError as error:
        raise TypeError(
            f"{env_id} cannot be made with task={task!r}: pass a function that makes the "
            f"environment of a task ({error})"
        ) from error


def _listed(tasks: Iterable[Any], name: str) -> list[Any]:
    if isinstance(tasks, (str, Mapping)) or not isinstance(tasks, Iterable):
        raise TypeError(f"{name} must be a list of tasks, got {tasks!r}")
    return [task.item() if isinstance(task, np.generic) else task for task in tasks]


def _refuse_seen(tasks: Sequence[Any], seen: Sequence[Any], simulator: Simulator | None) -> None:
    """Refuse a task that was trained on, whether it is named by number or described."""
    known = list(seen) if simulator is None else [simulator.task_of(task) for task in seen]
    for task in tasks:
        if (task if simulator is None else simulator.task_of(task)) in known:
            raise ValueError(
                f"task {task!r} was trained on, so that its returns would say nothing about "
                "unseen tasks: name others"
            )


def _random_return(simulator: Simulator, seed: int) -> float:
    """Mean return of uniformly random actions at the simulator's tasks."""
    worlds = simulator.with_tasks(np.repeat(simulator.tasks, RANDOM_EPISODES))
    rng = np.random.default_rng(seed)
    worlds.reset(rng)
    total = 0.0
    while not worlds.ended:
        actions = rng.integers(worlds.action_space.n, size=worlds.n)
        total += float(worlds.step(actions)[1].sum())
    return total / worlds.n
