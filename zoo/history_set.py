"""Makes a Minari dataset of learning histories: tasks, learning, and what it says of itself."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from minari.data_collector import EpisodeBuffer

from decision_policies.data.minari_histories import names_histories
from decision_policies.data.minari_source import load_minari
from decision_policies.envs import ENVIRONMENTS, Simulator, SingleEnv
from zoo.collect import one_torch_thread
from zoo.history_learners import (
    LEARNERS,
    Ints,
    Learner,
    NoiseCurriculum,
    QLearning,
    Record,
    learn_dqn,
    play_history,
)
from zoo.history_search import SEARCHES
from zoo.minari_writer import Description, dataset_folder, refuse_existing, write_dataset
from zoo.progress import progress_bar

SCORE_EPISODES = 20
PACKAGES = ("gymnasium", "minari", "numpy", "stable-baselines3")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a dataset of histories contains.

    Attributes:
        env_id: one of `decision_policies.envs.ENVIRONMENTS`.
        dataset_id: Minari id, `(namespace/)name-vN`.
        learner: one of `zoo.history_learners.LEARNERS`.
        tasks: how many, drawn at random, none twice.
        held_out: how many of them are for evaluation only; they come last.
        repeats: histories of each task.
        episodes: that each learner plays.
        keep: how many of these are kept, evenly spaced, the first and the last included.
        epsilon: share of random actions at first and at last.
        options: arguments of the environment, such as `{"observation": "box"}`.
        seed: of everything.
    """

    env_id: str
    dataset_id: str
    learner: str = "q-learning"
    tasks: int = 80
    held_out: int = 16
    repeats: int = 1
    episodes: int = 2000
    keep: int = 100
    epsilon: tuple[float, float] = (1.0, 0.0)
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


def make_histories(
    recipe: Recipe, root: Path | None = None, *, overwrite: bool = False, progress: bool = False
) -> Path:
    """Makes a Minari dataset of learning histories, which `Histories.from_minari` reads.

    The same recipe gives the same arrays on the same package versions. The DQN re-seeds the global
    generators of Python, numpy and torch; the others leave them alone.

    Args:
        recipe: what to make.
        root: a Minari root; `None` for Minari's own.
        overwrite: replace a dataset of the same id.
        progress: show progress bars on a terminal, where tqdm is installed.

    Returns:
        The dataset's folder, whose `data` folder Minari reads.

    Raises:
        ValueError: for an unknown environment or learner, a malformed id, or a number out of
            range.
        FileExistsError: when the dataset exists and `overwrite` is false.
    """
    check_recipe(recipe)
    if not overwrite:
        refuse_existing(dataset_folder(recipe.dataset_id, root))
    env = make_environment(recipe.env_id, recipe.options)
    try:
        worlds = _worlds(recipe, env)
        record = _learn(recipe, env, worlds, progress)
        description = _describe(recipe, worlds, record)
        episodes = _episodes(worlds, record)
        return write_dataset(
            episodes, env, description, root, overwrite=overwrite, progress=progress
        )
    finally:
        env.close()


def check_recipe(recipe: Recipe) -> None:
    """Raises, before anything is learnt, for what is known to be wrong; see `make_histories`."""
    dataset_folder(recipe.dataset_id, None)
    if recipe.learner not in LEARNERS:
        raise ValueError(f"unknown learner {recipe.learner!r}; known are {', '.join(LEARNERS)}")
    for name in ("tasks", "repeats", "episodes", "keep"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"{name} is {getattr(recipe, name)}; it must be at least 1")
    if not 0 <= recipe.held_out < recipe.tasks:
        raise ValueError(
            f"held_out is {recipe.held_out}; of {recipe.tasks} tasks, hold out 0 to "
            f"{recipe.tasks - 1}"
        )
    if recipe.keep > recipe.episodes:
        raise ValueError(f"keep is {recipe.keep}, more than the {recipe.episodes} episodes")
    if len(recipe.epsilon) != 2 or not all(0.0 <= share <= 1.0 for share in recipe.epsilon):
        raise ValueError(f"epsilon is {recipe.epsilon}; give two shares, from 0 to 1")


