"""in-context: does a system do better from episode to episode at tasks that it has never seen?"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from decision_policies import Histories, evaluate_in_context
from decision_policies.analysis import plot_in_context
from decision_policies.in_context import InContextEvaluation
from zoo.benchmark_rows import fingerprint
from zoo.benchmark_run import machine
from zoo.history_set import Recipe, make_environment, make_histories, read_split, simulator_of
from zoo.minari_writer import dataset_folder
from zoo.progress import Tick
from zoo.tables import FOLDER, Tables

from . import training
from .report import different, dress, grouped, listed, markdown, picture
from .study import Cell, Row
from .training import FIRST_SEED, Training

SUMMARY = "does a system do better from episode to episode at tasks that it has never seen?"
EXAMPLES = """\
Each system learns from the histories of a learner that searches well, at most of the tasks; then
it plays the others for many episodes on end, with the weights that it has. Actions are sampled,
since a policy explores so; a column says what the likeliest ones earn. DT forgets at the end of an
episode and is asked for about the mean optimum: it shows what can be had without learning in
context. The histories are made once, in a minute or two, and kept in the study's folder.

examples:
  two systems and the control in a tiny room:
    python -m zoo study in-context --quick
  the whole grid:
    python -m zoo study in-context
  one environment, one system, one seed:
    python -m zoo study in-context --environments darkroom-hard --algorithms DMHybrid --seeds 0
"""
TABLES = FOLDER / "in_context"
"""Tables whose blocks are environments, for this study and `recall`."""

FULL: Mapping[str, Any] = {
    "environments": ["darkroom", "darkroom-hard", "key-to-door"],
    "algorithms": ["DMHybrid", "AD-mamba", "AD-transformer", "DT"],
    "seeds": [0, 1, 2],
}
QUICK: Mapping[str, Any] = {
    "environments": ["darkroom-tiny"],
    "algorithms": ["DMHybrid", "AD-transformer", "DT"],
    "seeds": [0],
}
WORLDS: Mapping[str, Mapping[str, Any]] = {
    "darkroom": {"env_id": "Darkroom-v0", "tasks": 80, "repeats": 6, "episodes": 20},
    "darkroom-hard": {
        "env_id": "DarkroomHard-v0",
        "learner": "sweep",
        "tasks": 128,
        "repeats": 4,
        "episodes": 24,
    },
    "key-to-door": {"env_id": "DarkKeyToDoor-v0", "tasks": 256, "repeats": 2, "episodes": 20},
    "key-to-door-sweep": {
        "env_id": "DarkKeyToDoor-v0",
        "learner": "sweep",
        "tasks": 256,
        "repeats": 2,
        "episodes": 10,
    },
    "large-darkroom": {
        "env_id": "LargeDarkroom-v0",
        "learner": "rows",
        "tasks": 256,
        "repeats": 2,
        "episodes": 12,
    },
    "large-darkroom-hard": {
        "env_id": "LargeDarkroomHard-v0",
        "learner": "rows",
        "tasks": 256,
        "repeats": 2,
        "episodes": 12,
    },
    "large-key-to-door": {
        "env_id": "LargeDarkKeyToDoor-v0",
        "learner": "rows",
        "tasks": 256,
        "repeats": 1,
        "episodes": 8,
    },
    "darkroom-tiny": {
        "env_id": "Darkroom-v0",
        "tasks": 24,
        "held_out": 8,
        "repeats": 6,
        "episodes": 12,
        "options": {"size": 5, "horizon": 15},
    },
}
"""What differs from environment to environment in the recipe of its histories."""

LAST = 5
"""Episodes at the end over which the table takes a mean."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of training, and the environments."""
    training.add_arguments(parser, "width", without=["dataset"])
    parser.set_defaults(tables=TABLES)
    parser.add_argument(
        "--environments",
        nargs="+",
        choices=list(WORLDS),
        metavar="NAME",
        help=f"among {', '.join(WORLDS)} (default: {' '.join(FULL['environments'])})",
    )


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """One training for each environment, seed and system."""
    tables, root = Tables.read(arguments.tables), arguments.output / "histories"
    found = []
    for environment in arguments.environments:
        histories = recipe_of_histories(environment)
        for seed in arguments.seeds:
            for label in arguments.algorithms:
                work = Training(training.recipe_of(arguments, tables, label, environment), seed)
                names = {"environment": environment, "algorithm": label, "seed": seed}
                settings = {**work.own_settings, "histories": asdict(histories)}
                measure = partial(_measure, work, histories, root)
                found.append(Cell(names, settings, measure, work.recipe.plan.updates))
    return found


def recipe_of_histories(environment: str) -> Recipe:
    """The recipe of an environment's histories; its id changes with everything else in it.

    Args:
        environment: A key of `WORLDS`.
    """
    world = WORLDS[environment]
    recipe = Recipe(
        dataset_id="in-context/histories-v0",
        keep=world["episodes"],
        **{
            "learner": "search",
            **world,
            "options": {"observation": "box", **world.get("options", {})},
        },
    )
    name = f"{environment}-{fingerprint(asdict(recipe))}"
    return replace(recipe, dataset_id=f"in-context/{name}-v0")


def histories_folder(recipe: Recipe, root: Path) -> Path:
    """The folder of a set of histories, which is made where it is not there yet.

    Args:
        recipe: Of the set.
        root: Minari root to keep it in.
    """
    folder = dataset_folder(recipe.dataset_id, root)
    return folder if folder.exists() else make_histories(recipe, root)


