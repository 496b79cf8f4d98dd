"""The laws can fail: each of these algorithms breaks one, and `check_algorithm` names it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from decision_policies import SequenceAlgorithm, check_algorithm
from decision_policies.batch import Losses, Prediction, Step, Window
from decision_policies.laws import LawBroken, check_mixer
from decision_policies.models import SequenceModel, StepEmbedding, TokenModel, make_head
from decision_policies.nets import Attention, Chain, Mamba, Mixer, Residual
from decision_policies.spec import SequenceSpec
from decision_policies.tree import State, map_state


@dataclass(kw_only=True, eq=False)
class Honest(SequenceAlgorithm):
    """A third party's algorithm that keeps the laws."""

    model: ClassVar[type[TokenModel]] = TokenModel
    width: int = 16

    def build_model(self, spec: SequenceSpec) -> SequenceModel:
        head = make_head(self.width, spec.action_space)
        embedding = StepEmbedding(spec, self.width, head.n_features)
        layers = [Residual(self.width, Mamba(self.width, d_state=4)) for _ in range(2)]
        return self.model(spec, embedding, Chain(*layers), head, self.width)


def added(
    prediction: Prediction, value: Tensor | float, read_from: int | None = None
) -> Prediction:
    return Prediction((prediction.action + value)[:, read_from:])


class Peeking(TokenModel):
    """Sees the action that it must predict."""

    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        prediction, state = super().forward(window, state)
        return added(prediction, 0.1 * self.head.features(window.actions), read_from), state


class LookingRight(TokenModel):
    """Sees the next observation."""

    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        prediction, state = super().forward(window, state)
        seen = window.observations.flatten(2).float().mean(-1, keepdim=True)
        return added(prediction, seen.roll(-1, 1), read_from), state


class Mingling(TokenModel):
    """Mixes the rows of a batch."""

    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        prediction, state = super().forward(window, state)
        return added(prediction, prediction.action.mean(0, keepdim=True), read_from), state


class Misreading(TokenModel):
    """Gives the first actions where the last are wanted."""

    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        prediction, state = super().forward(window, state)
        wanted = window.mask.shape[1] - (read_from or 0)
        return Prediction(prediction.action[:, :wanted]), state


class Unmasked(TokenModel):
    """Takes the padding for real steps in its loss."""

    def loss(self, prediction: Prediction, window: Window) -> Losses:
        return self.head.loss(prediction.action, window.actions, torch.ones_like(window.mask))


class Forgetting(TokenModel):
    """Begins every window from nothing."""

    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        return super().forward(window, None, read_from)


class Drifting(TokenModel):
    """Has a step that is not its window's."""

    def act(self, step: Step, state: State) -> tuple[Prediction, State]:
        prediction, state = super().act(step, state)
        return added(prediction, 0.01), state


class Keeping(TokenModel):
    """Keeps its state to itself, and ignores the one that it is given."""

    kept: State

    def initial_state(self, batch: int) -> Any:
        self.kept = super().initial_state(batch)
        return self.kept

    def act(self, step: Step, state: State) -> tuple[Prediction, State]:
        prediction, self.kept = super().act(step, self.kept)
        return prediction, state

    def commit(self, action: Tensor, reward: Tensor, step: Step, state: State) -> State:
        self.kept = super().commit(action, reward, step, self.kept)
        return self.kept

    def commit_and_act(
        self, action: Tensor, reward: Tensor, previous: Step, step: Step, state: State
    ) -> tuple[Prediction, State]:
        return self.act(step, self.commit(action, reward, previous, state))


class Overwriting(TokenModel):
    """Changes the state that it is given."""

    def commit(self, action: Tensor, reward: Tensor, step: Step, state: State) -> State:
        after = super().commit(action, reward, step, state)
        return map_state(lambda old, new: old.copy_(new), state, after)


class Deaf(TokenModel):
    """Does not hear what is asked for."""

    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        zero = torch.zeros_like(window.returns_to_go)
        return super().forward(Window(**{**vars(window), "returns_to_go": zero}), state, read_from)

    def act(self, step: Step, state: State) -> tuple[Prediction, State]:
        zero = torch.zeros_like(step.returns_to_go)
        return super().act(Step(step.observations, zero, step.timesteps), state)

    def commit_and_act(
        self, action: Tensor, reward: Tensor, previous: Step, step: Step, state: State
    ) -> tuple[Prediction, State]:
        return self.act(step, self.commit(action, reward, previous, state))


class Dicing(TokenModel):
    """Draws from numpy's global generator while it learns."""

    def loss(self, prediction: Prediction, window: Window) -> Losses:
        losses = super().loss(prediction, window)
        noise = 1 + 0.1 * np.random.rand() * self.training  # noqa: NPY002 - the mistake
        return {**losses, "loss": losses["loss"] * noise}


class Idle(TokenModel):
    """Learns nothing of what it sees."""

    def loss(self, prediction: Prediction, window: Window) -> Losses:
        losses = super().loss(prediction, window)
        return {**losses, "loss": losses["loss"].detach() + 0 * prediction.action.sum()}


class Raising(TokenModel):
    """Breaks down in one of its methods."""

    def act(self, step: Step, state: State) -> tuple[Prediction, State]:
        raise ZeroDivisionError("one too many")


