"""delayed-reward: what is left of a score when each episode pays its whole return at its end."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

from zoo.benchmark_run import environment_of, read_data
from zoo.progress import Tick
from zoo.results_chart import INK

from . import training
from .report import (
    PALETTE,
    different,
    dress,
    grouped,
    markdown,
    over_seeds,
    picture,
    training_facts,
)
from .study import Cell, Row
from .training import Training

SUMMARY = "does a system still reach what is asked for when rewards come only at the episode's end?"
EXAMPLES = """\
The return of each logged episode is moved to its last step, and the environment withholds its
rewards until the episode ends, so the return-to-go is never counted down. Each system is also
trained and played as usual ("dense"). The figures are plain returns in both. Systems ask for the
return still to go, whatever the tables say: the whole episode's is the same in both.

examples:
  the shipped CartPole set, in minutes:
    python -m zoo study delayed-reward --quick
  the comparison of the papers, on a set of your own choice:
    python -m zoo study delayed-reward --dataset sb3zoo/hopper/medium-replay-v0 --seeds 0 1 2
"""
FULL: Mapping[str, Any] = {
    "dataset": "cartpole/mixed-v0",
    "algorithms": ["DeMa", "DT", "BC-10%"],
    "seeds": [0, 1, 2],
}
QUICK: Mapping[str, Any] = {**FULL, "seeds": [0, 1], "updates": 500, "width": 32}
REWARDS = ("dense", "delayed")


class DelayedReward(gym.Wrapper[Any, Any, Any, Any]):
    """Pays nothing until the episode ends, and then everything."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode, of which nothing is owed yet."""
        self._owed = 0.0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Makes a step; its reward is the episode's return if it is the last, else 0."""
        observation, reward, terminated, truncated, info = super().step(action)
        self._owed += float(reward)
        paid = self._owed if terminated or truncated else 0.0
        return observation, paid, terminated, truncated, info


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of training; the study has none of its own."""
    training.add_arguments(parser, "width", "context")


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """One training for each seed, system and kind of rewards."""
    found = []
    for seed in arguments.seeds:
        for label in arguments.algorithms:
            recipe = training.make_recipe(
                arguments, label, return_mode="decrement", balance_returns=False
            )
            work = Training(recipe, seed)
            for rewards in REWARDS:
                names = {"algorithm": label, "rewards": rewards, "seed": seed}
                measure = partial(_measure, work, rewards == "delayed")
                found.append(Cell(names, work.settings, measure, work.recipe.plan.updates))
    return found


def _measure(work: Training, delayed: bool, tick: Tick) -> Row:
    data, make = read_data(work.recipe), environment_of(work.recipe)
    if delayed:
        data, make = data.delay_rewards(), _withholding(make)
    return work.run(data, make, tick, work.recipe.plan.targets)


def _withholding(make: Callable[[], gym.Env[Any, Any]]) -> Callable[[], gym.Env[Any, Any]]:
    return lambda: DelayedReward(make())


def obtained(rows: Sequence[Row], target: float | None, rewards: str) -> list[float]:
    """Mean return of each seed when a target was asked for."""
    return [
        e["mean"]
        for row in rows
        if row["rewards"] == rewards
        for e in row["evaluations"]
        if e["target"] == target
    ]


def facts(rows: Sequence[Row]) -> str:
    """Says how the rows were made."""
    return training_facts(rows, scores=False)


def table(rows: Sequence[Row]) -> str:
    """Dense and delayed return of each system and target, and their difference."""
    lines = []
    for (label,), mine in grouped(rows, "algorithm").items():
        for target in dict.fromkeys(e["target"] for e in mine[0]["evaluations"]):
            dense, delayed = (obtained(mine, target, rewards) for rewards in REWARDS)
            both = dense and delayed
            change = sum(delayed) / len(delayed) - sum(dense) / len(dense) if both else None
            lines.append(
                [
                    label,
                    "is not asked" if target is None else f"{target:g}",
                    over_seeds(dense) if dense else "",
                    over_seeds(delayed) if delayed else "",
                    "" if change is None else f"{change:+.0f}",
                ]
            )
    return markdown(["system", "asked for", "dense", "delayed", "difference"], lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel for each target: dense and delayed return of each system."""
    labels = different(rows, "algorithm")
    asked = dict.fromkeys(e["target"] for row in rows for e in row["evaluations"])
    targets: list[float | None] = [target for target in asked if target is not None] or [None]
    size = (1.2 + 3.6 * len(targets), 1.5 + 0.42 * len(labels))
    with picture(path, 1, len(targets), size) as axes:
        for ax, target in zip(axes, targets, strict=True):
            title = "mean return" if target is None else f"mean return when {target:g} is asked for"
            _panel(ax, rows, labels, target)
            dress(ax, title)
            ax.set_yticks(range(len(labels)), labels)
            ax.set_ylim(len(labels) - 0.5, -0.5)
        ends = [end for ax in axes for end in ax.get_xlim()]
        for ax in axes:
            ax.set_xlim(min(0, *ends), max(ends))
        shown = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(
            *shown, loc="outside lower center", ncols=2, fontsize=8, frameon=False
        )


def _panel(ax: Any, rows: Sequence[Row], labels: Sequence[str], target: float | None) -> None:
    for colour, offset, rewards in zip(PALETTE, (-0.12, 0.12), REWARDS, strict=False):
        first = True
        for height, label in enumerate(labels):
            mine = [row for row in rows if row["algorithm"] == label]
            values = obtained(mine, target, rewards) or obtained(mine, None, rewards)
            if not values:
                continue
            place, mean = height + offset, sum(values) / len(values)
            ends = [min(values), max(values)]
            look: dict[str, Any] = {"linewidth": 5, "alpha": 0.3, "solid_capstyle": "butt"}
            ax.plot(ends, [place] * 2, color=colour, **look)
            ax.scatter(mean, place, s=36, color=colour, label=rewards if first else None, zorder=3)
            first = False
    if target is not None:
        ax.axvline(target, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6, zorder=1)
