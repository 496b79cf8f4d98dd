"""InContextEvaluation and its picture show what the returns say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from decision_policies.analysis import plot_in_context
from decision_policies.in_context import InContextEvaluation

RETURNS = np.array([[0.0, 1.0, 8.0], [2.0, 3.0, 12.0]])


def test_figures_are_those_of_the_returns() -> None:
    result = InContextEvaluation(RETURNS, optimal=np.array([11.0, 14.0]), random=0.5)
    assert result.mean.tolist() == [1.0, 2.0, 10.0]
    assert (result.first, result.last, result.share_of_optimal) == (1.0, 10.0, 0.8)
    assert str(result) == (
        "1.0 in the first episode, 10.0 in the last, 80 % of optimal (2 tasks x 3 episodes)"
    )
    unknown = InContextEvaluation(RETURNS[:1, :1] / 10)
    assert unknown.share_of_optimal is None
    assert str(unknown) == "0.00 in the first episode, 0.00 in the last (1 task x 1 episode)"
    assert InContextEvaluation(RETURNS, np.zeros(2)).share_of_optimal is None


def test_the_interval_is_over_tasks() -> None:
    returns = np.random.default_rng(0).normal((50, 0), (10, 0), (400, 2))
    interval = InContextEvaluation(returns).interval
    half = 1.96 * returns[:, 0].std() / 20
    centre = returns[:, 0].mean()
    np.testing.assert_allclose(interval, [[centre - half, centre + half], [0, 0]], atol=0.2)
    single = InContextEvaluation(RETURNS[:1])
    np.testing.assert_allclose(single.interval, RETURNS[:1].T.repeat(2, 1))


def test_the_picture_shows_means_intervals_and_references(tmp_path: Path) -> None:
    ours = InContextEvaluation(RETURNS, np.array([11.0, 14.0]), random=0.5)
    other = InContextEvaluation(RETURNS[:, :2], np.array([11.0, 14.0]), random=0.7)
    figure = plot_in_context({"DM-H": ours, "AD": other})
    (axes,) = figure.axes
    lines: dict[str, Any] = {str(line.get_label()): line for line in axes.lines}
    assert list(lines) == ["DM-H", "AD", "optimal", "random, DM-H", "random, AD"]
    assert np.array_equal(lines["DM-H"].get_ydata(), ours.mean)
    assert np.array_equal(lines["AD"].get_xdata(), [1, 2])
    assert list(lines["optimal"].get_ydata()) == [12.5, 12.5]
    band = np.asarray(axes.collections[0].get_paths()[0].vertices, np.float64)[:, 1]
    assert (band.min(), band.max()) == (ours.interval.min(), ours.interval.max())
    assert axes.get_xlabel() == "episode"
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_long_names_leave_room_for_the_picture() -> None:
    names = [f"{letter}{'-a-long-name' * 6}" for letter in "abc"]
    figure = plot_in_context(dict.fromkeys(names, InContextEvaluation(RETURNS)))
    figure.draw_without_rendering()  # an overfull layout warns
    assert figure.axes[0].get_position().width > 0.8


def test_the_picture_is_drawn_on_given_axes_and_of_one_evaluation() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_in_context(InContextEvaluation(RETURNS), ax=right) is figure
    assert not left.lines
    assert [line.get_label() for line in right.lines] == ["policy"]
    with pytest.raises(ValueError, match=re.escape("got no evaluations")):
        plot_in_context({})
