"""What holds of the package rather than of one algorithm: what models hear, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from decision_policies import SequencePolicy
from decision_policies.batch import Prediction, Step, Window
from decision_policies.data import SegmentSampler, WindowSampler
from decision_policies.models.heads import make_head
from decision_policies.models.model import SequenceModel
from decision_policies.spec import SequenceSpec
from decision_policies.tree import State
from tests.laws.cases import SPACES, dema, model, trajectories


class Spy(SequenceModel):
    """A model that notes what it is told."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.spec = SequenceSpec(*SPACES[kind], context_length=4, inference="recurrent")
        self.head = make_head(4, SPACES[kind][1])
        self.steps: list[tuple[list[int], list[float]]] = []
        self.done: list[tuple[list[float], list[float]]] = []

    def initial_state(self, batch: int) -> State:
        return ()

    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        raise NotImplementedError

    def act(self, step: Step, state: State) -> tuple[Prediction, State]:
        self.steps.append((step.timesteps.tolist(), step.returns_to_go.tolist()))
        return Prediction(torch.zeros(len(step.timesteps), self.head.n_features)), ()

    def commit(self, action: Tensor, reward: Tensor, step: Step, state: State) -> State:
        self.done.append((action[:, 0].tolist(), reward.tolist()))
        return ()


def test_the_model_hears_clock_return_reward_and_action_of_each_row() -> None:
    spy = Spy("box-box")
    policy = SequencePolicy(spy, target_return=10.0)
    observations = np.zeros((2, 3))
    policy.predict(observations)
    policy.observe([1.0, 2.0], action=np.full((2, 2), 0.5))
    policy.observe([0.5, 0.0])  # adds up with the first
    policy.predict(observations)
    policy.observe([3.0, 4.0], terminated=[False, True], action=np.full((2, 2), 0.25))
    policy.predict(observations)
    policy.predict(observations, reward=[1.0, 1.0])
    assert spy.steps == [
        ([0, 0], [10.0, 10.0]),
        ([1, 1], [8.5, 8.0]),
        ([2, 0], [5.5, 10.0]),
        ([3, 1], [4.5, 9.0]),
    ]
    assert [reward for _, reward in spy.done] == [[1.5, 2.0], [3.0, 4.0], [1.0, 1.0]]
    assert [action for action, _ in spy.done[:2]] == [[0.5, 0.5], [0.25, 0.25]]


@pytest.mark.parametrize("make", ["fork", "policy"])
def test_an_unknown_way_to_remember_is_refused(make: str) -> None:
    net = model("box-box", {"context_length": 1, "inference": "recurrent"})
    policy = SequencePolicy(net)
    build = policy.fork if make == "fork" else lambda **k: SequencePolicy(net, **k)
    with pytest.raises(ValueError, match="inference must be one of window, recurrent, staggered"):
        build(inference="recurent")  # type: ignore[arg-type, operator]
    with pytest.raises(
        ValueError, match="staggered inference needs a context_length of at least 2"
    ):
        build(inference="staggered")  # type: ignore[operator]


def test_the_kind_chooses_the_sampler() -> None:
    data = trajectories()
    for kind, sampler in (("transformer", WindowSampler), ("rnn", SegmentSampler)):
        algorithm = dema(kind=kind)
        algorithm.learn(data, 0)
        assert algorithm._training is not None
        assert type(algorithm._training.sampler) is sampler
