"""`python -m zoo plot-train`: draws the evaluations of experiments over their training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .experiments import LOGS, Curve, Experiment, find_experiment, find_experiments, safe_name
from .studies.report import PALETTE, dress, picture
from .training_run import Settings

EXAMPLES = """\
A thin line is an experiment: the mean return of its evaluation episodes, which evaluations.npz
holds. Where several differ in their seed only, a thick line is their mean, and a band their
deviation; of one alone the band is the deviation over its episodes.

examples:
  all experiments of a system in an environment:
    python -m zoo plot-train --algo dema --env CartPole-v1
  two systems in one picture:
    python -m zoo plot-train --algo dema dt --env CartPole-v1 --output dema-and-dt.png
  experiments 2 and 3 only:
    python -m zoo plot-train --algo dema --env CartPole-v1 --exp-id 2 3
"""


class Series(NamedTuple):
    """Experiments that differ in their seed only.

    Attributes:
        label: What to call them.
        target: The return that they were asked for; None where they were asked for none.
        curves: Their evaluations.
    """

    label: str
    target: float | None
    curves: list[Curve]

    def band(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Updates that all have evaluations at, and mean and deviation there."""
        shared = self.curves[0].timesteps
        for curve in self.curves[1:]:
            shared = np.intersect1d(shared, curve.timesteps)
        each = [c.results[np.isin(c.timesteps, shared)] for c in self.curves]
        if len(each) == 1:
            return shared, each[0].mean(1), each[0].std(1)
        means = np.stack([results.mean(1) for results in each])
        return shared, means.mean(0), means.std(0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `plot-train` to its parser."""
    add = parser.add_argument
    add("--algo", nargs="+", required=True, metavar="NAME", help="labels of systems")
    add("--env", nargs="+", required=True, metavar="ID", help="a panel for each environment")
    add("-f", "--folder", type=Path, default=LOGS, metavar="DIR", help="(default: logs)")
    add("--exp-id", type=int, nargs="+", metavar="N", help="(default: all that were evaluated)")
    text = "a PNG (default: plots/ALGO-ENV.png)"
    add("-o", "--output", type=Path, metavar="FILE", help=text)


def run(arguments: argparse.Namespace) -> None:
    """Draws what the command line asks for.

    Raises:
        ValueError: There is no such experiment, none was evaluated, or matplotlib is missing.
    """
    name = "-".join(safe_name(x.lower()) for x in arguments.algo)
    place = f"{name}-{'-'.join(map(safe_name, arguments.env))}.png"
    output: Path = arguments.output or Path("plots") / place
    if output.suffix != ".png":
        raise ValueError(f"--output {output} is no PNG: end its name in .png")
    panels = [(env, _series(_experiments(arguments, env))) for env in arguments.env]
    try:
        draw(panels, output)
    except ImportError as error:
        cure = "pip install 'decision-policies[plots]'"
        raise ValueError(f"a picture needs matplotlib: {cure}") from error
    for env, each in panels:
        for series in each:
            at, means, _ = series.band()
            ends = f": {means[-1]:.1f} after {at[-1]} updates" if len(at) else ""
            print(f"{env}, {series.label}{ends}")
    print(f"written: {output}")


def _experiments(arguments: argparse.Namespace, env: str) -> list[Experiment]:
    """The experiments of an environment that were evaluated."""
    found: list[Experiment] = []
    for algo in arguments.algo:
        if arguments.exp_id:
            numbers = arguments.exp_id
            found += [find_experiment(arguments.folder, algo, env, n) for n in numbers]
        else:
            found += find_experiments(arguments.folder, algo, env)
    evaluated = [e for e in found if len(e.curve().timesteps)]
    if not evaluated:
        folders = ", ".join(str(e.folder) for e in found)
        raise ValueError(f"nothing was evaluated (yet) in {folders}")
    return evaluated


def _series(experiments: Sequence[Experiment]) -> list[Series]:
    """Puts experiments together that differ in their seed only."""
    groups: dict[tuple[str, ...], list[tuple[Experiment, Settings]]] = {}
    for experiment in experiments:
        settings = Settings.of(experiment)
        config = experiment.read("config.yml")
        config.pop("seed", None)
        decides = (settings.dataset, settings.n_timesteps, settings.target_return)
        mark = (settings.algo, repr(decides), repr(sorted(config.items())))
        groups.setdefault(mark, []).append((experiment, settings))
    found = []
    for members in groups.values():
        first = members[0][1]
        numbers = ", ".join(str(experiment.number) for experiment, _ in members)
        curves = [experiment.curve() for experiment, _ in members]
        label = f"{first.algo}, {first.dataset} ({numbers})"
        found.append(Series(label, first.target_return, curves))
    return found


def draw(panels: Sequence[tuple[str, Sequence[Series]]], path: Path) -> None:
    """Draws a panel for each environment.

    Args:
        panels: Environments and their series.
        path: The PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with picture(path, 1, len(panels), (5.0 * len(panels), 3.4)) as axes:
        for ax, (env, each) in zip(axes, panels, strict=True):
            dress(ax, env, "gradient updates", "mean return of the evaluation")
            for place, series in enumerate(each):
                colour = PALETTE[place % len(PALETTE)]
                at, mean, deviation = series.band()
                for curve in series.curves:
                    ax.plot(curve.timesteps, curve.results.mean(1), color=colour, linewidth=0.7)
                ax.plot(at, mean, color=colour, linewidth=2, marker="o", label=series.label)
                ax.fill_between(
                    at, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0
                )
            ax.legend(frameon=False, fontsize=8)
