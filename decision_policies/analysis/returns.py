"""Pictures of returns: how those of a dataset are spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from decision_policies.analysis.pictures import COLOURS, INK, PALE, empty_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 40


class HasReturns(Protocol):
    """Trajectories, or what `check_dataset` says of them."""

    @property
    def returns(self) -> NDArray[np.float64]:
        """Undiscounted return of each episode, (E,)."""


def draw_returns(data: HasReturns, ax: Axes | None = None) -> Figure:
    """Draw a histogram of the returns of a dataset's episodes, with their median and ninth tenth.

    Args:
        data: Trajectories, or the report of `check_dataset`.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The figure drawn on; its `savefig` writes it.

    Raises:
        ImportError: matplotlib is not installed.
    """
    returns = data.returns
    axes = empty_figure(6.4, 3.6).subplots() if ax is None else ax
    axes.hist(returns, bins=BINS, color=COLOURS["return"])
    for percent, name, dashes in ((50, "median", "--"), (90, "p90", ":")):
        level = float(np.percentile(returns, percent))
        axes.axvline(level, color=INK, ls=dashes, lw=1.2, label=f"{name} {level:.5g}")
    axes.set(xlabel="return of an episode", ylabel=f"episodes (of {len(returns)})")
    axes.grid(color=PALE, lw=0.6, axis="y")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9)
    plain(axes)
    figure: Any = axes.get_figure()
    return figure  # type: ignore[no-any-return]
