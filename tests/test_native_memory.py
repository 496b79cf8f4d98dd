"""What a written step remembers: windows, two states in turn, rings of keys; copied and pickled."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch

from decision_policies import DT, DeMa
from decision_policies.contexts import (
    NativeContext,
    NativeStaggeredContext,
    NativeWindowContext,
    RecurrentContext,
    StaggeredContext,
    WindowContext,
    make_context,
)
from tests.kernels import reason
from tests.written_steps import SPACES, SYSTEMS, Life, alone, difference, model_of, native_of

pytestmark = pytest.mark.usefixtures("looked_for_again")


@pytest.mark.parametrize("space", SPACES[:2], ids=str)
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.usefixtures("library_is_there")
def test_native_and_torch_windows_predict_the_same(
    name: str, space: tuple[gym.Space[Any], gym.Space[Any]]
) -> None:
    model = model_of(name, *space)
    for rows, length in ((1, 1), (2, 3), (7, 4)):
        ours = NativeWindowContext(model, rows, length)
        theirs = WindowContext(model, rows, length)
        assert difference(ours, theirs, Life(model, rows), 12) < 2e-5


@pytest.mark.parametrize("name", ["DeMa", "DMM", "DM", "DT", "DC", "MambaDM", "BC"])
@pytest.mark.usefixtures("engine")
def test_two_states_in_turn_and_torch_predict_the_same(name: str) -> None:
    model = model_of(name, *SPACES[0 if name != "DM" else 1])
    for rows in (1, 4):
        ours = NativeStaggeredContext(model, rows, 6)
        theirs = StaggeredContext(RecurrentContext(model, 2 * rows), rows, 6)
        assert difference(ours, theirs, Life(model, rows, chance=0.1), 40) < 2e-5


@pytest.mark.parametrize("name", ["DT", "DT-narrow", "AD-transformer"])
@pytest.mark.usefixtures("engine")
def test_attention_goes_on_when_its_places_have_all_been_used(name: str) -> None:
    model = model_of(name)
    for rows in (1, 3):
        ours, theirs = native_of(model, rows), RecurrentContext(model, rows)
        assert difference(ours, theirs, Life(model, rows, chance=0.02), 90) < 2e-5


@pytest.mark.parametrize("name", ["DeMa", "DMM", "DM", "DT", "MambaDM", "DC"])
@pytest.mark.usefixtures("library_is_there")
def test_windows_of_more_tokens_than_go_together_predict_the_same(name: str) -> None:
    model = model_of(name)
    ours, theirs = NativeWindowContext(model, 2, 50), WindowContext(model, 2, 50)
    assert difference(ours, theirs, Life(model, 2, chance=0.02), 70) < 2e-5


@pytest.mark.parametrize("name", ["DeMa", "DMM", "DT", "MambaDM", "DC"])
@pytest.mark.usefixtures("library_is_there")
def test_windows_are_the_same_alone_among_others_and_copied(name: str) -> None:
    model = model_of(name)
    many, one = (NativeWindowContext(model, rows, 4) for rows in (5, 1))
    life = Life(model, 5)
    for _ in range(12):
        executed, clear, step, _ = life.step()
        among = many.advance(executed, clear, step).action[3:4]
        one = copy.deepcopy(one)
        assert torch.equal(among, one.advance(*alone(3, executed, clear, step)).action)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.usefixtures("engine")
def test_a_copy_goes_on_by_itself(copied: Callable[[NativeContext], NativeContext]) -> None:
    model = model_of("DeMa")
    ours, life = native_of(model, 3), Life(model, 3)
    for _ in range(3):
        ours.advance(*life.step())
    assert difference(ours, copied(ours), life, 9) == 0.0  # were they one, each step would be two


@pytest.mark.parametrize("name", ["DeMa", "DT", "MambaDM"])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.usefixtures("library_is_there")
def test_a_pickle_goes_on_where_there_is_no_library(
    name: str, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(name)
    ours = NativeContext(model, 3) if window is None else NativeWindowContext(model, 3, window)
    theirs = RecurrentContext(model, 3) if window is None else WindowContext(model, 3, window)
    life = Life(model, 3)
    assert difference(ours, theirs, life, 7) < 2e-5
    held = pickle.dumps(ours)
    reason(monkeypatch, "off")
    assert difference(pickle.loads(held), theirs, life, 7) < 2e-5


@pytest.mark.usefixtures("library_is_there")
def test_long_windows_go_by_torch_where_there_is_attention() -> None:
    assert isinstance(make_context(model_of("DT"), 1, "window"), NativeWindowContext)
    longer = DT(d_model=16, n_layers=1, context_length=600)
    assert isinstance(
        make_context(longer.make_policy(*SPACES[0]).model, 1, "window"), WindowContext
    )
    without = DeMa(d_model=16, n_layers=1, context_length=600).make_policy(*SPACES[0]).model
    assert isinstance(make_context(without, 1, "window"), NativeWindowContext)
