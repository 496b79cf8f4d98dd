"""Laws of models: stepping equals the window, no label leaks, padding and rows do no harm."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from decision_policies import tree
from decision_policies.batch import Step, Window
from decision_policies.models.model import SequenceModel
from tests.laws.cases import SPACES, VARIANTS, model, windows

B, T = 4, 6


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    return VARIANTS[request.param]


@pytest.fixture(params=SPACES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def net(kind: str, variant: dict[str, Any]) -> SequenceModel:
    return model(kind, variant)


@pytest.fixture
def window(kind: str) -> Window:
    return windows(kind, B, T)


def at(window: Window, t: int) -> Step:
    return Step(window.observations[:, t], window.returns_to_go[:, t], window.timesteps[:, t])


def cut(window: Window, part: slice) -> Window:
    pieces = {
        f.name: getattr(window, f.name)[:, part] for f in fields(window) if f.name != "starts"
    }
    return replace(window, **pieces)


@torch.no_grad()
@pytest.mark.parametrize("fused", [False, True])
def test_stepping_through_a_window_predicts_what_the_window_predicts(
    net: SequenceModel, window: Window, fused: bool
) -> None:
    whole, last = net(window)
    state = net.initial_state(B)
    for t in range(T):
        if t and fused:
            done = (window.actions[:, t - 1], window.rewards[:, t - 1], at(window, t - 1))
            prediction, state = net.commit_and_act(*done, at(window, t), state)
        else:
            if t:
                done = (window.actions[:, t - 1], window.rewards[:, t - 1], at(window, t - 1))
                state = net.commit(*done, state)
            prediction, state = net.act(at(window, t), state)
        assert torch.allclose(prediction.action, whole.action[:, t], atol=1e-5, rtol=0)
    state = net.commit(window.actions[:, -1], window.rewards[:, -1], at(window, T - 1), state)
    for a, b in zip(tree.leaves(state), tree.leaves(last), strict=True):
        assert torch.allclose(a, b, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("k", range(1, T))
def test_cutting_a_window_and_carrying_the_state_changes_nothing(
    net: SequenceModel, window: Window, k: int
) -> None:
    whole, _ = net(window)
    first, state = net(cut(window, slice(None, k)))
    second, _ = net(cut(window, slice(k, None)), state)
    joined = torch.cat((first.action, second.action), 1)
    assert torch.allclose(joined, whole.action, atol=1e-5, rtol=0)


@torch.no_grad()
def test_changing_an_action_changes_no_prediction_up_to_it(
    net: SequenceModel, window: Window, kind: str
) -> None:
    before = net(window)[0].action
    other = windows(kind, B, T, seed=5).actions
    changed = 0
    for t in range(T):
        actions = window.actions.clone()
        actions[:, t] = other[:, 0]
        after = net(replace(window, actions=actions))[0].action
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        changed += int(not torch.equal(after[:, t + 1 :], before[:, t + 1 :]))
    assert changed > 0, "a model that never sees actions would pass for the wrong reason"


@torch.no_grad()
def test_junk_in_the_padding_changes_no_real_step(
    net: SequenceModel, window: Window, kind: str
) -> None:
    before = net(window)[0].action
    other = windows(kind, B, T, seed=9)
    fields_ = ("observations", "actions", "rewards")
    mixed = {f: getattr(window, f).clone() for f in fields_}
    for name, values in mixed.items():
        values[~window.mask] = getattr(other, name)[~window.mask]
    returns = torch.where(window.mask, window.returns_to_go, 1e4)
    junk = replace(window, returns_to_go=returns, **mixed)
    assert not window.mask.all(), "the batch must have padding"
    assert torch.equal(net(junk)[0].action[window.mask], before[window.mask])
    losses = net.loss(net(junk)[0], junk)["loss"], net.loss(net(window)[0], window)["loss"]
    assert torch.equal(*losses)


@torch.no_grad()
def test_a_batch_of_windows_is_its_rows_alone(net: SequenceModel, window: Window) -> None:
    together = net(window)[0].action
    for i in range(B):
        row = {f.name: getattr(window, f.name)[i : i + 1] for f in fields(window)}
        alone = net(Window(**row))[0].action
        assert torch.allclose(alone, together[i : i + 1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_return_and_observation_both_matter(net: SequenceModel, window: Window) -> None:
    before = net(window)[0].action
    asked = net(replace(window, returns_to_go=window.returns_to_go + 1))[0].action
    seen = net(replace(window, observations=window.observations.roll(1, 0)))[0].action
    assert not torch.equal(asked, before)
    assert not torch.equal(seen, before)
