"""Laws of models: stepping equals the window, no label leaks, padding and rows do no harm."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from decision_policies import tree
from decision_policies.batch import Step, Window
from decision_policies.laws.cases import Case
from decision_policies.laws.law import close, differ, is_zero, law, require, same, same_state
from decision_policies.models.model import SequenceModel

B = 4
OF_STEPS = ("observations", "actions", "rewards", "returns_to_go", "timesteps")
"""The fields of a window that hold a value for each step, beside the mask."""


def at(window: Window, t: int) -> Step:
    """What is known of step t before its action."""
    return Step(window.observations[:, t], window.returns_to_go[:, t], window.timesteps[:, t])


def done(window: Window, t: int) -> tuple[Tensor, Tensor, Step]:
    """What `commit` is told of step t."""
    return window.actions[:, t], window.rewards[:, t], at(window, t)


def cut(window: Window, part: slice) -> Window:
    """Cut a run of steps out of a window."""
    pieces = {name: getattr(window, name)[:, part] for name in (*OF_STEPS, "mask")}
    return replace(window, **pieces)


def mixed(window: Window, other: Window, place: Tensor, names: tuple[str, ...]) -> Window:
    """Replace what stands at the marked places (B, T) by another window's."""
    values = {name: getattr(window, name).clone() for name in names}
    for name, value in values.items():
        value[place] = getattr(other, name)[place]
    return replace(window, **values)


def predict(model: SequenceModel, window: Window, state: tree.State | None = None) -> Tensor:
    """Predict the actions of a window, (B, T, P)."""
    action: Tensor = model(window, state)[0].action
    return action


@law()
@torch.no_grad()
def changing_a_reward_changes_no_prediction_up_to_it(case: Case) -> None:
    """A reward is seen by later steps if it is a token, else by none."""
    model, window, steps = case.model(), case.windows(B), case.steps
    before = predict(model, window)
    sees = "reward" in model.spec.modalities
    for t in range(steps):
        rewards = window.rewards.clone()
        rewards[:, t] += 1
        after = predict(model, replace(window, rewards=rewards))
        last = t + 1 if sees else steps
        what = f"after the reward of step {t} was changed, the prediction of a step up to it"
        if not sees:
            what = f"after the reward of step {t}, which is no token, was changed, a prediction"
        same(after[:, :last], before[:, :last], what)
        if sees and t < steps - 1:
            differ(after[:, last:], before[:, last:], f"the reward of step {t} changes nothing")


@law()
@torch.no_grad()
def changing_an_action_changes_no_prediction_up_to_it(case: Case) -> None:
    """No label leaks; a model that sees actions predicts other ones later, else none changes."""
    model, window, steps = case.model(), case.windows(B), case.steps
    before = predict(model, window)
    other = case.windows(B, seed=5).actions
    sees = "action" in model.spec.modalities
    changed = False
    for t in range(steps):
        actions = window.actions.clone()
        actions[:, t] = other[:, 0]
        after = predict(model, replace(window, actions=actions))
        last = t + 1 if sees else steps
        what = f"after the action of step {t} was changed, the prediction of a step up to it"
        if not sees:
            what = f"after the action of step {t}, which is no token, was changed, a prediction"
        same(after[:, :last], before[:, :last], what)
        changed |= not torch.equal(after[:, last:], before[:, last:])
    if sees:
        require(changed, "no action changes a later prediction, though actions are tokens")


@law()
@torch.no_grad()
def what_comes_later_changes_no_prediction(case: Case) -> None:
    """Neither observations nor returns-to-go, rewards, times or actions of later steps are seen."""
    model, window = case.model(), case.windows(B)
    before, other = predict(model, window), case.windows(B, seed=5)
    for t in range(case.steps - 1):
        place = torch.zeros_like(window.mask)
        place[:, t + 1 :] = True
        after = predict(model, mixed(window, other, place, OF_STEPS))
        what = f"after the steps behind step {t} were changed, the prediction of a step up to it"
        same(after[:, : t + 1], before[:, : t + 1], what)


@law()
@torch.no_grad()
def a_batch_of_windows_is_its_rows_alone(case: Case) -> None:
    """No row of a batch has an influence on another."""
    model, window = case.model(), case.windows(B)
    together = predict(model, window)
    for i in range(B):
        row = {name: value[i : i + 1] for name, value in window.tensors().items()}
        what = f"the prediction for row {i} in a batch, against the row alone,"
        close(together[i : i + 1], predict(model, Window(**row)), what)


@law()
@torch.no_grad()
def junk_in_the_padding_changes_no_real_step(case: Case) -> None:
    """What stands behind the end of a row changes neither a real step's prediction nor the loss."""
    model, window = case.model(), case.windows(B)
    require(not bool(window.mask.all()), "the batch must have padding")
    before = model(window)[0]
    junk = mixed(window, case.windows(B, seed=9), ~window.mask, OF_STEPS)
    returns = torch.where(window.mask, window.returns_to_go, 1e4)
    junk = replace(junk, returns_to_go=returns)
    after = model(junk)[0]
    real = window.mask
    same(after.action[real], before.action[real], "the prediction of a real step, given junk,")
    losses = model.loss(after, junk)["loss"], model.loss(before, window)["loss"]
    same(*losses, "the loss, given junk behind the end of a row,")


