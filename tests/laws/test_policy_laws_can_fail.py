"""The laws of acting can fail: a broken model or a broken policy breaks one, in a mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from decision_policies import SequenceAlgorithm, SequencePolicy, check_algorithm
from decision_policies.batch import Prediction, Step, Window
from decision_policies.laws import LawBroken
from decision_policies.models import TokenModel
from decision_policies.session import Session
from decision_policies.tree import State
from tests.laws.test_laws_can_fail import Deaf, Drifting, Honest, Keeping, added, of


def broken(cls: type[SequenceAlgorithm], law: str, kind: str = "box-box") -> LawBroken:
    with pytest.raises(LawBroken) as caught:
        check_algorithm(cls, laws=[law], kinds=[kind])
    assert caught.value.law == law
    return caught.value


class Counting(TokenModel):
    """Gives something else each time."""

    calls = 0.0

    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        self.calls += 0.01
        prediction, state = super().forward(window, state, read_from)
        return added(prediction, self.calls), state


class Crowding(TokenModel):
    """Mixes the rows of a batch when it acts."""

    def act(self, step: Step, state: State) -> tuple[Prediction, State]:
        prediction, state = super().act(step, state)
        return added(prediction, prediction.action.mean(0, keepdim=True)), state


@pytest.mark.parametrize(
    ("model_class", "law", "mode"),
    [
        (Drifting, "all_modes_agree_until_the_first_restart_takes_over", None),
        (Keeping, "bounded_memory_is_a_window_of_the_last_steps", "staggered"),
        (Keeping, "a_new_episode_is_acted_as_by_a_fresh_policy", "recurrent"),
        (Crowding, "a_row_that_restarts_acts_as_a_single_environment", "recurrent"),
        (Keeping, "a_fork_has_a_life_of_its_own", "recurrent"),
        (Counting, "keyword_observe_and_wrapper_give_bit_equal_actions", "window"),
        (Counting, "the_executed_action_is_remembered_rather_than_the_predicted_one", "window"),
        (Deaf, "rewards_lower_what_is_asked_for", "window"),
        (Deaf, "targets_may_differ_from_row_to_row", "window"),
    ],
)
def test_a_broken_model_breaks_a_law_of_acting(
    model_class: type[TokenModel], law: str, mode: str | None
) -> None:
    assert broken(of(model_class), law).mode == mode


def test_a_policy_that_forgets_what_was_executed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    observe = SequencePolicy.observe

    def forgetful(self: SequencePolicy, reward: Any, *ends: Any, **_: Any) -> None:
        observe(self, reward, *ends[:2])

    monkeypatch.setattr(SequencePolicy, "observe", forgetful)
    broken(Honest, "the_executed_action_is_remembered_rather_than_the_predicted_one")


@pytest.mark.parametrize("warnings", [0, 2])
def test_a_policy_that_warns_not_once_is_found(
    monkeypatch: pytest.MonkeyPatch, warnings: int
) -> None:
    warn = SequencePolicy._warn_held

    def too_often(self: SequencePolicy, session: Session) -> None:
        for _ in range(warnings):
            session.warned = False
            warn(self, session)

    monkeypatch.setattr(SequencePolicy, "_warn_held", too_often)
    found = broken(Honest, "a_policy_that_hears_of_no_reward_holds_and_warns_once")
    assert f"{warnings} warnings match" in found.difference


def test_a_return_to_go_in_single_precision_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def rough(self: SequencePolicy, session: Session, rewards: Any) -> None:
        left = session.returns_to_go.astype(np.float32) - rewards.astype(np.float32)
        session.returns_to_go[:] = left

    monkeypatch.setattr(SequencePolicy, "_pay", rough)
    broken(Honest, "the_return_to_go_loses_nothing_over_long_episodes")


def test_forks_that_share_a_generator_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, shared = SequencePolicy.fork, np.random.default_rng(0)

    def alike(self: SequencePolicy, **options: Any) -> SequencePolicy:
        made = fork(self, **options)
        made._rng = shared
        return made

    monkeypatch.setattr(SequencePolicy, "fork", alike)
    broken(Honest, "forks_draw_from_generators_of_their_own", "box-discrete")


class Doubling(TokenModel):
    """Gives actions of double precision."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        act = self.head.act
        self.head.act = lambda *given: act(*given).astype(np.float64)  # type: ignore[method-assign]


def test_actions_of_a_wrong_type_are_found() -> None:
    found = broken(of(Doubling), "actions_have_the_shape_and_dtype_of_their_space")
    assert "is not in Box" in found.difference
