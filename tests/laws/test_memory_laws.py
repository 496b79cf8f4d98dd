"""Laws of memory: what each mode has seen of an episode, and what it forgets between two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision_policies import SequencePolicy
from decision_policies.batch import Prediction, Step, Window
from decision_policies.models.heads import make_head
from decision_policies.models.model import SequenceModel
from decision_policies.spec import Inference, SequenceSpec
from decision_policies.tree import State
from tests.laws.cases import MODES, SPACES, VARIANTS, model, sample

STEPS = 21


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    return VARIANTS[request.param]


@pytest.fixture(params=["box-box", "box-discrete"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Inference:
    return request.param  # type: ignore[no-any-return]


def outputs(net: SequenceModel) -> list[NDArray[np.float32]]:
    """Collect what the head makes actions of: logits, rather than the actions that they become."""
    seen: list[NDArray[np.float32]] = []
    act = net.head.act

    def spy(parameters: NDArray[np.float32], *rest: Any) -> NDArray[Any]:
        seen.append(parameters.copy())
        return act(parameters, *rest)

    net.head.act = spy  # type: ignore[method-assign, assignment]
    return seen


def episode(kind: str, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw observations and the actions that are executed, whatever is predicted."""
    rng = np.random.default_rng(seed)
    return sample(rng, SPACES[kind][0], STEPS), sample(rng, SPACES[kind][1], STEPS)


def play(
    policy: SequencePolicy, seen: list[Any], kind: str, first: int = 0, last: int = STEPS - 1
) -> NDArray[np.float32]:
    """Act from one step of the episode to another, and return the output of the last."""
    observations, actions = episode(kind)
    for t in range(first, last + 1):
        if t > first:
            policy.observe(0.5, action=actions[t - 1])
        policy.predict(observations[t])
    return seen[-1]  # type: ignore[no-any-return]


@pytest.mark.parametrize("k", [2, 5, 6, 7, 12])
def test_all_modes_agree_until_the_first_restart_takes_over(
    kind: str, variant: dict[str, Any], k: int
) -> None:
    """For window and recurrent while t < K; for staggered while t < 2 (K // 2)."""
    net = model(kind, {**variant, "context_length": k})
    seen = outputs(net)
    runs: dict[str, list[NDArray[np.float32]]] = {}
    for inference in MODES:
        seen.clear()
        play(SequencePolicy(net, inference=inference, target_return=5.0), seen, kind, 0, k - 1)
        runs[inference] = list(seen)
    for t in range(k):
        np.testing.assert_allclose(runs["recurrent"][t], runs["window"][t], atol=1e-5, rtol=0)
        if t < 2 * (k // 2):
            np.testing.assert_allclose(runs["staggered"][t], runs["window"][t], atol=1e-5, rtol=0)


@pytest.mark.parametrize("k", [5, 6])
@pytest.mark.parametrize("inference", ["window", "staggered"])
def test_bounded_memory_is_a_fresh_policy_fed_the_last_steps(
    kind: str, variant: dict[str, Any], k: int, inference: Inference
) -> None:
    """The window holds K steps; the staggered state between K / 2 and K of them."""
    net = model(kind, {**variant, "context_length": k})
    seen, half = outputs(net), k // 2
    policy = SequencePolicy(net, inference=inference, target_return=5.0)
    for t in range(STEPS):
        output = play(policy, seen, kind, t, t) if t == 0 else step(policy, seen, kind, t)
        if inference == "window":
            age = min(t + 1, k)
        else:
            age = t + 1 if t < 2 * half else half + 1 + t % half
        assert age <= k
        twin = SequencePolicy(net, inference="recurrent")
        first = t - age + 1
        twin.reset(5.0 - 0.5 * first)
        np.testing.assert_allclose(play(twin, seen, kind, first, t), output, atol=1e-5, rtol=0)


def step(policy: SequencePolicy, seen: list[Any], kind: str, t: int) -> NDArray[np.float32]:
    """Act one further step."""
    observations, actions = episode(kind)
    policy.observe(0.5, action=actions[t - 1])
    policy.predict(observations[t])
    return seen[-1]  # type: ignore[no-any-return]


@pytest.mark.parametrize("end", ["terminated", "truncated", "episode_start"])
def test_a_new_episode_is_acted_as_by_a_fresh_policy(
    kind: str, variant: dict[str, Any], mode: Inference, end: str
) -> None:
    net = model(kind, variant)
    seen = outputs(net)
    used = SequencePolicy(net, inference=mode, target_return=5.0)
    fresh = used.fork()
    play(used, seen, kind, 0, 8)
    observations, actions = episode(kind, seed=1)
    flags = {end: True} if end != "episode_start" else {}
    used.observe(0.5, **flags, action=actions[0])
    start = [True] if end == "episode_start" else None
    for t in range(10):
        if t:
            for policy in (used, fresh):
                policy.observe(-1.0, action=actions[t])
        used.predict(observations[t], episode_start=start if t == 0 else None)
        fresh.predict(observations[t])
        np.testing.assert_allclose(seen[-2], seen[-1], atol=1e-5, rtol=0)


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

    def forward(self, window: Window, state: State | None = None) -> tuple[Prediction, State]:
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


def test_forks_draw_from_generators_of_their_own() -> None:
    policy = SequencePolicy(model("box-discrete"), seed=0)
    observation, _ = episode("box-discrete")
    alone = [int(policy.fork(seed=7).predict(observation[0], deterministic=False)[0])]
    fork, other = policy.fork(seed=7), policy.fork(seed=8)
    for _ in range(5):
        other.predict(observation[0], deterministic=False, reward=0.0)
        policy.predict(observation[0], deterministic=False, reward=0.0)
    assert int(fork.predict(observation[0], deterministic=False)[0]) == alone[0]
    assert fork._rng is not policy._rng


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
