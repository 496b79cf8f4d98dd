"""Trainings of every system that are killed and resumed, as if nothing had happened."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch

from decision_policies import SequenceAlgorithm
from decision_policies.algorithms import BY_NAME
from decision_policies.laws.cases import Case
from tests.faults.counting import Suite
from tests.faults.crashes import dying_at, outcome_of
from tests.test_checkpoint_faults import strays

UPDATES = 6
MOMENTS: dict[str, tuple[int, str]] = {
    "after the first update": (1, "update"),
    "half-way": (UPDATES // 2, "update"),
    "before the last update": (UPDATES - 1, "update"),
    "in an evaluation": (UPDATES // 2, "evaluation"),
    "in a save": (UPDATES // 2, "save"),
}
"""After how many updates the last whole save is, and in what the kill comes."""


def resumes(room: Path, systems: Iterable[str] | None = None) -> Suite:
    """Kill a training at some moments, load what it saved and go on to the end."""
    suite = Suite("killed in training and resumed")
    for name in BY_NAME if systems is None else systems:
        case = Case(BY_NAME[name])
        whole = case.learner().learn(case.data(), UPDATES)
        for moment, (last, doing) in MOMENTS.items():
            place = room / name / moment / "policy"
            place.parent.mkdir(parents=True)
            status = outcome_of(partial(train_and_die, case, place, last, doing))
            died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

            def go_on(
                case: Case = case,
                place: Path = place,
                died: bool = died,
                whole: SequenceAlgorithm = whole,
            ) -> None:
                assert died, "the training was not killed"
                resumed = case.algorithm.load(place, device="cpu")
                left = UPDATES - resumed.num_timesteps
                resumed.learn(case.data(), left, reset_num_timesteps=False)
                assert_equal(resumed, whole)
                resumed.save(place)
                assert strays(place) == []

            suite.inject(f"{name}, {moment}", go_on, refusals=(), slow=None)
    return suite


def train_and_die(case: Case, place: Path, last: int, doing: str) -> None:
    """Train, save after `last` updates, and be killed at once or in what comes next."""
    algorithm = case.learner()
    observation = case.sample(1)[0][0]

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def evaluate() -> None:
        for _ in range(3):
            algorithm.predict(observation, reward=1.0)
        kill()

    def save() -> None:
        dying_at(12)
        algorithm.save(place)

    then: Callable[[], None] = {"update": kill, "evaluation": evaluate, "save": save}[doing]

    def callback(*_: object) -> bool:
        if algorithm.num_timesteps == last:
            algorithm.save(place)
        if algorithm.num_timesteps == last + (doing != "update"):
            then()
        return True

    algorithm.learn(case.data(), UPDATES, callback=callback)


def assert_equal(found: SequenceAlgorithm, expected: SequenceAlgorithm) -> None:
    assert found.policy is not None
    assert expected.policy is not None
    weights = expected.policy.model.state_dict()
    for name, value in found.policy.model.state_dict().items():
        assert torch.equal(value, weights[name]), f"{name} differs"