@law()
@torch.no_grad()
def cutting_a_window_and_carrying_the_state_changes_nothing(case: Case) -> None:
    """Two parts of a window, the state carried from one to the other, predict what it does."""
    model, window = case.model(), case.windows(B)
    whole = predict(model, window)
    for k in range(1, case.steps):
        first, state = model(cut(window, slice(None, k)))
        second = predict(model, cut(window, slice(k, None)), state)
        joined = torch.cat((first.action, second), 1)
        close(joined, whole, f"the prediction of a window cut after {k} steps")


@law()
@torch.no_grad()
def stepping_through_a_window_predicts_what_the_window_predicts(case: Case) -> None:
    """`act` and `commit`, and `commit_and_act`, are `forward` step by step, state included."""
    model, window, steps = case.model(), case.windows(B), case.steps
    whole, last = model(window)
    later = case.windows(B, seed=7)

    def whole_rows(values: Tensor) -> Tensor:
        return values[window.mask.all(1)]  # what a model makes of padding is nobody's business

    for fused in (False, True):
        name = "commit_and_act" if fused else "commit and act"
        state = model.initial_state(B)
        for t in range(steps):
            if t and fused:
                previous = done(window, t - 1)
                prediction, state = model.commit_and_act(*previous, at(window, t), state)
            else:
                if t:
                    state = model.commit(*done(window, t - 1), state)
                prediction, state = model.act(at(window, t), state)
            what = f"the prediction of step {t} by {name}, against the window's,"
            real = window.mask[:, t]
            close(prediction.action[real], whole.action[real, t], what)
        state = model.commit(*done(window, steps - 1), state)
        found, expected = (tree.map_state(whole_rows, s) for s in (state, last))
        same_state(found, expected, f"the state after stepping by {name}")
        what = f"what is predicted after stepping by {name}, against after the window,"
        close(
            whole_rows(predict(model, later, state)), whole_rows(predict(model, later, last)), what
        )


@law()
@torch.no_grad()
def reading_from_a_step_on_predicts_what_reading_all_predicts(case: Case) -> None:
    """`read_from`, as learning and windows use it, changes neither predictions nor the state."""
    model, window = case.model(), case.windows(B)
    carried = model(case.windows(B, seed=7))[1]
    for before, words in ((None, "the empty memory"), (carried, "a carried state")):
        whole, last = model(window, before)
        for first in range(case.steps):
            some, after = model(window, before, first)
            real = window.mask[:, first:]
            what = f"the prediction, read from step {first} on after {words}, against all read,"
            close(some.action[real], whole.action[:, first:][real], what)
            same_state(after, last, f"the state, read from step {first} on after {words},")


@law()
@torch.no_grad()
def a_state_is_neither_kept_in_the_model_nor_changed_in_place(case: Case) -> None:
    """The same step from the same state predicts the same, whatever the model did in between."""
    model, window = case.model(), case.windows(B)
    empty = model.initial_state(B)
    require(is_zero(empty), "the initial state is not all zero")
    starting = predict(model, window)
    same(predict(model, window, empty), starting, "the prediction from the initial state")
    _, state = model(cut(window, slice(None, 1)))
    kept = tree.map_state(torch.clone, state)
    first, acted = model.act(at(window, 1), state)
    after = tree.map_state(torch.clone, acted)
    next_one, _ = model.act(at(window, 1), model.commit(*done(window, 1), acted))
    predict(model, case.windows(B, seed=3))
    model.commit_and_act(*done(window, 1), at(window, 0), acted)
    same_state(state, kept, "a state that was acted from", tolerance=0)
    same_state(acted, after, "a state that was committed to", tolerance=0)
    what = "the prediction from a state, asked for again,"
    same(model.act(at(window, 1), state)[0].action, first.action, what)
    again, _ = model.act(at(window, 1), model.commit(*done(window, 1), acted))
    same(again.action, next_one.action, f"after `commit`, {what}")
    same(predict(model, window), starting, "a window's prediction, asked for again,")


@law()
@torch.no_grad()
def a_cleared_row_is_a_fresh_row_and_the_others_stay_as_they_are(case: Case) -> None:
    """Setting rows of a state to zero starts them afresh, and touches no other row."""
    model, window, later = case.model(), case.windows(B), case.windows(B, seed=7)
    _, state = model(window)
    rows = torch.arange(B, device=window.mask.device) % 2 == 1
    cleared = predict(model, later, tree.clear(state, rows))
    fresh, kept = predict(model, later), predict(model, later, state)
    close(cleared[rows], fresh[rows], "the prediction for a cleared row, against a fresh one,")
    close(cleared[~rows], kept[~rows], "the prediction for a row beside a cleared one")


@law()
@torch.no_grad()
def observations_matter_and_returns_do_if_they_are_tokens(case: Case) -> None:
    """A changed observation, and a changed return-to-go, change predictions; or the latter none."""
    model, window = case.model(), case.windows(B)
    before = predict(model, window)
    asked = predict(model, replace(window, returns_to_go=window.returns_to_go + 1))
    seen = predict(model, replace(window, observations=window.observations.roll(1, 0)))
    differ(seen, before, "no prediction changed with the observations")
    if model.spec.uses_returns:
        differ(asked, before, "no prediction changed with the returns-to-go")
    else:
        same(asked, before, "a prediction, after returns-to-go that are no token were changed,")
