"""recall: through how long a corridor does a system remember what it saw at the start?"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from decision_policies import Histories, Trajectories, evaluate_in_context
from decision_policies.envs import TMaze
from zoo.benchmark_run import machine
from zoo.progress import Tick
from zoo.results_chart import INK
from zoo.tables import Tables

from . import training
from .in_context import TABLES
from .report import (
    PALETTE,
    different,
    dress,
    grouped,
    line_over_seeds,
    listed,
    markdown,
    over_seeds,
    picture,
)
from .study import Cell, Row
from .training import FIRST_SEED, Training

SUMMARY = "through how long a corridor does a system remember what it saw at the start?"
EXAMPLES = """\
In a passive T-maze the first observation tells which arm will pay; the corridor tells nothing, and
one step too many or a wrong turn at its end pays nothing. Nothing is random: each system learns
from the optimal episodes of both mazes, and plays both once with the likeliest actions, so that 50
% is what a system has that remembers nothing. Windows are as long as an episode. A length that the
tables do not name is trained as the next longer one. A training that --minutes cut short is shown
as such, and is repeated where more minutes are given.

examples:
  a short corridor:
    python -m zoo study recall --quick
  the whole grid:
    python -m zoo study recall
  other lengths and another system:
    python -m zoo study recall --lengths 100 500 --algorithms DM DMHybrid --seeds 0
"""
FULL: Mapping[str, Any] = {
    "algorithms": ["DMHybrid", "AD-mamba", "DT"],
    "lengths": [40, 200, 1000],
    "seeds": [0, 1, 2],
    "minutes": 30.0,
}
QUICK: Mapping[str, Any] = {
    **FULL,
    "lengths": [10, 40],
    "seeds": [0],
    "minutes": 2.0,
}
BLOCK = re.compile(r"tmaze-(\d+)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of training, the lengths and the limit of time."""
    training.add_arguments(parser, "width", without=["dataset", "episodes"])
    parser.set_defaults(tables=TABLES)
    add = parser.add_argument
    add("--lengths", nargs="+", type=_length, metavar="N", help="of corridors, in steps")
    text = f"CPU minutes after which a training is given up (default: {FULL['minutes']:g})"
    add("--minutes", type=_minutes, metavar="M", help=text)


