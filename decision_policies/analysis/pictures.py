"""Pictures of the analyses: arrays in, a matplotlib figure out, without pyplot or a display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from decision_policies.analysis.decay import Decay, DecayCurve
from decision_policies.analysis.inputs import ActivationNorms, GradientNorms
from decision_policies.analysis.surface import DecisionSurface

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"return": "#4c72a4", "observation": "#d08a4e", "action": "#6b9a78", "step": "#7d7d85"}
SHORT = {"return": "R", "observation": "s", "action": "a", "step": "x"}
INK, PALE = "#33363b", "#d9dbe0"
MAP = "cividis"
LABELLED = 36
"""Up to this many tokens each gets a label of its own."""


def draw_surface(
    surface: DecisionSurface, kind: Literal["surface", "heatmap"] = "surface"
) -> Figure:
    """Draw a decision surface: decision step by position by score.

    Args:
        surface: What `decision_surface` gives.
        kind: "surface" is the paper's view in three dimensions, "heatmap" the same from above.

    Raises:
        ValueError: There is no such kind, or the surface has a single step or position.
        ImportError: matplotlib is not installed.
    """
    if kind == "heatmap":
        return _heatmap(surface)
    if kind != "surface":
        raise ValueError(f"kind must be 'surface' or 'heatmap', got {kind!r}")
    if min(surface.scores.shape) < 2:
        raise ValueError(
            f"a surface needs at least 2 steps and positions, got {surface.scores.shape}; "
            "kind='heatmap' draws fewer"
        )
    figure = empty_figure(7.0, 5.2, layout=None)  # others leave a cube's corners too much room
    figure.suptitle(_surface_title(surface), y=0.95, color=INK)
    axes: Any = figure.add_axes((0.0, 0.02, 0.97, 1.0), projection="3d")
    position, step = np.meshgrid(surface.positions, surface.steps)
    axes.plot_surface(
        step,
        position,
        np.ma.masked_invalid(surface.scores),
        cmap=MAP,
        vmin=0,
        vmax=1,
        rcount=min(len(surface.steps), 150),
        ccount=min(len(surface.positions), 150),
        linewidth=0,
        antialiased=False,
    )
    axes.set(
        xlabel="decision step",
        ylabel="position (tokens before the decision)",
        zlabel="score (scaled)",
        ylim=(surface.positions[0], 0),
        zlim=(0, 1),
    )
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color("white")
        axis.line.set_color(INK)
        axis._axinfo["grid"].update(color=PALE, linewidth=0.6)
    axes.view_init(elev=28, azim=-52)
    axes.set_box_aspect((1.5, 1.2, 0.75), zoom=1.0)
    return figure


def draw_decay(curve: DecayCurve, unit: Literal["tokens", "steps"] = "steps") -> Figure:
    """Draw mean score against distance, a line a layer, with the fitted exponentials dashed.

    Args:
        curve: What `decay_curve` gives.
        unit: Distances in environment steps or in tokens.

    Raises:
        ValueError: There is no such unit.
        ImportError: matplotlib is not installed.
    """
    if unit not in ("tokens", "steps"):
        raise ValueError(f"unit must be 'tokens' or 'steps', got {unit!r}")
    decay: Decay = getattr(curve, unit)
    figure = empty_figure(6.4, 4.4)
    axes = figure.subplots()
    shades = _shades(len(decay.scores))
    for layer, (scores, fit, shade) in enumerate(
        zip(decay.scores, decay.fits, shades, strict=True), 1
    ):
        half = decay.half_lives[layer - 1]
        name = f"block {layer}: half-life {half:.2g} {unit}, $R^2$ {decay.r_squared[layer - 1]:.2f}"
        axes.plot(decay.distances, scores, "o-", color=shade, markersize=3.5, lw=1.4, label=name)
        axes.plot(decay.distances, fit, "--", color=shade, lw=1, alpha=0.7)
    axes.plot([], [], "--", color=INK, lw=1, label="fitted exponential")
    axes.set_yscale("log")
    axes.set(
        xlabel=f"temporal distance ({unit})",
        ylabel="mean |score|",
        title="Decay of hidden attention with distance",
    )
    axes.grid(color=PALE, lw=0.6)
    axes.legend(frameon=False, fontsize=9)
    plain(axes)
    return figure


def draw_rollout(rollout: NDArray[Any], tokens: Sequence[str]) -> Figure:
    """Draw a rollout, or any attention matrix, with the tokens' names on both axes.

    Args:
        rollout: (L, L), non-negative; entry [i, j] is what token j weighs in token i.
        tokens: Names of a step's tokens, in order; L is a multiple of their number.

    Raises:
        ValueError: The shapes do not fit.
        ImportError: matplotlib is not installed.
    """
    array = np.asarray(rollout, np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or len(array) % len(tokens):
        raise ValueError(
            f"expected a matrix (L, L) with L a multiple of {len(tokens)} tokens a step, got "
            f"shape {array.shape}"
        )
    length = len(array)
    figure = empty_figure(6.6, 5.6)
    from matplotlib.colors import PowerNorm

    axes = figure.subplots()
    shown = np.ma.masked_where(~np.tri(length, dtype=bool), array)
    scale = PowerNorm(0.5, vmin=0, vmax=max(float(array.max()), 1e-12))  # the diagonal dwarfs all
    image = axes.imshow(shown, cmap=MAP, norm=scale, interpolation="nearest")
    figure.colorbar(image, ax=axes, label="weight (square-root scale)", shrink=0.85)
    if length <= LABELLED:
        names = [
            f"${SHORT.get(tokens[i % len(tokens)], '?')}_{{{i // len(tokens)}}}$"
            for i in range(length)
        ]
        axes.set_xticks(range(length), names, fontsize=8)
        axes.set_yticks(range(length), names, fontsize=8)
    else:
        starts = np.arange(0, length, len(tokens))
        places = starts[:: -(-len(starts) // 12)]
        axes.set_xticks(places, [str(p // len(tokens)) for p in places])
        axes.set_yticks(places, [str(p // len(tokens)) for p in places])
    unit = "token" if length <= LABELLED else "step"
    axes.set(xlabel=f"{unit} attended to", ylabel=f"{unit} that attends", title="Attention rollout")
    plain(axes)
    return figure


def draw_norms(norms: ActivationNorms | GradientNorms) -> Figure:
    """Draw norms as bars: activations by layer and modality, or gradients by modality.

    The whiskers of a gradient are two standard errors of its mean over windows to either side.

    Args:
        norms: What `activation_norms` or `gradient_norms` gives.

    Raises:
        ImportError: matplotlib is not installed.
    """
    values = norms.norms[None] if isinstance(norms, GradientNorms) else norms.norms
    layers, kinds = values.shape
    figure = empty_figure(max(4.6, 1.6 + 1.15 * layers), 4.2)
    axes = figure.subplots()
    if isinstance(norms, GradientNorms):
        bars = [COLOURS.get(name, INK) for name in norms.modalities]
        error = 2 * norms.per_window.std(0) / np.sqrt(len(norms.per_window))
        axes.bar(norms.modalities, norms.norms, 0.6, color=bars)
        axes.errorbar(range(kinds), norms.norms, error, fmt="none", ecolor=INK, capsize=4, lw=1)
        title = f"Gradient of the {norms.of} by input"
        axes.set(xlabel="embedded input", ylabel="gradient norm (mean ± 2 s.e.)", title=title)
    else:
        width = 0.8 / kinds
        for index, name in enumerate(norms.modalities):
            x = np.arange(layers) + (index - (kinds - 1) / 2) * width
            colour = COLOURS.get(name, INK)
            axes.bar(x, values[:, index], width * 0.92, color=colour, label=name)
        axes.set_xticks(range(layers), [place.replace(" ", "\n", 1) for place in norms.places])
        axes.set(ylabel="mean activation norm", title="Activations of each kind of token")
        axes.margins(y=0.22)
        axes.legend(frameon=False, fontsize=9, ncols=kinds, loc="upper center")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=PALE, lw=0.6)
    axes.set_axisbelow(True)
    plain(axes)
    return figure


def _heatmap(surface: DecisionSurface) -> Figure:
    figure = empty_figure(7.2, 4.6)
    axes = figure.subplots()
    first, last = float(surface.steps[0]), float(surface.steps[-1])
    extent = (first - 0.5, last + 0.5, surface.positions[0] - 0.5, surface.positions[-1] + 0.5)
    image = axes.imshow(
        np.ma.masked_invalid(surface.scores.T),
        cmap=MAP,
        vmin=0,
        vmax=1,
        aspect="auto",
        origin="lower",
        extent=extent,
        interpolation="nearest",
    )
    figure.colorbar(image, ax=axes, label="score (scaled)")
    axes.set(
        xlabel="decision step",
        ylabel="position (tokens before the decision)",
        title=_surface_title(surface),
    )
    plain(axes)
    return figure


def _surface_title(surface: DecisionSurface) -> str:
    return f"Hidden attention of each decision (Mamba block {surface.block})"


def empty_figure(
    width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """Make an empty figure with a canvas of its own, so that nothing global is kept."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib: pip install 'decision-policies[plots]'"
        ) from error
    figure = Figure(figsize=(width, height), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """Take away what is not data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_color(INK)


def _shades(n: int) -> list[str]:
    """Make n shades of one blue, pale for the first layer and dark for the last."""
    pale, dark = np.array([0.62, 0.73, 0.86]), np.array([0.11, 0.24, 0.42])
    mix = np.linspace(0, 1, n)[:, None] if n > 1 else np.ones((1, 1))
    colours = np.rint(255 * (pale + mix * (dark - pale))).astype(int)
    return ["#" + "".join(f"{c:02x}" for c in colour) for colour in colours]
