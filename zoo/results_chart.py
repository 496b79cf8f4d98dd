"""The chart of zoo/RESULTS.md: normalised scores of every system, over all sets and on each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .results_figures import Cell, Overall, overall

OURS, THEIRS, PALE, INK = "#2a6f97", "#8d99ae", "#c9d6df", "#333333"
COLUMNS = 4


def draw_chart(cells: Sequence[Cell], path: Path) -> bool:
    """Draws a panel for all sets, where systems have some in common, and one for each set.

    Args:
        cells: At most one for a label and a dataset, in the order of the page.
        path: The PNG to write.

    Returns:
        Whether there was something to draw.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    scored = [cell for cell in cells if cell.scores() is not None]
    if not scored:
        return False
    result = overall(scored) or overall(cell for cell in scored if not cell.is_peer)
    labels = _ranked(scored, result)
    datasets = list(dict.fromkeys(cell.dataset for cell in scored))
    panels = 1 + len(datasets)
    rows = -(-panels // COLUMNS)
    columns = -(-panels // rows)
    size = (1.6 + 2.7 * columns, rows * (1.0 + 0.3 * len(labels)) + 0.5)
    with rc_context({"font.size": 9, "text.color": INK, "axes.labelcolor": INK}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
        each = [ax for row in axes for ax in row]
        _overall_panel(each[0], result, labels, {cell.label for cell in scored if cell.is_peer})
        for ax, dataset in zip(each[1:], datasets, strict=False):
            _panel(ax, [cell for cell in scored if cell.dataset == dataset], labels)
        for ax in each[panels:]:
            ax.set_visible(False)
        each[0].set_ylim(len(labels) - 0.4, -0.6)
        for ax in each[:panels:columns]:
            ax.set_yticks(range(len(labels)), labels)
        figure.supxlabel(
            "normalised score at the last checkpoint; dashed: the reference that counts as 100\n"
            "first: interquartile mean, 95 % interval; sets: mean over seeds, light dots: seeds",
            fontsize=8.5,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)
    return True


def _panel(ax: Any, cells: Sequence[Cell], labels: Sequence[str]) -> None:
    """One set: a dot for the mean over seeds, a light one for each seed."""
    for cell in cells:
        scores = list((cell.scores() or {}).values())
        height = labels.index(cell.label)
        ax.plot(scores, [height] * len(scores), color=PALE, linewidth=3, zorder=2)
        ax.scatter(scores, [height] * len(scores), s=14, color=PALE, zorder=3)
        mean = sum(scores) / len(scores)
        ax.scatter(mean, height, s=34, color=THEIRS if cell.is_peer else OURS, zorder=4)
    title = cells[0].dataset
    _dress(ax, title.removeprefix("sb3zoo/").rsplit("-v", 1)[0], labels, bold=False)


def _ranked(cells: Sequence[Cell], result: Overall | None) -> list[str]:
    """Labels by interquartile mean, where there is one; peers below."""
    means = {} if result is None else {name: value[0] for name, value in result.means.items()}
    peers = {cell.label for cell in cells if cell.is_peer}
    labels = dict.fromkeys(cell.label for cell in cells)
    return sorted(labels, key=lambda name: (name in peers, -means.get(name, -np.inf)))


def _overall_panel(
    ax: Any, result: Overall | None, labels: Sequence[str], peers: Collection[str]
) -> None:
    """All sets: interquartile means with their intervals, on what everything shown has."""
    title = "interquartile mean"
    if result is None:
        ax.text(0.5, 0.5, "no set in common yet", transform=ax.transAxes, ha="center", fontsize=8)
    else:
        for label, (mean, low, high) in result.means.items():
            height, colour = labels.index(label), THEIRS if label in peers else OURS
            ax.plot([low, high], [height, height], color=colour, linewidth=5, alpha=0.35, zorder=2)
            ax.scatter(mean, height, s=40, color=colour, zorder=4)
        sets = len(result.datasets)
        title += f" of {sets} set{'s' if sets > 1 else ''}"
    _dress(ax, title, labels, bold=True)


def _dress(ax: Any, title: str, labels: Sequence[str], bold: bool) -> None:
    ax.set_title(title, fontsize=9, fontweight="bold" if bold else "normal", loc="left")
    ax.axvline(100, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6, zorder=1)
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, 0), max(high, 105))
    ax.hlines(range(len(labels)), *ax.get_xlim(), color="#eeeeee", linewidth=0.8, zorder=0)
    ax.tick_params(length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color("#bbbbbb")
