"""`python -m zoo collect`: rolls a Stable-Baselines3 agent out into a small Minari dataset."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import gymnasium as gym
import minari
import torch
from minari.data_collector import EpisodeBuffer
from stable_baselines3.common.base_class import BaseAlgorithm

from zoo.minari_writer import Description, dataset_folder, refuse_existing, write_dataset
from zoo.rollout import Summary, behaviours, play_blocks, reference_scores
from zoo.sb3_agents import (
    ALGORITHMS,
    Env,
    Stage,
    agent_zip,
    algorithm_class,
    load_agent,
    train_agent,
)

PACKAGES = ("gymnasium", "h5py", "minari", "numpy", "stable-baselines3", "torch")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a collected dataset contains.

    Attributes:
        env_id: Gymnasium id of the environment.
        dataset_id: Minari id, `(namespace/)name-vN`.
        algorithm: a key of `zoo.sb3_agents.ALGORITHMS`.
        agent: a zip saved by Stable-Baselines3, or `None` to train on the spot.
        train_steps: environment steps of on-the-spot training.
        snapshots: agents taken evenly during training, the final one included.
        epsilons: probabilities of a random action at each step, in [0, 1]. Each makes one block
            per snapshot; 1 is the random policy and makes one block in all.
        steps: environment steps of the dataset. The blocks play the same number of episodes (or
            one more), at least one each and to its end, so that the set is somewhat longer.
        seed: of training, of the environment and of the random actions.
        score_episodes: episodes behind each of the two reference scores.
    """

    env_id: str
    dataset_id: str
    algorithm: str = "ppo"
    agent: Path | None = None
    train_steps: int = 24_000
    snapshots: int = 4
    epsilons: tuple[float, ...] = (1.0, 0.4, 0.2, 0.0)
    steps: int = 15_000
    seed: int = 0
    score_episodes: int = 20


def collect(
    recipe: Recipe, root: Path | None = None, *, overwrite: bool = False, progress: bool = False
) -> Path:
    """Makes a Minari dataset: trains or loads an agent, rolls it out, writes and verifies.

    Torch runs on the CPU in one thread, and the global generators of Python, numpy and torch are
    re-seeded, so that the same recipe gives the same arrays on the same package versions. The
    episodes are held in memory until they are written.

    Args:
        recipe: what to collect.
        root: a Minari root; `None` for Minari's own.
        overwrite: replace a dataset of the same id.
        progress: show progress bars on a terminal, where tqdm is installed.

    Returns:
        The dataset's folder, whose `data` folder Minari reads.

    Raises:
        ValueError: for an unknown algorithm, a malformed id, a number out of range, or an agent
            that does not fit the environment.
        FileNotFoundError: when there is no such agent zip.
        FileExistsError: when the dataset exists and `overwrite` is false.
    """
    check_recipe(recipe)
    if not overwrite:
        refuse_existing(dataset_folder(recipe.dataset_id, root))
    try:
        env = gym.make(recipe.env_id)
    except gym.error.Error as error:
        raise ValueError(f"no environment {recipe.env_id!r}: {error}") from error
    try:
        with one_torch_thread():
            episodes, description = _play_and_describe(recipe, env, progress)
        return write_dataset(
            episodes, env, description, root, overwrite=overwrite, progress=progress
        )
    finally:
        env.close()


def _play_and_describe(
    recipe: Recipe, env: Env, progress: bool
) -> tuple[list[EpisodeBuffer], Description]:
    """Everything between the checks and the disk."""
    agent, stages = _agent_and_stages(recipe, env, progress)
    blocks = behaviours(recipe.algorithm, stages, recipe.epsilons)
    episodes, summaries = play_blocks(
        agent, blocks, env, recipe.steps, recipe.seed, progress=progress
    )
    agent.policy.load_state_dict(stages[-1][1])
    scores = reference_scores(
        agent, env, recipe.score_episodes, recipe.seed, limit=recipe.steps, progress=progress
    )
    return episodes, _describe(recipe, agent.num_timesteps, summaries, scores)


def check_recipe(recipe: Recipe) -> None:
    """Raises, before anything is trained, for what is known to be wrong; see `collect`."""
    dataset_folder(recipe.dataset_id, None)
    algorithm_class(recipe.algorithm)
    if recipe.agent is not None:
        agent_zip(recipe.agent)
    for name in ("train_steps", "snapshots", "steps", "score_episodes"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"{name} is {getattr(recipe, name)}; it must be at least 1")
    if recipe.snapshots > recipe.train_steps:
        raise ValueError(
            f"snapshots is {recipe.snapshots}, more than the {recipe.train_steps} training steps"
        )
    if not recipe.epsilons or not all(0.0 <= epsilon <= 1.0 for epsilon in recipe.epsilons):
        raise ValueError(f"epsilons are {recipe.epsilons}; give probabilities, from 0 to 1")


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Makes sums, and so the data, independent of the machine's number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _agent_and_stages(
    recipe: Recipe, env: Env, progress: bool
) -> tuple[BaseAlgorithm, list[Stage]]:
    """Loads the agent that the recipe names, or trains one."""
    if recipe.agent is not None:
        return load_agent(recipe.algorithm, recipe.agent, env)
    return train_agent(
        recipe.algorithm, env, recipe.train_steps, recipe.snapshots, recipe.seed, progress=progress
    )


