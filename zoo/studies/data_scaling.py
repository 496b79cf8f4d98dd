"""data-scaling: what does twice the data bring, at each context length?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from decision_policies import Trajectories
from zoo.benchmark_run import environment_of, read_data
from zoo.progress import Tick
from zoo.tables import Recipe

from . import training
from .report import (
    PALETTE,
    dress,
    from_zero,
    grouped,
    line_over_seeds,
    markdown,
    over_seeds,
    picture,
)
from .report import training_facts as facts
from .study import Cell, Row
from .training import Training, score

__all__ = [
    "EXAMPLES",
    "FULL",
    "QUICK",
    "SUMMARY",
    "add_arguments",
    "cells",
    "draw",
    "facts",
    "table",
]

SUMMARY = "how much does the score gain from twice the data, at each context length?"
EXAMPLES = """\
Whole episodes are drawn in an order that the seed decides, until they hold about the share of the
steps; a smaller share is part of a larger one. Updates, sizes and the scale of returns (that of all
data) stay the same; observations are standardised by the share itself. The gain of a share is over
its half, of the seeds that both were run with, where the half scored above 0.

examples:
  three shares of the shipped CartPole set:
    python -m zoo study data-scaling --quick
  the whole grid, on a larger set:
    python -m zoo study data-scaling --dataset sb3zoo/halfcheetah/medium-replay-v0
  other shares and contexts:
    python -m zoo study data-scaling --shares 1/2 1 --contexts 10 30 50
"""
FULL: Mapping[str, Any] = {
    "dataset": "cartpole/mixed-v0",
    "algorithms": ["MambaDM"],
    "seeds": [0, 1, 2],
    "shares": [Fraction(1, n) for n in (16, 8, 4, 2, 1)],
    "contexts": [10, 30, 50],
}
QUICK: Mapping[str, Any] = {
    **FULL,
    "algorithms": ["DeMa"],
    "seeds": [0, 1],
    "updates": 300,
    "width": 32,
    "contexts": [5, 20],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of training, the shares and the context lengths."""
    training.add_arguments(parser, "width")
    add = parser.add_argument
    add(
        "--shares",
        nargs="+",
        type=_share,
        metavar="S",
        help="such as 1/4; (default: 1/16 1/8 1/4 1/2 1)",
    )
    add("--contexts", nargs="+", type=int, metavar="K", help="in steps (default: 10 30 50)")


def _share(text: str) -> Fraction:
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"expected a share such as 1/4, up to 1; got {text!r}")
    return share


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """One training for each seed, system, context length and share."""
    found = []
    for seed in arguments.seeds:
        for label in arguments.algorithms:
            for context in arguments.contexts:
                recipe = training.make_recipe(arguments, label, context_length=context)
                recipe = keep_scale(recipe)
                work = Training(recipe, seed)
                for share in sorted(arguments.shares):
                    names = {"algorithm": label, "K": context, "share": str(share), "seed": seed}
                    measure = partial(_measure, work, share)
                    found.append(Cell(names, work.settings, measure, recipe.plan.updates))
    return found


def keep_scale(recipe: Recipe) -> Recipe:
    """Gives a recipe the scale of returns of all data, where it would be that of the share."""
    if recipe.hyperparameters.get("return_scale") is not None:
        return recipe
    scale = float(np.abs(read_data(recipe).returns_to_go).max()) / 5 or 1.0
    return replace(recipe, hyperparameters={**recipe.hyperparameters, "return_scale": scale})


def _measure(work: Training, share: Fraction, tick: Tick) -> Row:
    data = read_data(work.recipe)
    part = draw_episodes(data, float(share), work.seed)
    return work.run(part, environment_of(work.recipe), tick)


def draw_episodes(data: Trajectories, share: float, seed: int) -> Trajectories:
    """Draws whole episodes that hold about a share of the steps.

    Args:
        data: All episodes.
        share: Share of the steps, over 0 and up to 1.
        seed: Decides the order in which they are drawn.

    Returns:
        The first ones of that order, at least one, as many as come closest to the share.
    """
    order = np.random.default_rng(seed).permutation(data.n_episodes)
    away = np.abs(data.lengths[order].cumsum() - share * data.n_steps)
    return data.take(order[: int(away.argmin()) + 1])


def gain(half: Mapping[int, float], whole: Mapping[int, float]) -> float | None:
    """Relative gain of the mean score over that of half the data.

    Args:
        half: Score by seed with half the data.
        whole: Score by seed with all of them.

    Returns:
        In %, over the seeds that are in both; None where the half scored 0 or less.
    """
    both = half.keys() & whole.keys()
    before = sum(half[seed] for seed in both)
    return 100 * (sum(whole[seed] for seed in both) / before - 1) if before > 0 else None


def table(rows: Sequence[Row]) -> str:
    """Steps, score and gain of each share at each context length."""
    lines = []
    for (label, context), mine in grouped(rows, "algorithm", "K").items():
        for share, scores, gained in gains(mine):
            steps = [row["steps"] for row in mine if row["share"] == str(share)]
            lines.append(
                [
                    label,
                    str(context),
                    str(share),
                    f"{np.mean(steps):,.0f}",
                    over_seeds(scores, 1),
                    "" if gained is None else f"{round(gained):+d} %",
                ]
            )
    return markdown(["system", "K", "share", "steps", "score", "gain over half"], lines)


def gains(rows: Sequence[Row]) -> list[tuple[Fraction, list[float], float | None]]:
    """Share, score of each seed, and gain over half the share where that is there, in order."""
    scores: dict[Fraction, dict[int, float]] = {}
    for row in sorted(rows, key=lambda row: Fraction(row["share"])):
        scores.setdefault(Fraction(row["share"]), {})[row["seed"]] = score(row)
    return [
        (share, [*of.values()], gain(scores.get(share / 2, {}), of)) for share, of in scores.items()
    ]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Score over the share of the data: a panel for each system, a line for each context."""
    groups = grouped(rows, "algorithm")
    with picture(path, 1, len(groups), (1.4 + 3.8 * len(groups), 3.2)) as axes:
        for ax, ((label,), mine) in zip(axes, groups.items(), strict=True):
            for index, ((context,), same) in enumerate(grouped(mine, "K").items()):
                points = [(float(share), scores) for share, scores, _ in gains(same)]
                line_over_seeds(ax, points, PALETTE[index % len(PALETTE)], f"K = {context}")
            ax.set_xscale("log", base=2)
            shares = sorted({Fraction(row["share"]) for row in mine})
            ax.set_xticks([float(share) for share in shares], [str(share) for share in shares])
            ax.minorticks_off()
            from_zero(ax)
            dress(ax, label, "share of the data's steps", "score")
        axes[-1].legend(fontsize=8, frameon=False)
