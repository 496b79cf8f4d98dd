"""Learners whose whole histories are kept: Q-learning, ever less noise, and SB3's DQN."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import stable_baselines3 as sb3

from decision_policies.envs import Simulator, SingleEnv
from zoo.progress import Tick

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
LEARNERS = ("q-learning", "noise", "search", "sweep", "rows", "dqn")


@dataclass(frozen=True)
class Record:
    """The episodes that were kept of H histories, E of each, T steps long.

    Attributes:
        observations: [H, E, T + 1, ...].
        actions: [H, E, T], int64.
        rewards: [H, E, T], float64.
        numbers: [E], which episodes of the learner's they are, counted from 0.
    """

    observations: npt.NDArray[Any]
    actions: Ints
    rewards: Floats
    numbers: Ints

    @property
    def returns(self) -> Floats:
        """Return of each episode, [H, E]."""
        return np.asarray(self.rewards.sum(-1), np.float64)


def blank_record(worlds: Simulator, episodes: int, keep: int) -> Record:
    """A record to be filled.

    Args:
        worlds: one a history.
        episodes: of each learner.
        keep: how many of them to keep, evenly spaced, the first and the last included.
    """
    numbers = np.unique(np.linspace(0, episodes - 1, keep).round().astype(np.int64))
    shape = (worlds.n, len(numbers), worlds.horizon)
    space = worlds.observation_space
    return Record(
        observations=np.zeros((*shape[:2], shape[2] + 1, *(space.shape or ())), space.dtype),
        actions=np.zeros(shape, np.int64),
        rewards=np.zeros(shape),
        numbers=numbers,
    )


class Learner(Protocol):
    """Acts in n worlds at once and learns from each for itself."""

    def act(self, worlds: Simulator, share: float, rng: np.random.Generator) -> Ints:
        """Actions [n], when a share from 0 to 1 of all episodes is over."""

    def learn(self, before: Ints, actions: Ints, rewards: Floats, worlds: Simulator) -> None:
        """Take in a step: the states [n] before it, and the worlds after it."""


class QLearning:
    """Tabular Q-learning, a table for each world, with a falling share of random actions.

    The table's rows are `Simulator.states`: the cell, and what this episode's rewards have told.
    Where an episode is truncated rather than terminated, the value of its last state counts.

    Args:
        worlds: what to learn.
        epsilon: share of random actions at first and at last; it falls evenly over the first 55 %
            of the episodes.
        rate: step size of the table's entries.
        discount: of the next state's value.
    """

    def __init__(
        self,
        worlds: Simulator,
        epsilon: tuple[float, float] = (1.0, 0.0),
        rate: float = 0.1,
        discount: float = 0.9,
    ) -> None:
        self.values = np.zeros((worlds.n, worlds.n_states, int(worlds.action_space.n)))
        self.epsilon, self.rate, self.discount = epsilon, rate, discount
        self.rows = np.arange(worlds.n)

    def act(self, worlds: Simulator, share: float, rng: np.random.Generator) -> Ints:
        """See `Learner.act`; of equal values, one at random."""
        values = self.values[self.rows, worlds.states()]
        ties = np.where(values == values.max(1, keepdims=True), rng.random(values.shape), -1.0)
        return sometimes_random(ties.argmax(1), falling(self.epsilon, share / 0.55), worlds, rng)

    def learn(self, before: Ints, actions: Ints, rewards: Floats, worlds: Simulator) -> None:
        """See `Learner.learn`."""
        following = self.values[self.rows, worlds.states()].max(1)
        if worlds.ended and worlds.terminates:
            following[:] = 0.0
        old = self.values[self.rows, before, actions]
        target = rewards + self.discount * following
        self.values[self.rows, before, actions] = old + self.rate * (target - old)


class NoiseCurriculum:
    """The optimal policy with ever fewer random actions, which needs no learning.

    Args:
        epsilon: share of random actions at first and at last; it falls evenly over the first 90 %
            of the episodes. (0, 0) makes optimal episodes only.

    References:
        Zisman et al., "Emergence of In-Context RL from Noise Distillation", arXiv 2312.12275.
    """

    def __init__(self, epsilon: tuple[float, float] = (1.0, 0.0)) -> None:
        self.epsilon = epsilon

    def act(self, worlds: Simulator, share: float, rng: np.random.Generator) -> Ints:
        """See `Learner.act`."""
        epsilon = falling(self.epsilon, share / 0.9)
        return sometimes_random(worlds.optimal_actions(rng), epsilon, worlds, rng)

    def learn(self, before: Ints, actions: Ints, rewards: Floats, worlds: Simulator) -> None:
        """Nothing is learnt."""


def falling(epsilon: tuple[float, float], share: float) -> float:
    """The share of random actions on the way, of which a share of 0 or more has been gone."""
    first, last = epsilon
    return first + (last - first) * min(share, 1.0)


def sometimes_random(
    actions: Ints, epsilon: float, worlds: Simulator, rng: np.random.Generator
) -> Ints:
    """Replaces actions [n] by uniformly drawn ones, each with probability epsilon."""
    drawn = rng.integers(worlds.action_space.n, size=worlds.n)
    return np.where(rng.random(worlds.n) < epsilon, drawn, actions)


def play_history(
    worlds: Simulator,
    learner: Learner,
    episodes: int,
    keep: int,
    rng: np.random.Generator,
    tick: Tick,
) -> Record:
    """Plays all episodes of all histories, the histories side by side.

    Args:
        worlds: one a history.
        learner: acts and learns in all of them.
        episodes: of each history.
        keep: see `blank_record`.
        rng: draws everything.
        tick: told each episode.

    Returns:
        The episodes that were kept, in the order of learning.
    """
    record = blank_record(worlds, episodes, keep)
    places = {int(number): place for place, number in enumerate(record.numbers)}
    for episode in range(episodes):
        observations = worlds.reset(rng)
        place = places.get(episode)
        if place is not None:
            record.observations[:, place, 0] = observations
        while not worlds.ended:
            time, before = worlds.time, worlds.states()
            actions = learner.act(worlds, episode / max(episodes - 1, 1), rng)
            observations, rewards = worlds.step(actions)
            learner.learn(before, actions, rewards, worlds)
            if place is not None:
                record.observations[:, place, time + 1] = observations
                record.actions[:, place, time] = actions
                record.rewards[:, place, time] = rewards
        tick(1)
    return record


def learn_dqn(
    env: gym.Env[Any, Any],
    tasks: Ints,
    episodes: int,
    keep: int,
    epsilon: tuple[float, float],
    seed: int,
    tick: Tick,
) -> Record:
    """Trains Stable-Baselines3's DQN on one task after another, and keeps what it did.

    It re-seeds the global generators of Python, numpy and torch, as Stable-Baselines3 does.

    Args:
        env: what to learn, without a task.
        tasks: [H].
        episodes: of each history.
        keep: see `blank_record`.
        epsilon: share of random actions at first and at last; falls over the first 55 %.
        seed: of the first history; the next ones count up.
        tick: told each episode.

    Returns:
        The episodes that were kept, in the order of learning.
    """
    single = env.unwrapped
    assert isinstance(single, SingleEnv), "the verb has checked it"
    record = blank_record(single.simulator.with_tasks(tasks), episodes, keep)
    for history, task in enumerate(tasks.tolist()):
        recorder = _Recorder(copy.deepcopy(single), task, record, history, tick)
        steps = episodes * single.simulator.horizon
        agent = sb3.DQN(
            "MlpPolicy",
            recorder,
            learning_rate=1e-3,
            buffer_size=min(steps, 50_000),
            learning_starts=min(steps // 10, 1000),
            gamma=0.9,
            target_update_interval=500,
            exploration_fraction=0.55,
            exploration_initial_eps=epsilon[0],
            exploration_final_eps=epsilon[1],
            seed=seed + history,
            device="cpu",
        )
        agent.learn(steps)
    return record


class _Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Stays at one task, and writes the episodes to be kept into one history of a record."""

    def __init__(self, env: SingleEnv, task: int, record: Record, history: int, tick: Tick) -> None:
        super().__init__(env)
        self.task, self.record, self.history, self.tick = task, record, history, tick
        self.places = {int(number): place for place, number in enumerate(record.numbers)}
        self.episode, self.time = -1, 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begins the next episode, at the same task."""
        options["options"] = {"task": self.task}
        observation, info = self.env.reset(**options)
        self.episode, self.time = self.episode + 1, 0
        if self.episode in self.places:
            self.record.observations[self.history, self.places[self.episode], 0] = observation
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes a step, and writes it down."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self.episode in self.places:
            place = self.history, self.places[self.episode]
            self.record.observations[(*place, self.time + 1)] = observation
            self.record.actions[(*place, self.time)] = action
            self.record.rewards[(*place, self.time)] = reward
        self.time += 1
        if terminated or truncated:
            self.tick(1)
        return observation, reward, terminated, truncated, info