def _describe(
    recipe: Recipe, trained_steps: int, blocks: list[Summary], scores: tuple[float, float]
) -> Description:
    """Words how the set was made, for readers and for programs."""
    source = "loaded from a zip, trained" if recipe.agent else "trained on the spot"
    versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
    played = "; ".join(
        f"{block['behaviour']} ({block['episodes']} episodes, mean return {block['return_mean']:g})"
        for block in blocks
    )
    text = (
        f"{recipe.env_id} played by a Stable-Baselines3 {recipe.algorithm.upper()} agent, {source} "
        f"for {trained_steps} steps. Actions are sampled from the agent's policy or, with "
        "probability epsilon, from the action space. Whole episodes in blocks, weakest first: "
        f"{played}. Seed {recipe.seed}. Made by `python -m zoo collect` with "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + "."
    )
    details = {
        "env_id": recipe.env_id,
        "algorithm": recipe.algorithm,
        "train_steps": None if recipe.agent else recipe.train_steps,
        "trained_steps": trained_steps,
        "snapshots": 1 if recipe.agent else recipe.snapshots,
        "epsilons": list(recipe.epsilons),
        "steps": recipe.steps,
        "seed": recipe.seed,
        "blocks": blocks,
        "versions": versions,
    }
    return Description(
        recipe.dataset_id, recipe.algorithm, text, details, *scores, recipe.score_episodes
    )


EXAMPLES = """\
The set is made of blocks, weakest first: every snapshot of the agent at every epsilon. The blocks
take turns, an episode each, until the steps are spent, so that high returns are not rare.

examples:
  train PPO on the spot and keep what it did on the way (about 15 seconds):
    python -m zoo collect --env CartPole-v1 --dataset cartpole/mixed-v0
  roll out an agent of your own:
    python -m zoo collect --env Pendulum-v1 --algo sac --agent sac-pendulum.zip \\
        --dataset pendulum/expert-v0 --epsilon 0.2 0 --steps 20000 --output data
  then:
    MINARI_DATASETS_PATH=data minari show pendulum/expert-v0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `collect` to its parser."""
    add = parser.add_argument
    add("--env", required=True, metavar="ID", help="Gymnasium id, such as CartPole-v1")
    add("--dataset", required=True, metavar="ID", help="Minari id: (namespace/)name-vN")
    known = ", ".join(ALGORITHMS)
    add("--algo", default="ppo", metavar="NAME", help=f"one of {known} (default: %(default)s)")
    add(
        "--agent",
        type=Path,
        metavar="ZIP",
        help="an agent saved by Stable-Baselines3, instead of training one. Such a zip runs code "
        "when it is read: name only files you trust",
    )
    _add_numbers(parser)
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="Minari root to write to (default: MINARI_DATASETS_PATH or ~/.minari/datasets)",
    )
    add("--overwrite", action="store_true", help="replace a dataset of the same id")
    add("--quiet", action="store_true", help="no progress bars, no summary")


def _add_numbers(parser: argparse.ArgumentParser) -> None:
    """Adds the options that are numbers, with the defaults of `Recipe`."""
    for option, default, text in (
        ("--train-steps", Recipe.train_steps, "environment steps of on-the-spot training"),
        ("--snapshots", Recipe.snapshots, "agents taken evenly during training, the last included"),
        ("--steps", Recipe.steps, "environment steps of the dataset"),
        ("--seed", Recipe.seed, "of training, environment and random actions"),
        ("--score-episodes", Recipe.score_episodes, "episodes behind each reference score"),
    ):
        parser.add_argument(
            option, type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    parser.add_argument(
        "--epsilon",
        type=float,
        nargs="+",
        default=list(Recipe.epsilons),
        metavar="P",
        help="probabilities of a random action, a block per snapshot each; 1 is the random policy "
        f"(default: {' '.join(f'{p:g}' for p in Recipe.epsilons)})",
    )


def run(arguments: argparse.Namespace) -> None:
    """Collects what the command line asks for, and sums it up."""
    recipe = Recipe(
        env_id=arguments.env,
        dataset_id=arguments.dataset,
        algorithm=arguments.algo,
        agent=arguments.agent,
        train_steps=arguments.train_steps,
        snapshots=arguments.snapshots,
        epsilons=tuple(arguments.epsilon),
        steps=arguments.steps,
        seed=arguments.seed,
        score_episodes=arguments.score_episodes,
    )
    folder = collect(
        recipe, arguments.output, overwrite=arguments.overwrite, progress=not arguments.quiet
    )
    if not arguments.quiet:
        _report(folder)


def _report(folder: Path) -> None:
    """Prints where the set is, its blocks and its reference scores."""
    metadata = minari.MinariDataset(folder / "data").storage.metadata
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    for block in metadata["recipe"]["blocks"]:
        print(
            f"{block['behaviour']:<40} {block['episodes']:4d} episodes, "
            f"return {block['return_mean']:9.2f} ({block['return_min']:g} to "
            f"{block['return_max']:g})"
        )
    print(
        f"{folder}: {metadata['total_steps']} steps, {metadata['total_episodes']} episodes, "
        f"{size / 1000:.0f} kB; random policy {metadata['ref_min_score']:g}, "
        f"agent {metadata['ref_max_score']:g}"
    )
