"""model-scaling: does a larger model score higher after the same number of updates?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zoo.benchmark_run import environment_of, read_data
from zoo.progress import Tick

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

SUMMARY = "does a larger model score higher after the same number of updates?"
EXAMPLES = """\
MambaDM's protocol: everything is held but the number of blocks and the token width, with the same
number of updates for all. The paper reports no gain from size. Above the table stands the slope
of the score over the logarithm of the parameters: points of score for each doubling.

examples:
  a small grid on the shipped CartPole set:
    python -m zoo study model-scaling --quick
  the whole grid for two systems:
    python -m zoo study model-scaling --algorithms MambaDM DeMa --dataset sb3zoo/hopper/medium-v0
  other sizes:
    python -m zoo study model-scaling --layers 1 3 --widths 32 128
"""
FULL: Mapping[str, Any] = {
    "dataset": "sb3zoo/halfcheetah/medium-replay-v0",
    "algorithms": ["MambaDM"],
    "seeds": [0, 1, 2],
    "layers": [2, 4, 6, 8],
    "widths": [64, 128, 256],
}
QUICK: Mapping[str, Any] = {
    **FULL,
    "dataset": "cartpole/mixed-v0",
    "seeds": [0, 1],
    "updates": 200,
    "context": 10,
    "layers": [1, 2, 4],
    "widths": [16, 32],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of training, and the sizes."""
    training.add_arguments(parser, "context")
    add = parser.add_argument
    add("--layers", nargs="+", type=int, metavar="N", help="numbers of blocks (default: 2 4 6 8)")
    add("--widths", nargs="+", type=int, metavar="D", help="token widths (default: 64 128 256)")


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """One training for each seed, system and size."""
    found = []
    for seed in arguments.seeds:
        for label in arguments.algorithms:
            for layers in arguments.layers:
                for width in arguments.widths:
                    size = {"n_layers": layers, "d_model": width}
                    work = Training(training.make_recipe(arguments, label, **size), seed)
                    names = {"algorithm": label, "layers": layers, "width": width, "seed": seed}
                    measure = partial(_measure, work)
                    found.append(Cell(names, work.settings, measure, work.recipe.plan.updates))
    return found


def _measure(work: Training, tick: Tick) -> Row:
    return work.run(read_data(work.recipe), environment_of(work.recipe), tick)


def per_doubling(parameters: Sequence[float], scores: Sequence[float]) -> float | None:
    """Least-squares slope of the score over log2 of the parameters; None for a single size."""
    if len(set(parameters)) < 2:
        return None
    x = np.log2(parameters) - np.log2(parameters).mean()
    return float((x * np.asarray(scores)).sum() / (x * x).sum())


def table(rows: Sequence[Row]) -> str:
    """Parameters and score of each size, and the slope for each system."""
    lines = []
    for (label, layers, width), mine in grouped(rows, "algorithm", "layers", "width").items():
        scores = [score(row) for row in mine]
        size = f"{mine[0]['parameters']:,}"
        lines.append([label, str(layers), str(width), size, over_seeds(scores, 1)])
    said = []
    for (label,), mine in grouped(rows, "algorithm").items():
        slope = per_doubling([row["parameters"] for row in mine], [score(row) for row in mine])
        if slope is not None:
            said.append(f"{label}: {slope:+.1f} points of score for each doubling of parameters.")
    return "\n".join([*said, ""]) + "\n" + markdown(HEAD, lines)


HEAD = ("system", "layers", "width", "parameters", "score")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Score over parameters: a panel for each system, a line for each width."""
    groups = grouped(rows, "algorithm")
    with picture(path, 1, len(groups), (1.4 + 3.8 * len(groups), 3.2)) as axes:
        for ax, ((label,), mine) in zip(axes, groups.items(), strict=True):
            widths = grouped(mine, "width")
            for index, ((width,), same) in enumerate(widths.items()):
                points = [
                    (float(some[0]["parameters"]), [score(row) for row in some])
                    for some in grouped(same, "layers").values()
                ]
                line_over_seeds(ax, points, PALETTE[index % len(PALETTE)], f"width {width}")
            ax.set_xscale("log")
            ax.minorticks_off()
            ax.xaxis.set_major_formatter("{x:,.0f}")
            from_zero(ax)
            dress(ax, label, "parameters", "score")
        axes[-1].legend(fontsize=8, frameon=False)
