"""check_algorithm: what it takes, what it refuses, what it tells while it runs."""

from __future__ import annotations

import random
import signal
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from decision_policies import BC, DeMa, SequenceAlgorithm, check_algorithm
from decision_policies.laws import LAWS, SPACES, Case, check_mixer
from decision_policies.nets import Mamba
from tests.laws.test_laws_can_fail import Honest

ONE = "changing_an_action_changes_no_prediction_up_to_it"


def test_an_honest_algorithm_keeps_every_law_and_progress_hears_of_each() -> None:
    lines: list[str] = []
    check_algorithm(Honest, kinds=["discrete-box"], progress=lines.append)
    said = "\n".join(lines)
    assert len(lines) == len(LAWS)
    assert all(f"{name.replace('_', ' ')} (discrete-box)" in said for name in LAWS)


def test_all_kinds_are_checked_that_a_law_needs() -> None:
    lines: list[str] = []
    laws = [ONE, "ctrl_c_keeps_what_was_learnt_and_can_be_resumed"]
    check_algorithm(DeMa, laws=laws, progress=lines.append, n_layers=1)
    assert [line.split("(")[1] for line in lines] == [*(f"{k})" for k in SPACES), "box-box)"]


def test_a_system_without_returns_and_actions_is_held_to_that() -> None:
    laws = [ONE, "observations_matter_and_returns_do_if_they_are_tokens"]
    check_algorithm(BC, laws=laws)
    spec = Case(BC).model().spec
    assert spec.modalities == ("observation",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["box-bix"]}, "no space kind 'box-bix'; did you mean 'box-box'"),
        ({"kinds": []}, "no space kind was given"),
        ({"laws": [ONE[:-3]]}, f"there is no law '{ONE[:-3]}'; did you mean '{ONE}'"),
        ({"laws": ["x"]}, "there is no law 'x'; there are changing_a_reward"),
        ({"widht": 8}, "Honest has no hyper-parameter 'widht'; did you mean 'width'"),
        ({"context_length": 1}, "context_length must be at least 2"),
        ({"batch_size": 0}, "must be from 1 to 65536, got 0"),
    ],
)
def test_what_is_not_there_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_algorithm(Honest, **options)


@pytest.mark.parametrize("thing", [DeMa(), int, "DeMa"], ids=str)
def test_what_is_no_class_of_algorithms_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="check_algorithm takes a subclass of SequenceAlgorithm"):
        check_algorithm(thing)


def test_small_hyperparameters_are_those_that_the_class_has() -> None:
    assert (Case(Honest).make().context_length, Case(Honest).make().seed) == (6, 0)
    assert Case(DeMa).make().hyperparameters()["d_model"] == 16
    assert Case(DeMa, "box-box", {"d_model": 8}).make().hyperparameters()["d_model"] == 8
    assert Case(DeMa).learner().hyperparameters()["dropout"] == 0.1
    assert Case(DeMa, "box-box", {"dropout": 0.3}).learner().hyperparameters()["dropout"] == 0.3


@dataclass(kw_only=True, eq=False)
class Particular(Honest):
    """Refuses contexts shorter than it likes."""

    least: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.context_length < self.least:
            raise ValueError("too short a context")


def test_an_algorithm_may_refuse_shorter_contexts_than_the_case_has_but_no_longer_ones() -> None:
    assert Case(Particular).lengths((2, 5, 12)) == [5, 6, 12]
    law = "all_modes_agree_until_the_first_restart_takes_over"
    check_algorithm(Particular, laws=[law], kinds=["box-box"])


def test_longer_contexts_than_the_random_episodes_are_given_longer_episodes() -> None:
    window = Case(Honest, "box-box", {"context_length": 40}).windows(4)
    assert window.mask.all(1).any() and not window.mask.all()


def test_outside_the_main_thread_ctrl_c_is_not_pressed() -> None:
    law = "ctrl_c_in_the_middle_of_an_update_lets_it_finish"
    failures: list[BaseException] = []

    def check() -> None:
        try:
            check_algorithm(Honest, laws=[law], kinds=["box-box"])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=check)
    thread.start()
    thread.join()
    assert not failures


def test_checking_leaves_generators_signals_and_the_mixer_as_they_were() -> None:
    def states() -> list[Any]:
        numbers: Any = np.random.get_state()  # noqa: NPY002 - what must stay untouched
        return [random.getstate(), numbers[1].tolist(), torch.get_rng_state().tolist()]

    def handler(*_: Any) -> None:
        raise AssertionError("no signal may arrive here")

    mixer = Mamba(8).train()
    before, old = states(), signal.signal(signal.SIGINT, handler)
    try:
        laws = [name for name in LAWS if "generators" in name or "ctrl_c" in name]
        check_algorithm(Honest, laws=laws, kinds=["box-box"])
        check_mixer(mixer, 8)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, old)
    assert states() == before
    assert mixer.training
    assert all(parameter.grad is None for parameter in mixer.parameters())


def test_check_algorithm_is_the_packages_own() -> None:
    import decision_policies

    assert decision_policies.check_algorithm is check_algorithm
    assert issubclass(Honest, SequenceAlgorithm)