def _measure(work: Training, recipe: Recipe, root: Path, tick: Tick) -> Row:
    folder = histories_folder(recipe, root)
    histories, split = Histories.from_minari(folder), read_split(folder)
    start = time.process_time()
    algorithm = work.train(histories.train, tick)
    trained = time.process_time()
    policy, plan = algorithm.policy, work.recipe.plan
    assert policy is not None, "it has been trained"
    with closing(make_environment(split.env_id, split.options)) as env:
        sampled, greedy = (
            evaluate_in_context(
                policy,
                simulator_of(env),
                split.held_out,
                plan.episodes,
                seed=FIRST_SEED,
                deterministic=deterministic,
                target_return=plan.targets[0] if policy.spec.uses_returns else None,
                trained_on=split.train,
            )
            for deterministic in (False, True)
        )
    assert sampled.optimal is not None, "simulators know what is optimal"
    return {
        "parameters": sum(p.numel() for p in policy.model.parameters()),
        "data": histories.trajectories.source.digest,
        "tasks": split.held_out,
        "sampled": sampled.returns.tolist(),
        "greedy": greedy.returns.tolist(),
        "optimal": sampled.optimal.tolist(),
        "random": sampled.random,
        "updates": algorithm.num_timesteps,
        "cpu_seconds": round(trained - start, 1),
        "playing_seconds": round(time.process_time() - trained, 1),
        "machine": machine(str(algorithm.torch_device())),
    }


def joined(rows: Sequence[Row], actions: str = "sampled") -> InContextEvaluation:
    """The evaluations of several seeds as one, whose rows are tasks: each is its mean over seeds.

    Seeds play the same tasks, so their rows are no tasks more: an interval over tasks and seeds
    alike would be too narrow.

    Args:
        rows: Of one system in one environment.
        actions: "sampled" or "greedy".
    """
    returns, optimal = (
        np.mean([np.array(row[name], np.float64) for row in rows], axis=0)
        for name in (actions, "optimal")
    )
    return InContextEvaluation(returns, optimal, rows[0]["random"])


def last_episodes(evaluation: InContextEvaluation) -> InContextEvaluation:
    """The same with the mean of the last episodes for the only one."""
    return replace(evaluation, returns=evaluation.returns[:, -LAST:].mean(1, keepdims=True))


def facts(rows: Sequence[Row]) -> str:
    """Says how the rows were made."""
    groups = grouped(rows, "environment")
    return "\n".join(_facts(environment, mine) for (environment,), mine in groups.items())


def _facts(environment: str, rows: Sequence[Row]) -> str:
    row, histories = rows[0], rows[0]["settings"]["histories"]
    said = [
        f"{environment}: {histories['repeats']} histories of {histories['learner']} at each of "
        f"{histories['tasks'] - histories['held_out']} tasks, {histories['keep']} episodes long",
        f"{listed(each['updates'] for each in rows)} updates",
        f"training seeds {listed(each['seed'] for each in rows)}",
        f"{listed(len(each['sampled'][0]) for each in rows)} episodes of each of "
        f"{len(row['tasks'])} unseen tasks, from seed {FIRST_SEED:,}",
        f"random actions earn {row['random']:.2f}, the optimum is {np.mean(row['optimal']):.2f}",
        f"{sum(each['cpu_seconds'] + each['playing_seconds'] for each in rows) / 60:.1f} CPU "
        f"minutes in all on {' and '.join(different(rows, 'machine'))}",
    ]
    return "; ".join(said) + ".\n"


def table(rows: Sequence[Row]) -> str:
    """Returns of the first and of the last episodes, and their shares of the optimum."""
    lines = []
    for (environment, label), mine in grouped(rows, "environment", "algorithm").items():
        sampled, greedy = joined(mine), last_episodes(joined(mine, "greedy"))
        late = last_episodes(sampled)
        low, high = late.interval[0]
        lines.append(
            [
                environment,
                label,
                f"{sampled.first:.2f}",
                _with_share(sampled),
                _with_share(late),
                f"{low:.2f} to {high:.2f}",
                _with_share(greedy),
                listed(row["seed"] for row in mine),
                listed(row["updates"] for row in mine),
                f"{np.mean([row['cpu_seconds'] for row in mine]) / 60:.1f}",
            ]
        )
    head = ["environment", "system", "first episode", "last episode", f"mean of the last {LAST}"]
    head += ["95 % interval of that, over tasks", f"likeliest actions, last {LAST}"]
    return markdown([*head, "seeds", "updates", "CPU minutes of a training"], lines)


def _with_share(evaluation: InContextEvaluation) -> str:
    """The last episode's return, and its share of the optimum: "15.30 (98 %)"."""
    share = evaluation.share_of_optimal
    return f"{evaluation.last:.2f}" + ("" if share is None else f" ({100 * share:.0f} %)")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Return against episode, a panel for each environment, three in a row."""
    groups = grouped(rows, "environment")
    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    with picture(path, lines, columns, (1.0 + 3.8 * columns, 3.4 * lines)) as axes:
        for ax in axes[len(groups) :]:
            ax.set_axis_off()
        for ax, ((environment,), mine) in zip(axes, groups.items(), strict=False):
            found = {label: joined(of) for (label,), of in grouped(mine, "algorithm").items()}
            first = next(iter(found))  # the same tasks for all: what is optimal is drawn once
            for label in found:
                if label != first:
                    found[label] = replace(found[label], optimal=None, random=None)
            plot_in_context(found, ax)
            ax.legend(fontsize=7, frameon=False)
            dress(ax, environment, "episode at an unseen task", "return")
