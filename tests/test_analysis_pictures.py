"""Pictures of the analyses: what stands on the axes is what was measured; the example draws."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from decision_policies import analysis
from decision_policies.analysis import pictures
from tests.laws.cases import windows
from tests.test_analysis import long_episode, tiny
from tests.test_examples import run


def painted(figure: Figure) -> float:
    """Share of the saved picture that is not white."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return float(np.mean(imread(file)[..., :3].min(-1) < 0.9))


@pytest.fixture
def no_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it raises


@pytest.mark.usefixtures("no_pyplot")
@pytest.mark.parametrize("kind", ["surface", "heatmap"])
def test_the_surface_is_drawn_over_steps_and_positions(kind: Any) -> None:
    surface = analysis.decision_surface(tiny(), long_episode(20))
    figure = analysis.draw_surface(surface, kind)
    axes: Any = figure.axes[0]
    assert axes.get_xlabel() == "decision step"
    assert axes.get_ylabel() == "position (tokens before the decision)"
    if kind == "surface":
        assert axes.get_zlabel() == "score (scaled)" and axes.get_zlim() == (0, 1)
    else:
        image = axes.images[0].get_array()
        assert np.array_equal(image.filled(np.nan), surface.scores.T, equal_nan=True)
        assert axes.images[0].get_extent() == [-0.5, 19.5, -16.5, 0.5]
    assert 0.05 < painted(figure) < 0.9
    with pytest.raises(ValueError, match="'surface' or 'heatmap', got 'pie'"):
        analysis.draw_surface(surface, cast(Any, "pie"))
    with pytest.raises(ValueError, match=r"at least 2 steps and positions, got \(1, 17\)"):
        analysis.draw_surface(analysis.decision_surface(tiny(), long_episode(20), first=19))


@pytest.mark.usefixtures("no_pyplot")
@pytest.mark.parametrize("unit", ["steps", "tokens"])
def test_the_decay_is_drawn_with_a_line_and_a_fit_for_each_block(unit: Any) -> None:
    found = analysis.attention_matrices(tiny(), windows("box-box", 3, 5))
    curve = analysis.decay_curve(found.matrices, 3, found.mask)
    figure = analysis.draw_decay(curve, unit)
    (axes,) = figure.axes
    decay = getattr(curve, unit)
    lines = [cast(Any, line.get_ydata()) for line in axes.lines]
    for layer in range(2):
        assert np.array_equal(lines[2 * layer], decay.scores[layer])
        assert np.array_equal(lines[2 * layer + 1], decay.fits[layer])
    assert axes.get_xlabel() == f"temporal distance ({unit})"
    assert axes.get_yscale() == "log"
    legend = axes.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names[0].startswith(f"block 1: half-life {decay.half_lives[0]:.2g} {unit}")
    assert 0.005 < painted(figure) < 0.5
    with pytest.raises(ValueError, match="'tokens' or 'steps', got 'hours'"):
        analysis.draw_decay(curve, cast(Any, "hours"))


@pytest.mark.usefixtures("no_pyplot")
def test_the_rollout_is_drawn_with_the_tokens_names() -> None:
    found = analysis.attention_matrices(tiny(), windows("box-box", 3, 4))
    rollout = analysis.attention_rollout(found.matrices)[0]
    figure = analysis.draw_rollout(rollout, found.tokens)
    axes = figure.axes[0]
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert names[:4] == ["$R_{0}$", "$s_{0}$", "$a_{0}$", "$R_{1}$"] and len(names) == 12
    image = cast(Any, axes.images[0].get_array())
    assert np.array_equal(image.filled(0), rollout)
    assert 0.1 < painted(figure) < 0.9
    long = analysis.draw_rollout(np.tri(90) / 90, found.tokens).axes[0]
    assert long.get_xlabel() == "step attended to"
    assert [text.get_text() for text in long.get_xticklabels()][:3] == ["0", "3", "6"]
    with pytest.raises(ValueError, match="multiple of 3 tokens a step"):
        analysis.draw_rollout(np.eye(4), found.tokens)


@pytest.mark.usefixtures("no_pyplot")
def test_norms_are_drawn_as_bars_of_their_heights() -> None:
    m, window = tiny(), windows("box-box", 4, 5)
    activations, gradients = (
        analysis.activation_norms(m, window),
        analysis.gradient_norms(m, window),
    )
    (axes,) = analysis.draw_norms(activations).axes
    heights = np.array([cast(Any, bar).get_height() for bar in axes.patches]).reshape(3, 3)
    assert np.array_equal(heights.T, activations.norms)
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["embedding", "1\nMamba", "2\nMamba"]
    figure = analysis.draw_norms(gradients)
    (axes,) = figure.axes
    assert [cast(Any, bar).get_height() for bar in axes.patches] == gradients.norms.tolist()
    assert [text.get_text() for text in axes.get_xticklabels()] == [*gradients.modalities]
    assert axes.get_title() == "Gradient of the loss by input"
    assert 0.05 < painted(figure) < 0.8


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'decision-policies\[plots\]'"):
        pictures.draw_rollout(np.eye(3), ("step",))


def test_the_example_writes_its_pictures_and_says_what_it_found(tmp_path: Path) -> None:
    printed = run("05_hidden_attention.py", tmp_path, "--updates", "10")
    pngs = re.findall(r"^picture: (\S+\.png)$", printed, re.MULTILINE)
    assert len(pngs) == 6
    for png in pngs:
        image = imread(tmp_path / png)
        assert 0.005 < np.mean(image[..., :3].min(-1) < 0.9) < 0.9, png
    halves = re.findall(r"attention halves every (\d+\.\d|inf) steps", printed)
    assert len(halves) == 3
    assert re.search(r"the loss depends most on the (return|observation|action) tokens", printed)