def make_environment(env_id: str, options: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """An environment with these options, without a task.

    Raises:
        ValueError: when there is no such environment, or it does not take these options.
    """
    if env_id not in ENVIRONMENTS:
        known = ", ".join(ENVIRONMENTS)
        raise ValueError(f"no environment {env_id!r} with tasks; known are {known}")
    if {"task", "render_mode"} & set(options):
        raise ValueError("task and render_mode are no options of a set of histories")
    try:
        return gym.make(env_id, **options)
    except TypeError as error:
        raise ValueError(f"{env_id} does not take these options: {error}") from error


def simulator_of(env: gym.Env[Any, Any]) -> Simulator:
    """What steps one of `ENVIRONMENTS`."""
    single = env.unwrapped
    assert isinstance(single, SingleEnv), "all of ENVIRONMENTS are"
    return single.simulator


@dataclass(frozen=True)
class Split:
    """The tasks of a set of histories.

    Attributes:
        env_id: one of `decision_policies.envs.ENVIRONMENTS`.
        options: arguments of the environment.
        train: numbers of the tasks to learn from.
        held_out: numbers of the tasks that are for evaluation only.
    """

    env_id: str
    options: Mapping[str, Any]
    train: list[int]
    held_out: list[int]


def read_split(dataset: str | Path) -> Split:
    """What a set of histories says of its tasks.

    Args:
        dataset: its Minari id, or the path of its folder.

    Raises:
        ValueError: when there is no such dataset, or it does not say so.
    """
    loaded = load_minari(dataset)
    recipe = loaded.storage.metadata.get("recipe")
    if not (names_histories(loaded) and isinstance(recipe.get("env_id"), str)):
        raise ValueError(f"{dataset} is no set of histories; `python -m zoo histories` makes one")
    tasks: dict[bool, dict[int, None]] = {False: {}, True: {}}  # in their order, each once
    for history in recipe["histories"]:
        tasks[history["held_out"]][history["task"]] = None
    return Split(recipe["env_id"], recipe.get("options", {}), *map(list, tasks.values()))


def _worlds(recipe: Recipe, env: gym.Env[Any, Any]) -> Simulator:
    """A world for each history, those of a task one after the other; the held-out tasks last."""
    simulator = simulator_of(env)
    there_are = simulator.n_tasks
    if recipe.tasks > there_are:
        raise ValueError(
            f"tasks is {recipe.tasks}, but {recipe.env_id} has {there_are} with these options"
        )
    rng = np.random.default_rng((recipe.seed, 0))
    tasks = rng.choice(there_are, recipe.tasks, replace=False)
    return simulator.with_tasks(tasks.repeat(recipe.repeats))


def _learn(recipe: Recipe, env: gym.Env[Any, Any], worlds: Simulator, progress: bool) -> Record:
    """Plays all histories."""
    rng = np.random.default_rng((recipe.seed, 1))
    if recipe.learner == "dqn":
        total = recipe.episodes * worlds.n
        with one_torch_thread(), progress_bar("learning", total, progress) as tick:
            return learn_dqn(
                env, worlds.tasks, recipe.episodes, recipe.keep, recipe.epsilon, recipe.seed, tick
            )
    learner: Learner = QLearning(worlds, recipe.epsilon)
    if recipe.learner == "noise":
        learner = NoiseCurriculum(recipe.epsilon)
    elif recipe.learner in SEARCHES:
        learner = SEARCHES[recipe.learner](worlds)
    with progress_bar("learning", recipe.episodes, progress) as tick:
        return play_history(worlds, learner, recipe.episodes, recipe.keep, rng, tick)


def _episodes(worlds: Simulator, record: Record) -> list[EpisodeBuffer]:
    """The episodes of a record, a history after the other, each in the order of learning."""
    ends = np.zeros((2, worlds.horizon), np.bool_)
    ends[0 if worlds.terminates else 1, -1] = True
    return [
        EpisodeBuffer(
            options={"task": task},
            observations=record.observations[history, episode],
            actions=record.actions[history, episode],
            rewards=record.rewards[history, episode],
            terminations=ends[0],
            truncations=ends[1],
        )
        for history, task in enumerate(worlds.tasks.tolist())
        for episode in range(len(record.numbers))
    ]


def reference_scores(worlds: Simulator, seed: int) -> tuple[float, float]:
    """Mean return of random actions, and mean optimal return, over all tasks.

    Args:
        worlds: one a task.
        seed: of starts and actions.
    """
    rng = np.random.default_rng((seed, 2))
    random, optimal = 0.0, 0.0
    for _ in range(SCORE_EPISODES):
        worlds.reset(rng)
        optimal += float(worlds.optimal_returns().mean()) / SCORE_EPISODES
        while not worlds.ended:
            actions: Ints = rng.integers(worlds.action_space.n, size=worlds.n)
            random += float(worlds.step(actions)[1].mean()) / SCORE_EPISODES
    return round(random, 4), round(optimal, 4)


def _describe(recipe: Recipe, worlds: Simulator, record: Record) -> Description:
    """Words how the set was made, for readers and for programs."""
    scores = reference_scores(worlds, recipe.seed)
    versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
    tenth = max(1, len(record.numbers) // 10)
    histories = [
        {
            "task": task,
            **worlds.describe(task),
            "held_out": history >= (recipe.tasks - recipe.held_out) * recipe.repeats,
            "episodes": len(record.numbers),
            "first_tenth_return": round(float(record.returns[history, :tenth].mean()), 4),
            "last_tenth_return": round(float(record.returns[history, -tenth:].mean()), 4),
        }
        for history, task in enumerate(worlds.tasks.tolist())
    ]
    falling = f"; random actions fall from {recipe.epsilon[0]:g} to {recipe.epsilon[1]:g}"
    text = (
        f"Learning histories of {recipe.learner} at {recipe.tasks} tasks of {recipe.env_id}, "
        f"{recipe.repeats} of each, the last {recipe.held_out} tasks held out for evaluation. A "
        f"history is {len(record.numbers)} of {recipe.episodes} episodes, evenly spaced and in the "
        f"order of learning{'' if recipe.learner in SEARCHES else falling}. "
        f"Reference scores: random actions and the optimum, over all tasks. Seed {recipe.seed}. "
        "Made by `python -m zoo histories` with "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + "."
    )
    details = {
        "env_id": recipe.env_id,
        "learner": recipe.learner,
        "episodes": recipe.episodes,
        "kept": record.numbers.tolist(),
        "epsilon": list(recipe.epsilon),
        "options": dict(recipe.options),
        "seed": recipe.seed,
        "histories": histories,
        "versions": versions,
    }
    return Description(
        recipe.dataset_id, recipe.learner, text, details, *scores, SCORE_EPISODES * recipe.tasks
    )
