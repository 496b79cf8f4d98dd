"""Picture of in-context learning: return against episode, the figure that its papers show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from decision_policies.analysis.pictures import COLOURS, INK, PALE, empty_figure, plain
from decision_policies.in_context import InContextEvaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = (*COLOURS.values(), "#a3586d", "#8a6fae")
DASHES: dict[str, Any] = {"optimal": (0, (5, 2)), "random": (0, (2, 2))}


def plot_in_context(
    evaluations: InContextEvaluation | Mapping[str, InContextEvaluation], ax: Axes | None = None
) -> Figure:
    """Draw mean return against episode, with the 95 % interval over tasks as a band.

    What is optimal at these tasks, and what random actions earn, are dashed lines, where known: one
    for all evaluations if they agree, otherwise one in the colour of each.

    Args:
        evaluations: What `evaluate_in_context` gives, or several of them by name.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The figure drawn on; its `savefig` writes it.

    Raises:
        ValueError: There are no evaluations.
        ImportError: matplotlib is not installed.

    References:
        Laskin et al., arXiv 2210.14215, figure 4.
    """
    named = {"": evaluations} if isinstance(evaluations, InContextEvaluation) else evaluations
    if not named:
        raise ValueError("got no evaluations: pass at least one")
    axes = empty_figure(6.4, 4.2).subplots() if ax is None else ax
    colours = {name: LINES[i % len(LINES)] for i, name in enumerate(named)}
    for name, evaluation in named.items():
        episodes = np.arange(1, evaluation.returns.shape[1] + 1)
        low, high = evaluation.interval.T
        colour, label = colours[name], name or "policy"
        axes.fill_between(episodes, low, high, color=colour, alpha=0.2, lw=0)
        axes.plot(episodes, evaluation.mean, "o-", color=colour, markersize=3, lw=1.5, label=label)
    for kind in DASHES:
        _references(axes, kind, named, colours)
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="episode", ylabel="return (mean over tasks, 95 % interval)")
    axes.grid(color=PALE, lw=0.6)
    axes.set_axisbelow(True)
    longest = max(len(str(label)) for label in axes.get_legend_handles_labels()[1])
    columns = min(4, max(1, 80 // (longest + 6)))
    place: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": columns}
    axes.legend(frameon=False, fontsize=9, **place)
    plain(axes)
    figure: Any = axes.get_figure()
    return figure  # type: ignore[no-any-return]


def _references(
    axes: Axes, kind: str, named: Mapping[str, InContextEvaluation], colours: Mapping[str, str]
) -> None:
    """Draw the mean optimal or random return, once if it is the same for all."""
    found = {name: getattr(evaluation, kind) for name, evaluation in named.items()}
    levels = {name: float(np.mean(value)) for name, value in found.items() if value is not None}
    same = len(set(levels.values())) == 1
    for name, level in list(levels.items())[: 1 if same else None]:
        colour = INK if same else colours[name]
        label = kind if same else f"{kind}, {name}"
        axes.axhline(level, color=colour, ls=DASHES[kind], lw=1.2, label=label)