def _length(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not minutes > 0.0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return minutes


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """One training for each length, seed and system."""
    tables, minutes = Tables.read(arguments.tables), arguments.minutes
    found = []
    for length in sorted(arguments.lengths):
        block = block_of(length, tables.datasets)
        for seed in arguments.seeds:
            for label in arguments.algorithms:
                recipe = training.recipe_of(
                    arguments, tables, label, block, context_length=length + 1
                )
                work = Training(recipe, seed)
                names = {"length": length, "algorithm": label, "seed": seed}
                measure = partial(_measure, work, length, minutes)
                again = partial(_was_cut_before, minutes)
                units = recipe.plan.updates
                found.append(Cell(names, work.own_settings, measure, units, again))
    return found


def block_of(length: int, blocks: Iterable[str]) -> str:
    """The block of tables by which a corridor is trained.

    Args:
        length: Of the corridor.
        blocks: Blocks that there are; those of corridors are named tmaze-N.

    Returns:
        That of the shortest corridor which is at least as long, or of the longest one.

    Raises:
        ValueError: There is no block of a corridor.
    """
    there = sorted(int(found[1]) for found in map(BLOCK.fullmatch, blocks) if found)
    if not there:
        raise ValueError("the tables have no plan of a corridor: name one tmaze-40, say")
    return f"tmaze-{next((n for n in there if n >= length), there[-1])}"


def _was_cut_before(minutes: float, row: Row) -> bool:
    """Whether a row's training was given up after fewer minutes than these."""
    return row["successes"] is None and row["minutes"] < minutes


def _measure(work: Training, length: int, minutes: float, tick: Tick) -> Row:
    start = time.process_time()
    algorithm = work.train(optimal_histories(length), tick, 60 * minutes)
    trained = time.process_time()
    policy = algorithm.policy
    assert policy is not None, "it has been trained"
    successes = None
    if algorithm.num_timesteps == work.recipe.plan.updates:
        target = work.recipe.plan.targets[0] if policy.spec.uses_returns else None
        maze = TMaze([0, 1], length)
        played = evaluate_in_context(
            policy, maze, [0, 1], n_episodes=1, seed=FIRST_SEED, target_return=target
        )
        successes = (played.returns[:, 0] > 0.0).tolist()
    return {
        "parameters": sum(p.numel() for p in policy.model.parameters()),
        "successes": successes,
        "updates": algorithm.num_timesteps,
        "minutes": minutes,
        "cpu_seconds": round(trained - start, 1),
        "playing_seconds": round(time.process_time() - trained, 1),
        "machine": machine(str(algorithm.torch_device())),
    }


def optimal_histories(length: int) -> Histories:
    """The optimal episode of either maze, each a history of its own.

    Args:
        length: Of the corridor.
    """
    rng, maze = np.random.default_rng(0), TMaze([0, 1], length)  # neither is random
    observations, actions, rewards = [maze.reset(rng)], [], []
    while not maze.ended:
        actions.append(maze.optimal_actions(rng))
        observation, reward = maze.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
    parts = {"observations": observations, "actions": actions, "rewards": rewards}
    episodes = [{name: np.stack(part)[:, side] for name, part in parts.items()} for side in (0, 1)]
    data = Trajectories.from_episodes(episodes, maze.observation_space, maze.action_space)
    return Histories.from_episodes(data, [0, 1])


def rate(row: Row) -> float:
    """Share of the two mazes that a system was paid in, in %."""
    return 100 * sum(row["successes"]) / len(row["successes"])


def facts(rows: Sequence[Row]) -> str:
    """Says how the rows were made."""
    batches = (
        f"{listed(row['settings']['updates'] for row in mine)} updates at {length} steps"
        for (length,), mine in grouped(rows, "length").items()
    )
    said = [
        ", ".join(batches),
        f"training seeds {listed(row['seed'] for row in rows)}",
        "each policy plays both mazes once, with the likeliest actions",
        f"{sum(row['cpu_seconds'] + row['playing_seconds'] for row in rows) / 60:.1f} CPU minutes "
        f"in all on {' and '.join(different(rows, 'machine'))}",
    ]
    return "; ".join(said) + ".\n"


def table(rows: Sequence[Row]) -> str:
    """Success rate of each system at each length, and what it cost."""
    lines = []
    for (length, label), mine in grouped(rows, "length", "algorithm").items():
        through = [row for row in mine if row["successes"] is not None]
        said = f"{over_seeds([rate(row) for row in through])} %" if through else ""
        cut = [row for row in mine if row["successes"] is None]
        if cut:
            made = listed(row["updates"] for row in cut)
            of = f"{len(cut)} of {len(mine)}, " if through else ""
            limit = f"{listed(row['minutes'] for row in cut)} CPU minutes"
            said += f"{'; ' if through else ''}given up ({of}{made} updates in {limit})"
        minutes = np.mean([row["cpu_seconds"] for row in mine]) / 60
        batch = listed(row["settings"]["hyperparameters"]["batch_size"] for row in mine)
        wanted = listed(row["settings"]["updates"] for row in mine)
        lines.append([str(length), label, said, wanted, batch, f"{minutes:.1f}"])
    head = ["corridor", "system", "success", "updates", "episodes in a batch"]
    return markdown([*head, "CPU minutes of a training"], lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Success against the corridor's length, a line for each system, dots beside one another."""
    lengths, groups = sorted(different(rows, "length")), grouped(rows, "algorithm")
    span = math.log(lengths[-1] / lengths[0]) or 1.0
    with picture(path, 1, 1, (5.6, 3.2)) as [ax]:
        for index, ((label,), mine) in enumerate(groups.items()):
            aside = math.exp(0.02 * span * (index - (len(groups) - 1) / 2))
            through = [row for row in mine if row["successes"] is not None]
            points = [
                (length * aside, [rate(row) for row in of])
                for (length,), of in sorted(grouped(through, "length").items())
            ]
            line_over_seeds(ax, points, PALETTE[index % len(PALETTE)], label)
        ax.axhline(50, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="without memory")
        ax.set_xscale("log")
        ax.set_xticks(lengths, [str(length) for length in lengths])
        ax.minorticks_off()
        ax.set_ylim(-4, 104)
        dress(ax, "paid at the end of the corridor", "length of the corridor, steps", "% of mazes")
        ax.legend(fontsize=8, frameon=False)
