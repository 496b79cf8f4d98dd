"""A hybrid's two memories, written down: the model's own actions over many episodes."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
import torch

from decision_policies import DMHybrid
from decision_policies.contexts import LifetimeContext, NativeLifetimeContext, make_context
from decision_policies.models import HybridModel, SequenceModel, native_check
from decision_policies.models.hybrid_runner import hybrid_steps
from tests.kernels import forget, reason
from tests.written_steps import SPACES, Life, alone, difference, model_of

pytestmark = pytest.mark.usefixtures("looked_for_again")

HYBRIDS = {
    "published": DMHybrid(d_model=32),
    "odd": DMHybrid(d_model=33, n_heads=3, chunk_length=4, context_episodes=3, memory_layers=1),
    "single": DMHybrid(d_model=16, n_heads=2, chunk_length=1, context_episodes=1, d_state=5),
    "without-actions": DMHybrid(d_model=24, chunk_length=9, n_layers=1, remove_act_embs=True),
}


def hybrid(
    name: str = "odd", space: tuple[gym.Space[Any], gym.Space[Any]] = SPACES[0]
) -> SequenceModel:
    return model_of(HYBRIDS[name], *space)


def both(model: SequenceModel, rows: int) -> tuple[NativeLifetimeContext, LifetimeContext]:
    ours = make_context(model, rows, "recurrent")
    assert isinstance(ours, NativeLifetimeContext)
    assert model.spec.context_episodes is not None
    return ours, LifetimeContext(model, rows, model.spec.context_episodes)


def life_of(model: SequenceModel, rows: int, **chances: float) -> Life:
    """A life of short episodes, of which a fifth end in forgetting all."""
    return Life(model, rows, **{"chance": 0.15, "forgets": 0.2, **chances})  # type: ignore[arg-type]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("name", HYBRIDS)
@pytest.mark.usefixtures("library_is_there")
def test_the_library_and_torch_predict_the_same_over_many_episodes(
    name: str, space: tuple[gym.Space[Any], gym.Space[Any]]
) -> None:
    model = hybrid(name, space)
    for rows in (1, 2, 7):
        ours, theirs = both(model, rows)
        assert difference(ours, theirs, life_of(model, rows), 40) < 2e-5


@pytest.mark.usefixtures("instruction_set")
def test_each_instruction_set_predicts_the_same_and_a_row_is_bit_equal_alone() -> None:
    model = hybrid()
    many, theirs = both(model, 5)
    assert difference(many, theirs, life_of(model, 5), 40) < 2e-5
    (many, _), (one, _), life = both(model, 5), both(model, 1), life_of(model, 5)
    for _ in range(40):
        executed, clear, step, _ = life.step()
        among = many.advance(executed, clear, step).action[3:4]
        assert torch.equal(among, one.advance(*alone(3, executed, clear, step)).action)


@pytest.mark.usefixtures("library_is_there")
def test_what_past_episodes_were_decides_what_is_done() -> None:
    model = hybrid()
    (ours, _), (other, _) = both(model, 1), both(model, 1)
    life, there = (Life(model, 1, seed, chance=0.0) for seed in (0, 1))
    for _ in range(9):
        ours.advance(*life.step())
        other.advance(*there.step())
    executed, _, step, _ = life.step()
    begins = replace(step, timesteps=torch.zeros_like(step.timesteps))
    left = ours.advance(executed, None, begins).action
    assert not torch.equal(left, other.advance(executed, None, begins).action)
    forget = np.ones(1, bool)
    left, right = (x.advance(executed, forget, begins).action for x in (ours, other))
    assert torch.equal(left, right)


@pytest.mark.usefixtures("library_is_there")
def test_weights_that_change_are_taken_over() -> None:
    model = hybrid()
    ours, theirs = both(model, 3)
    life = life_of(model, 3)
    assert difference(ours, theirs, life, 9) < 2e-5
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.3)
    # What rows remember was seen with the weights of then, by both.
    assert difference(ours, theirs, life, 20) < 2e-5


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.usefixtures("library_is_there")
def test_a_copy_goes_on_by_itself(copied: Callable[[Any], Any]) -> None:
    model = hybrid()
    (ours, _), life = both(model, 3), life_of(model, 3)
    for _ in range(15):
        ours.advance(*life.step())
    other = copied(ours)
    assert difference(ours, other, life, 20) == 0.0  # were they one, each step would be two


@pytest.mark.usefixtures("library_is_there")
def test_parts_that_are_not_known_act_by_torch(caplog: pytest.LogCaptureFixture) -> None:
    for change in ("embedding", "look", "short"):
        model = cast(HybridModel, hybrid())
        part = getattr(model, change)
        if change == "short":
            part.layers[0] = part.layers[1]
        else:
            part.__class__ = type("Own", (type(part),), {})
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                assert type(make_context(model, 1, "recurrent")) is LifetimeContext
    assert caplog.text.count("the model acts by torch") == 3  # once each
    assert hybrid_steps(hybrid().double()) is None


@pytest.mark.usefixtures("library_is_there")
def test_steps_that_differ_from_their_model_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = hybrid()
    monkeypatch.setattr(native_check, "TOLERANCE", 1e-12)
    assert hybrid_steps(model.train()) is None
    assert model.training
    monkeypatch.undo()
    assert hybrid_steps(model) is not None and hybrid_steps(model) is hybrid_steps(model)


@pytest.mark.usefixtures("library_is_there")
def test_without_the_library_torch_acts_and_a_pickle_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("odd", "published"):
        model = hybrid(name)
        ours, theirs = both(model, 3)
        first = pickle.dumps(ours)
        life = life_of(model, 3)
        assert difference(ours, theirs, life, 25) < 2e-5
        held = pickle.dumps(ours)
        assert reason(monkeypatch, "off")
        assert type(make_context(model, 1, "recurrent")) is LifetimeContext
        again = pickle.loads(held)
        assert type(again) is LifetimeContext
        assert difference(again, theirs, life, 25) < 2e-5
        new = pickle.loads(first)
        assert new.last is None and not new.episodes.lengths.any()
        monkeypatch.undo()
        forget()


@pytest.mark.usefixtures("library_is_there")
def test_a_model_that_can_no_longer_act_natively_says_so() -> None:
    model = hybrid()
    (ours, _), life = both(model, 1), life_of(model, 1)
    ours.advance(*life.step())
    model.double()
    with torch.no_grad():
        next(model.parameters()).zero_()
    with pytest.raises(RuntimeError, match=r"by the native library.* policy\.reset\(\)"):
        ours.advance(*life.step())
