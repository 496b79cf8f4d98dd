"""Words, tables and pictures that studies have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.results_chart import INK, OURS, THEIRS

from .study import Row
from .training import FIRST_SEED

PALETTE = (OURS, "#d1495b", "#edae49", "#66a182", THEIRS, "#6d597a")
"""Colours that stay apart for most kinds of colour blindness, in the order of use."""


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Words a Markdown table."""
    every = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every) + "\n"


def over_seeds(values: Sequence[float], digits: int = 0) -> str:
    """Says the mean of one value a seed, and the lowest and highest of several: "4 [3 to 5]"."""
    mean = f"{sum(values) / len(values):.{digits}f}"
    if len(values) < 2:
        return mean
    return f"{mean} [{min(values):.{digits}f} to {max(values):.{digits}f}]"


def grouped(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    """Groups rows by some of their entries, in the order of their first appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def different(rows: Iterable[Row], name: str) -> list[Any]:
    """Different values of an entry, in the order of their first appearance."""
    return list(dict.fromkeys(row[name] for row in rows))


def training_facts(rows: Sequence[Row], *, scores: bool = True) -> str:
    """Says how trained cells were made.

    Args:
        rows: The cells, at least one.
        scores: Say which returns count as scores 0 and 100, where the set has such.
    """
    every, references = [row["settings"] for row in rows], rows[0]["references"]
    hyper = [settings["hyperparameters"] for settings in every]
    batch, context, width = (
        listed(values[name] for values in hyper)
        for name in ("batch_size", "context_length", "d_model")
    )
    episodes = listed(settings["plan"]["episodes"] for settings in every)
    said = [
        listed(settings["dataset"] for settings in every),
        f"{listed(settings['updates'] for settings in every)} updates of {batch} windows of "
        f"{context} steps, width {width}, training seeds {listed(row['seed'] for row in rows)}",
        f"{episodes} episodes from seed {FIRST_SEED:,} for each figure of a seed",
        f"{sum(row['cpu_seconds'] for row in rows) / 60:.1f} CPU minutes in all on "
        f"{' and '.join(different(rows, 'machine'))}",
    ]
    if scores and references is not None:
        low, high = references
        said.insert(3, f"returns {low:g} and {high:g} count as scores 0 and 100")
    return "; ".join(said) + ".\n"


def listed(values: Iterable[Any]) -> str:
    """Says the different values, in order: "1, 2"."""
    return ", ".join(map(str, sorted(set(values))))


@contextmanager
def picture(path: Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[list[Any]]:
    """Yields axes, row by row, and writes them as a PNG when the block ends.

    Args:
        path: The file.
        rows: Rows of panels.
        columns: Columns of panels.
        size: Width and height in inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    style: Any = {"font.size": 9, "axes.edgecolor": "#bbbbbb", **dict.fromkeys(inked, INK)}
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        yield [ax for row in figure.subplots(rows, columns, squeeze=False) for ax in row]
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)


def dress(ax: Any, title: str, x: str = "", y: str = "") -> None:
    """Gives a panel its words, and takes away what is not data."""
    ax.set_title(title, fontsize=9, fontweight="bold", loc="left")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(color="#eeeeee", linewidth=0.8, zorder=0)
    ax.set_axisbelow(True)
    ax.tick_params(length=0)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def log_scale(ax: Any) -> None:
    """Makes the vertical axis of a panel logarithmic, with plain numbers at 1, 2, 5, 10, ..."""
    from matplotlib.ticker import LogLocator

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.minorticks_off()


def from_zero(ax: Any) -> None:
    """Lets a finished panel of scores begin at 0 or below: a small difference looks small."""
    low, high = ax.get_ylim()
    low = min(0.0, low)
    ax.set_ylim(low, high + 0.05 * (high - low))


def line_over_seeds(
    ax: Any, points: Sequence[tuple[float, Sequence[float]]], colour: str, label: str
) -> None:
    """Draws a line through means over seeds, with a light dot for each seed.

    Args:
        ax: The panel.
        points: Place on the horizontal axis and one value a seed.
        colour: Of the line.
        label: For the legend.
    """
    for x, values in points:
        ax.scatter([x] * len(values), values, s=12, color=colour, alpha=0.35, linewidth=0, zorder=2)
    means = [sum(values) / len(values) for _, values in points]
    ax.plot([x for x, _ in points], means, "o-", color=colour, markersize=5, label=label, zorder=3)
