"""Learners that search a room: they leave no cell out, remember what pays, and can be copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from decision_policies.envs import Darkroom, KeyToDoor, TMaze
from zoo.history_learners import NoiseCurriculum, play_history
from zoo.history_search import Rows, Search, Sweep


def quiet(_: int) -> None:
    """No progress bar."""


class Steady(Sweep):
    """Never slips."""

    SLIPS = 0.0


class SteadyRows(Rows):
    """Never slips."""

    SLIPS = 0.0


@pytest.mark.parametrize(
    "worlds",
    [
        Darkroom(np.arange(16), size=4, horizon=9),
        Darkroom(np.arange(16), size=4, horizon=9, hard=True),
        KeyToDoor(np.arange(0, 72, 5), size=3, horizon=12),
    ],
    ids=["darkroom", "hard", "key to door"],
)
@pytest.mark.parametrize("learner", [Search, Steady, SteadyRows])
def test_search_is_optimal_once_it_has_found_everything(worlds: Any, learner: type[Search]) -> None:
    rng = np.random.default_rng(0)
    searched, optimal = learner(worlds), NoiseCurriculum((0.0, 0.0))
    found = play_history(worlds, searched, 12, 12, rng, quiet)
    best = play_history(worlds, optimal, 40, 40, rng, quiet).returns
    assert (searched.paying >= 0).all()
    assert found.returns[:, 0].mean() < 0.9 * best.mean()
    if isinstance(worlds, KeyToDoor):  # episodes start anywhere
        assert (play_history(worlds, searched, 3, 3, rng, quiet).returns == 2).all()
    else:
        assert (found.returns[:, -1] == best[:, 0]).all()


@pytest.mark.parametrize("learner", [Search, Steady, SteadyRows])
def test_search_leaves_no_cell_out(learner: type[Search]) -> None:
    """Each of 16 cells is at most 6 steps away, so an episode of 96 is long enough for all."""
    worlds = Darkroom(np.arange(16), size=4, horizon=96, hard=True)
    record = play_history(worlds, learner(worlds), 1, 1, np.random.default_rng(0), quiet)
    assert (record.returns == 1).all()


def test_a_sweep_does_the_same_until_it_finds_something() -> None:
    """All rooms look alike to it, so those whose goals are far off are searched in one way."""
    worlds = Darkroom(np.arange(81), hard=True)
    record = play_history(worlds, Steady(worlds), 3, 3, np.random.default_rng(0), quiet)
    unpaid = record.returns.sum(1) == 0
    assert 20 < unpaid.sum() < 60
    assert (record.actions[unpaid] == record.actions[unpaid][0]).all()


def test_rows_are_searched_one_after_the_other() -> None:
    """What has been seen is whole rows, and the part of one in which the search is."""
    worlds = Darkroom([80], horizon=30, hard=True)
    learner = SteadyRows(worlds)
    play_history(worlds, learner, 3, 3, np.random.default_rng(0), quiet)
    seen = ~learner.open[0, 0].reshape(9, 9)
    whole = seen.all(1)
    row = int(np.argmin(whole))
    assert row >= 4 and whole[:row].all()
    middle = seen[row:]  # on the way from the middle cells of rows to come are seen
    assert (middle.sum() <= 9 + 4) and not middle.all(1).any()


def test_a_sweep_slips_and_goes_on() -> None:
    worlds = Darkroom(np.arange(81), hard=True)
    steady, slipping = (
        play_history(worlds, learner(worlds), 24, 24, np.random.default_rng(0), quiet)
        for learner in (Steady, Sweep)
    )
    assert 0.02 < (steady.actions[:, 0] != slipping.actions[:, 0]).mean() < 0.5
    assert slipping.returns[:, -1].mean() > 0.9


def test_search_refuses_worlds_whose_actions_must_be_found_out() -> None:
    for worlds in (Darkroom([0], permuted=True), TMaze([0])):
        with pytest.raises(ValueError, match="take another learner"):
            Search(worlds)