BROKEN: dict[type[TokenModel], str] = {
    Peeking: "changing_an_action_changes_no_prediction_up_to_it",
    LookingRight: "what_comes_later_changes_no_prediction",
    Mingling: "a_batch_of_windows_is_its_rows_alone",
    Unmasked: "junk_in_the_padding_changes_no_real_step",
    Forgetting: "cutting_a_window_and_carrying_the_state_changes_nothing",
    Misreading: "reading_from_a_step_on_predicts_what_reading_all_predicts",
    Drifting: "stepping_through_a_window_predicts_what_the_window_predicts",
    Keeping: "a_state_is_neither_kept_in_the_model_nor_changed_in_place",
    Overwriting: "a_state_is_neither_kept_in_the_model_nor_changed_in_place",
    Deaf: "observations_matter_and_returns_do_if_they_are_tokens",
    Raising: "stepping_through_a_window_predicts_what_the_window_predicts",
}


def of(model_class: type[TokenModel]) -> type[SequenceAlgorithm]:
    """An algorithm with a broken model."""
    return type(model_class.__name__, (Honest,), {"model": model_class})


@pytest.mark.parametrize("model_class", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_model_breaks_the_law_that_forbids_it(model_class: type[TokenModel]) -> None:
    with pytest.raises(LawBroken) as caught:
        check_algorithm(of(model_class), kinds=["box-discrete"])
    broken = caught.value
    assert (broken.law, broken.kind) == (BROKEN[model_class], "box-discrete")
    sentence = BROKEN[model_class].replace("_", " ")
    assert f"{model_class.__name__} breaks the law '{sentence}' (space kind box-" in str(broken)
    assert broken.difference in str(broken)


def test_an_error_in_the_algorithm_is_the_cause_of_the_broken_law() -> None:
    with pytest.raises(LawBroken, match="it raised ZeroDivisionError: one too many") as caught:
        check_algorithm(of(Raising), kinds=["discrete-box"])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


class Restless(Honest):
    """Ignores its seed."""

    def learn(self, *arguments: Any, **options: Any) -> Any:
        self.seed = None
        return super().learn(*arguments, **options)


class Amnesiac(Honest):
    """Saves less than it has learnt."""

    def save(self, path: Any, *, training_state: bool = True) -> None:
        super().save(path, training_state=False)


class Lossy(Honest):
    """Loads other weights than were saved."""

    @classmethod
    def load(cls, *arguments: Any, **options: Any) -> Any:
        algorithm = super().load(*arguments, **options)
        assert algorithm.policy is not None
        with torch.no_grad():
            next(algorithm.policy.model.parameters()).add_(0.1)
        return algorithm


class Stubborn(Honest):
    """Calls nobody back, and so cannot be interrupted."""

    def learn(self, *arguments: Any, **options: Any) -> Any:
        return super().learn(*arguments, **{**options, "callback": None})


class Recounting(Honest):
    """Counts its updates from 0 each time."""

    def learn(self, *arguments: Any, **options: Any) -> Any:
        return super().learn(*arguments, **{**options, "reset_num_timesteps": True})


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (of(Dicing), "learning_and_acting_leave_the_global_generators_alone"),
        (of(Idle), "one_batch_can_be_learnt_by_heart"),
        (Restless, "the_same_seed_gives_a_bit_equal_loss_curve"),
        (Amnesiac, "interrupted_saved_loaded_and_resumed_equals_uninterrupted"),
        (Amnesiac, "a_checkpoint_saved_during_training_resumes_exactly"),
        (Lossy, "saved_and_loaded_it_acts_bit_equal"),
        (Stubborn, "ctrl_c_keeps_what_was_learnt_and_can_be_resumed"),
        (Stubborn, "ctrl_c_in_the_middle_of_an_update_lets_it_finish"),
        (Recounting, "learning_lowers_the_loss_and_the_counter_goes_on"),
    ],
)
def test_a_broken_algorithm_breaks_the_law_that_forbids_it(
    cls: type[SequenceAlgorithm], law: str
) -> None:
    with pytest.raises(LawBroken) as caught:
        check_algorithm(cls, laws=[law], kinds=["box-box"])
    assert caught.value.law == law


class Blurring(Mixer):
    """Sees the whole sequence."""

    def initial_state(self, batch: int) -> State:
        return ()

    def forward(
        self, x: Tensor, state: State | None = None, kind: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return x + x.mean(1, keepdim=True), ()


class Summing(Mixer):
    """Adds all tokens up, in a state that is changed in place."""

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, 8)

    def forward(
        self, x: Tensor, state: State | None = None, kind: Tensor | None = None
    ) -> tuple[Tensor, State]:
        start = self.initial_state(len(x)) if state is None else state
        assert isinstance(start, Tensor)
        y = start.unsqueeze(1) + x.cumsum(1)
        return y, start.copy_(y[:, -1])


class Starting(Summing):
    """Begins with a state of ones."""

    def initial_state(self, batch: int) -> Tensor:
        return torch.ones(batch, 8)


class Misplacing(Attention):
    """Gives the first tokens where others are wanted."""

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        kind: Tensor | None = None,
        wanted: slice | None = None,
    ) -> tuple[Tensor, State]:
        y, state = super().forward(x, state, kind)
        return y if wanted is None else y[:, : len(range(*wanted.indices(y.shape[1])))], state


@pytest.mark.parametrize(
    ("mixer", "law"),
    [
        (Blurring(), "cutting_the_sequence_anywhere_changes_nothing"),
        (Summing(), "no_state_is_changed_in_place"),
        (Starting(), "the_zero_state_is_the_initial_state"),
        (Misplacing(8), "wanting_some_tokens_gives_what_all_give_there"),
    ],
)
def test_a_broken_mixer_breaks_the_law_that_forbids_it(mixer: Mixer, law: str) -> None:
    with pytest.raises(LawBroken) as caught:
        check_mixer(mixer, width=8)
    assert (caught.value.subject, caught.value.law) == (type(mixer).__name__, law)
