"""goal-maze: how often a system reaches the goal of a maze, and how soon."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from zoo.benchmark_run import environment_of, read_data
from zoo.progress import Tick
from zoo.results_chart import INK

from . import training
from .report import PALETTE, dress, grouped, markdown, over_seeds, picture, training_facts
from .study import Cell, Row
from .training import Training

SUMMARY = "how often, and how soon, does each system reach the goal of a maze?"
EXAMPLES = """\
An episode is a success if the environment says so (`success` or `is_success` in its info), or, if
it never says, if its return is above 0. Observations may be those of a goal environment: a Dict of
where one is and where one should be.

examples:
  a point in a U-shaped maze (needs gymnasium-robotics and the set):
    python -m zoo study goal-maze --quick
  another maze of Minari's:
    python -m zoo study goal-maze --dataset D4RL/pointmaze/medium-v2 --updates 20000
"""
FULL: Mapping[str, Any] = {
    "dataset": "sb3zoo/pointmaze/umaze-v0",
    "algorithms": ["DeMa", "DT", "BC"],
    "seeds": [0, 1, 2],
    "episodes": 50,
}
QUICK: Mapping[str, Any] = {
    **FULL,
    "seeds": [0, 1],
    "updates": 500,
    "episodes": 20,
}
QUANTILES = np.linspace(0, 1, 21)


class Success(gym.Wrapper[Any, Any, Any, Any]):
    """Notes whether the first episode is a success; evaluation plays one that counts.

    Attributes:
        reached: Whether it was; None while it is going on.
    """

    reached: bool | None = None
    _return = 0.0
    _said: bool | None = None

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Makes a step, and looks at what it says."""
        observation, reward, terminated, truncated, info = super().step(action)
        if self.reached is None:
            self._return += float(reward)
            if (now := info.get("success", info.get("is_success"))) is not None:
                self._said = bool(now) or bool(self._said)
            if terminated or truncated:
                self.reached = self._return > 0 if self._said is None else self._said
        return observation, reward, terminated, truncated, info


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of training; the study has none of its own."""
    training.add_arguments(parser, "width", "context")


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """One training for each seed and system."""
    found = []
    for seed in arguments.seeds:
        for label in arguments.algorithms:
            work = Training(training.make_recipe(arguments, label), seed)
            names = {"algorithm": label, "seed": seed}
            measure = partial(_measure, work)
            found.append(Cell(names, work.settings, measure, work.recipe.plan.updates))
    return found


def _measure(work: Training, tick: Tick) -> Row:
    data, make = read_data(work.recipe), environment_of(work.recipe)
    made: list[Success] = []  # an environment an episode, in the order of the episodes

    def noting() -> Success:
        made.append(Success(make()))
        return made[-1]

    row = work.run(data, noting, tick)
    logged = np.quantile(data.lengths, QUANTILES).round(1).tolist()
    return {**row, "successes": [bool(env.reached) for env in made], "logged_lengths": logged}


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Ends of Wilson's 95 % interval of a rate, between 0 and 1.

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z = 1.959964
    rate, scale = successes / trials, 1 + z * z / trials
    centre = rate + z * z / (2 * trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def facts(rows: Sequence[Row]) -> str:
    """Says how the rows were made."""
    return training_facts(rows, scores=False)


def table(rows: Sequence[Row]) -> str:
    """Success rate of each system with an interval, and the steps that a success took."""
    lines = []
    for (label,), mine in grouped(rows, "algorithm").items():
        every = [reached for row in mine for reached in row["successes"]]
        low, high = wilson(sum(every), len(every))
        steps = _steps(mine)
        rates = [100 * sum(row["successes"]) / len(row["successes"]) for row in mine]
        took = f"{np.mean(steps):.0f}" if steps else "none"
        interval = f"{100 * low:.0f} to {100 * high:.0f} %"
        lines.append([label, f"{over_seeds(rates)} %", interval, took, str(len(every))])
    head = ["system", "success", "95 % interval over episodes", "steps of a success", "episodes"]
    return markdown(head, lines)


def _steps(rows: Sequence[Row]) -> list[int]:
    """Lengths of the episodes that were a success."""
    return [
        length
        for row in rows
        for length, reached in zip(row["evaluations"][0]["lengths"], row["successes"], strict=True)
        if reached
    ]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Share of the episodes that have reached the goal, by step, beside that of the data."""
    with picture(path, 1, 1, (5.6, 3.2)) as [ax]:
        logged = rows[0]["logged_lengths"]
        dotted = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 3))}
        ax.plot(logged, 100 * QUANTILES, label="length of the logged episodes", **dotted)
        end = max(max(row["evaluations"][0]["lengths"]) for row in rows)
        groups = grouped(rows, "algorithm")
        for index, ((label,), mine) in enumerate(groups.items()):
            steps, total = sorted(_steps(mine)), sum(len(row["successes"]) for row in mine)
            shares = [100 * n / total for n in range(len(steps) + 1)]
            colour = PALETTE[index % len(PALETTE)]
            ax.step(
                [0, *steps, end], [*shares, shares[-1]], where="post", color=colour, label=label
            )
        dress(ax, "goal reached within so many steps", "environment steps", "% of episodes")
        ax.set_ylim(-2, 102)
        ax.set_xlim(0, end)
        ax.legend(fontsize=8, frameon=False)
