"""`python -m zoo histories`: lets learners learn many tasks, and keeps how they did, in order."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import minari
import numpy as np

from decision_policies.data.minari_source import load_minari
from decision_policies.envs import ENVIRONMENTS
from zoo.history_learners import LEARNERS
from zoo.history_search import SEARCHES
from zoo.history_set import Recipe, make_histories

EXAMPLES = """\
Each history is one learner's way from random to good actions at one task. Tasks that are held out
come last; a policy that learns in context is trained on the others.

examples:
  tabular Q-learning at 80 goals of the Darkroom (half a minute):
    python -m zoo histories --env Darkroom-v0 --dataset darkroom/q-learning-v0
  a learner that searches the room well, 20 times for each goal, observed as (x, y):
    python -m zoo histories --env Darkroom-v0 --learner search --repeats 20 --episodes 20 \\
        --option observation=box --dataset darkroom/search-v0
  the optimal policy with ever less noise, in rooms of 40 x 40 cells, observed as (x, y):
    python -m zoo histories --env LargeDarkroom-v0 --learner noise --episodes 100 \\
        --option observation=box --dataset darkroom/large-noise-v0
  optimal episodes of a T-maze with a corridor of 50 steps:
    python -m zoo histories --env PassiveTMaze-v0 --learner noise --epsilon 0 0 --tasks 2 \\
        --held-out 0 --episodes 100 --option corridor_length=50 --dataset tmaze/optimal-v0
  then, in Python:
    Histories.from_minari("darkroom/q-learning-v0").train
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `histories` to its parser."""
    add = parser.add_argument
    add("--env", required=True, metavar="ID", help=f"one of {', '.join(ENVIRONMENTS)}")
    add("--dataset", required=True, metavar="ID", help="Minari id: (namespace/)name-vN")
    known = ", ".join(LEARNERS)
    add("--learner", default=Recipe.learner, metavar="NAME", help=f"one of {known}")
    for option, default, text in (
        ("--tasks", Recipe.tasks, "tasks, drawn at random"),
        ("--held-out", Recipe.held_out, "how many of these tasks are for evaluation only"),
        ("--repeats", Recipe.repeats, "histories of each task"),
        ("--episodes", Recipe.episodes, "that each learner plays"),
        ("--seed", Recipe.seed, "of everything"),
    ):
        add(option, type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    text = "how many of these episodes are kept, evenly spaced (default: 100, or all if fewer)"
    add("--keep", type=int, metavar="N", help=text)
    add(
        "--epsilon",
        type=float,
        nargs=2,
        default=Recipe.epsilon,
        metavar=("FIRST", "LAST"),
        help="share of random actions at first and at last (default: 1 0); not in a search",
    )
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument of the environment, such as observation=box; may be repeated",
    )
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="Minari root to write to (default: MINARI_DATASETS_PATH or ~/.minari/datasets)",
    )
    add("--overwrite", action="store_true", help="replace a dataset of the same id")
    add("--quiet", action="store_true", help="no progress bars, no summary")


def parse_options(words: list[str], option: str = "--option") -> dict[str, Any]:
    """Reads `NAME=VALUE` words of an option; a value that is no JSON is text.

    Raises:
        ValueError: when a word has no `=`.
    """
    options = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ValueError(f"{option} {word!r} is not of the form NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def command_of(dataset: str | Path) -> str:
    """The command line that makes a set of histories, read from what the set says of itself.

    Args:
        dataset: its Minari id, or the path of its folder; made by `python -m zoo histories`.
    """
    loaded = load_minari(dataset)
    said = loaded.storage.metadata["recipe"]
    histories: list[Mapping[str, Any]] = said["histories"]
    tasks = {history["task"] for history in histories}
    held_out = {history["task"] for history in histories if history["held_out"]}
    words = ["--env", said["env_id"], "--learner", said["learner"], "--tasks", len(tasks)]
    words += ["--held-out", len(held_out), "--repeats", len(histories) // len(tasks)]
    words += ["--episodes", said["episodes"], "--keep", len(said["kept"]), "--seed", said["seed"]]
    if said["learner"] not in SEARCHES:
        words += ["--epsilon", *said["epsilon"]]
    for name, value in said["options"].items():
        text = value if isinstance(value, str) else json.dumps(value)
        words += ["--option", f"{name}={text}"]
    return f"python -m zoo histories {shlex.join(map(str, [*words, '--dataset', loaded.id]))}"


def run(arguments: argparse.Namespace) -> None:
    """Makes what the command line asks for, and sums it up."""
    keep = arguments.keep
    recipe = Recipe(
        env_id=arguments.env,
        dataset_id=arguments.dataset,
        learner=arguments.learner,
        tasks=arguments.tasks,
        held_out=arguments.held_out,
        repeats=arguments.repeats,
        episodes=arguments.episodes,
        keep=min(Recipe.keep, arguments.episodes) if keep is None else keep,
        epsilon=tuple(arguments.epsilon),
        options=parse_options(arguments.option),
        seed=arguments.seed,
    )
    folder = make_histories(
        recipe, arguments.output, overwrite=arguments.overwrite, progress=not arguments.quiet
    )
    if not arguments.quiet:
        _report(folder)


def _report(folder: Path) -> None:
    """Prints where the set is, and how much its learners learnt."""
    metadata = minari.MinariDataset(folder / "data").storage.metadata
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    for held_out in (False, True):
        part = [h for h in metadata["recipe"]["histories"] if h["held_out"] == held_out]
        if part:
            first, last = (
                np.mean([history[f"{end}_tenth_return"] for history in part])
                for end in ("first", "last")
            )
            print(
                f"{'held out' if held_out else 'to learn':<9}{len(part):4d} histories, mean "
                f"return {first:.2f} in their first tenth, {last:.2f} in their last"
            )
    print(
        f"{folder}: {metadata['total_steps']} steps, {metadata['total_episodes']} episodes, "
        f"{size / 1e6:.1f} MB; random actions {metadata['ref_min_score']:g}, "
        f"optimum {metadata['ref_max_score']:g}"
    )
