"""Bad input at the policy's door: one clear error each, and the session goes on as if untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies import SequencePolicy, evaluate_policy
from tests.fixtures import BOX_ACTION, BOX_OBSERVATION, tiny_algorithm, tiny_policy

Mistake = tuple[Callable[[SequencePolicy], object], type[Exception], str]
GOOD = np.ones((2, 3), np.float32)
NAN = np.array([[0, 0, 0], [0, np.nan, 0]], np.float32)


class Still(gym.Env[Any, Any]):
    """An environment of given spaces in which nothing happens."""

    def __init__(
        self, observation_space: Any = BOX_OBSERVATION, action_space: Any = BOX_ACTION
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(3, np.float32), 1.0, False, False, {}


PREDICT: dict[str, Mistake] = {
    "nan": (lambda p: p.predict(NAN), ValueError, r"observation of environment 1 .*nan.*index 1"),
    "infinite": (lambda p: p.predict(GOOD * np.inf), ValueError, "environment 0 .*inf"),
    "overflow": (lambda p: p.predict(np.full((2, 3), 1e300)), ValueError, "1e\\+300.*float32"),
    "shape": (lambda p: p.predict(np.ones((2, 4))), ValueError, r"shape \(2, 4\).*\(3,\)"),
    "rank": (lambda p: p.predict(np.ones((2, 1, 3))), ValueError, r"shape \(2, 1, 3\)"),
    "number": (lambda p: p.predict(1.0), ValueError, r"shape \(\)"),
    "pair": (lambda p: p.predict((GOOD, {})), TypeError, "observation, info = env.reset"),
    "string": (lambda p: p.predict("left"), TypeError, "numbers, got 'left'"),
    "dict": (lambda p: p.predict({"x": GOOD}), TypeError, "dict of dtype object"),
    "object": (lambda p: p.predict(object()), TypeError, "numbers"),
    "none": (lambda p: p.predict(None), TypeError, "None"),
    "ragged": (lambda p: p.predict([[1, 2, 3], [1]]), ValueError, "no regular array"),
    "complex": (lambda p: p.predict(GOOD + 1j), TypeError, "complex"),
    "tensor without values": (
        lambda p: p.predict(torch.ones(2, 3, device="meta")),
        TypeError,
        "observation is a tensor of torch.float32 on meta .* cannot be read",
    ),
    "sparse tensor": (lambda p: p.predict(torch.ones(2, 3).to_sparse()), TypeError, "sparse_coo"),
    "list of such tensors": (
        lambda p: p.predict([torch.ones(3, device="meta")] * 2),
        ValueError,
        "observation is no regular array",
    ),
    "reward without a value": (
        lambda p: p.predict(GOOD, reward=torch.ones(2, device="meta")),
        TypeError,
        "reward is a tensor .* on meta",
    ),
    "rows": (lambda p: p.predict(np.ones((5, 3))), ValueError, r"5 environments.*has 2.*reset\(\)"),
    "single": (lambda p: p.predict(np.ones(3)), ValueError, r"1 environments.*has 2.*reset\(\)"),
    "empty": (lambda p: p.predict(np.ones((0, 3))), ValueError, "batch of 0"),
    "state": (lambda p: p.predict(GOOD, GOOD), ValueError, r"state.*fork\(\)"),  # type: ignore[arg-type]
    "reward nan": (
        lambda p: p.predict(GOOD, reward=[0.0, np.nan]),
        ValueError,
        "reward of environment 1 is nan",
    ),
    "reward overflow": (lambda p: p.predict(GOOD, reward=-1e39), ValueError, "-1e\\+39.*float32"),
    "reward length": (
        lambda p: p.predict(GOOD, reward=[1.0, 2.0, 3.0]),
        ValueError,
        r"shape \(3,\) for 2 environments",
    ),
    "reward of one": (lambda p: p.predict(GOOD, reward=[1.0]), ValueError, r"shape \(1,\) for 2"),
    "reward string": (lambda p: p.predict(GOOD, reward="1"), TypeError, "reward .*'1'"),
    "flags length": (
        lambda p: p.predict(GOOD, None, [True] * 3),
        ValueError,
        r"shape \(3,\) \(episode_start.* 2 environments",
    ),
    "flags of one": (lambda p: p.predict(GOOD, None, [True]), ValueError, r"shape \(1,\)"),
    "flags value": (lambda p: p.predict(GOOD, None, [0.5, 1]), ValueError, "must be False or True"),
    "flags string": (lambda p: p.predict(GOOD, None, ["no"] * 2), TypeError, "episode_start"),
    "bad reward after good start": (
        lambda p: p.predict(GOOD, None, [True, True], reward=np.inf),
        ValueError,
        "reward of environment 0 is inf",
    ),
}
OBSERVE: dict[str, Mistake] = {
    "reward": (lambda p: p.observe([np.nan, 0.0]), ValueError, "environment 0 is nan"),
    "length": (lambda p: p.observe([1.0] * 4), ValueError, r"shape \(4,\) for 2"),
    "end": (lambda p: p.observe(1.0, [True] * 3), ValueError, r"terminated.* 2 environments"),
    "end value": (lambda p: p.observe(1.0, truncated=np.nan), ValueError, "False or True"),
    "none": (lambda p: p.observe(1.0, None), TypeError, "terminated"),  # type: ignore[arg-type]
    "action shape": (
        lambda p: p.observe(1.0, action=np.zeros((2, 3))),
        ValueError,
        r"actions of shape \(2, 3\); expected \(2, 2\)",
    ),
    "action nan": (lambda p: p.observe(1.0, action=NAN[:, :2]), ValueError, "action of .* 1.*nan"),
    "action kind": (lambda p: p.observe(1.0, action=["a", "b"]), TypeError, "executed action"),
}
RESET: dict[str, Mistake] = {
    "nan": (lambda p: p.reset(np.nan), ValueError, "target_return must be a finite.*nan"),
    "infinite": (lambda p: p.reset(np.inf), ValueError, "finite.*inf"),
    "overflow": (lambda p: p.reset(1e300), ValueError, "1e\\+300"),
    "string": (
        lambda p: p.reset("12"),
        ValueError,
        "target_return='12' asks for nothing: give a n",
    ),
    "table": (lambda p: p.reset([[1.0, 2.0]]), ValueError, "one for each environment"),
    "nothing": (lambda p: p.reset([]), ValueError, r"got \[\]"),
    "vector": (
        lambda p: p.wrap(gym.make_vec("CartPole-v1", 2)),
        ValueError,
        r"observation space is Box.*\(4,\).*made for",
    ),
    "no env": (lambda p: p.wrap("CartPole-v1"), TypeError, "got str"),  # type: ignore[type-var]
    "observations": (
        lambda p: p.wrap(Still(observation_space=spaces.Box(-1, 1, (4,)))),
        ValueError,
        r"observation space is Box\(-1.0, 1.0, \(4,\).*made for",
    ),
    "actions": (
        lambda p: p.wrap(Still(action_space=spaces.Discrete(2))),
        ValueError,
        r"action space is Discrete\(2\)",
    ),
}
MISTAKES = {
    f"{kind}: {name}": mistake
    for kind, mistakes in (("predict", PREDICT), ("observe", OBSERVE), ("reset", RESET))
    for name, mistake in mistakes.items()
}


def play(policy: SequencePolicy, steps: int, seed: int) -> list[NDArray[Any]]:
    """Feed a fixed stream of observations and rewards; return actions and returns-to-go."""
    rng = np.random.default_rng(seed)
    seen: list[NDArray[Any]] = []
    for _ in range(steps):
        seen.append(policy.predict(rng.normal(size=(2, 3)))[0])
        assert policy.returns_to_go is not None
        policy.observe(rng.normal(size=2), terminated=rng.random(2) < 0.2)
        seen.append(policy.returns_to_go)
    return seen


@pytest.mark.parametrize("inference", ["window", "recurrent", "staggered"])
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_error_and_leaves_the_session_untouched(
    name: str, inference: str
) -> None:
    mistake, error, message = MISTAKES[name]
    policy, twin = tiny_policy(inference=inference), tiny_policy(inference=inference)
    play(policy, 6, 1), play(twin, 6, 1)
    with pytest.raises(error, match=f"(?s){message}"):
        mistake(policy)
    assert np.array_equal(policy.target_return, twin.target_return)
    np.testing.assert_equal(play(policy, 6, 2), play(twin, 6, 2))


@pytest.mark.parametrize("name", [n for n in PREDICT if n not in ("rows", "single")])
def test_a_mistake_in_the_first_call_begins_no_session(name: str) -> None:
    mistake, error, message = PREDICT[name]
    policy = tiny_policy()
    with pytest.raises(error, match=f"(?s){message}"):
        mistake(policy)
    assert policy.returns_to_go is None
    policy.predict(np.ones((7, 3)))


@pytest.mark.parametrize("value", [4, -1, 1.5, np.nan])
def test_a_discrete_observation_out_of_range_is_named(value: float) -> None:
    policy, twin = tiny_policy(discrete=True), tiny_policy(discrete=True)
    for p in (policy, twin):
        p.predict([0, 3], reward=0.0)
    with pytest.raises(ValueError, match=f"environment 1 is {value}.*from 0 to 3"):
        policy.predict([1, value], reward=1.0)
    with pytest.raises(ValueError, match=r"action of environment 0 is 3.*0 to 2"):
        policy.observe(1.0, action=[3, 0])
    after = [p.predict([1, 2], reward=1.0)[0].tolist() for p in (policy, twin)]
    assert after[0] == after[1]


@pytest.mark.parametrize("value", [-1, 256, 0.5, np.nan])
def test_an_image_that_a_cast_would_change_is_refused(value: float) -> None:
    space = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    policy = tiny_algorithm().make_policy(space, BOX_ACTION)
    frame = np.full((1, 36, 36), 7.0)
    good, _ = policy.predict(frame)
    policy.reset()
    bad = frame.copy()
    bad[0, 3, 4] = value
    with pytest.raises(ValueError, match=r"holds .* at index \(0, 3, 4\).*from 0 to 255"):
        policy.predict(bad)
    assert np.array_equal(policy.predict(frame.astype(np.uint8))[0], good)


def test_a_target_for_each_environment_must_fit_their_number() -> None:
    policy = tiny_policy()
    policy.reset([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="3 values for 2 environments"):
        policy.predict(GOOD)
    begun = policy.returns_to_go
    assert begun is None
    policy.predict(np.ones((3, 3)))
    asked = policy.returns_to_go
    assert asked is not None
    assert asked.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("episodes", "envs"), [(0, 1), (-1, 1), (1, 0)])
def test_an_evaluation_of_nothing_is_refused(episodes: int, envs: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, got {episodes} and {envs}"):
        evaluate_policy(tiny_policy(), Still, episodes, n_envs=envs)


def test_an_untrained_algorithm_cannot_act_be_evaluated_or_saved() -> None:
    algorithm = tiny_algorithm()
    with pytest.raises(ValueError, match=r"no policy yet.*learn"):
        evaluate_policy(algorithm, Still, 1)
    for call in (
        lambda: algorithm.predict(GOOD),
        lambda: algorithm.reset(),
        lambda: algorithm.save("nowhere"),
    ):
        with pytest.raises(RuntimeError, match=r"no policy yet: call learn first, or DeMa.load"):
            call()


def test_environments_must_be_makable_to_be_evaluated_in() -> None:
    with pytest.raises(TypeError, match="got Still: pass lambda"):
        evaluate_policy(tiny_algorithm(), Still(), 1)  # type: ignore[arg-type]


FORMS: dict[str, Callable[[NDArray[np.float32]], Any]] = {
    "list": lambda x: x.tolist(),
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "integer": lambda x: x.astype(np.int64),
    "big-endian": lambda x: x.astype(">f4"),
    "tensor": torch.from_numpy,
    "bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "tensor with gradient": lambda x: torch.tensor(x, requires_grad=True),
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[..., ::-1].copy()[..., ::-1],
    "fortran": np.asfortranarray,
}


@pytest.mark.parametrize("inference", ["window", "recurrent", "staggered"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_numbers_gives_the_same_actions(form: str, inference: str) -> None:
    convert = FORMS[form]
    policy, twin = tiny_policy(inference=inference), tiny_policy(inference=inference)
    rng = np.random.default_rng(0)
    for _ in range(6):
        observation, reward, executed = (
            rng.integers(-2, 3, shape).astype(np.float32) for shape in ((2, 3), 2, (2, 2))
        )
        expected, _ = twin.predict(observation)
        actual, _ = policy.predict(convert(observation))
        assert np.array_equal(actual, expected)
        assert actual.dtype == np.float32
        twin.observe(reward, action=executed)
        policy.observe(convert(reward), action=convert(executed))


def test_inputs_are_neither_changed_nor_kept() -> None:
    policy, twin = tiny_policy(), tiny_policy()
    buffers = [np.zeros(s, t) for s, t in (((2, 3), "f4"), (2, "f8"), (2, "?"), ((2, 2), "f4"))]
    observation, reward, ends, executed = buffers
    target = np.array([3.0, 4.0])
    for p in (policy, twin):
        p.reset(target)
    target[:] = 99.0
    rng = np.random.default_rng(0)
    for _ in range(8):
        for buffer in buffers:
            buffer[...] = rng.normal(size=buffer.shape) > 0.7
        kept = [b.copy() for b in buffers]
        actual, _ = policy.predict(observation, None, ends)
        expected, _ = twin.predict(kept[0].copy(), None, kept[2].copy())
        assert np.array_equal(actual, expected)
        actual[...] = 50.0  # what is handed out belongs to the caller
        policy.observe(reward, ends, action=executed)
        twin.observe(kept[1].copy(), kept[2].copy(), action=kept[3].copy())
        np.testing.assert_equal(buffers, kept)
        for buffer in buffers:
            buffer[...] = 1


def test_a_bare_action_passes_for_a_batch_of_one_environment() -> None:
    policy, twin = tiny_policy(), tiny_policy()
    for _ in range(3):
        action, _ = policy.predict(np.ones((1, 3)))
        policy.observe(1.0, action=action[0])  # as Stable-Baselines3's DummyVecEnv steps it
        expected, _ = twin.predict(np.ones((1, 3)))
        twin.observe(1.0)
        assert np.array_equal(action, expected)


@pytest.mark.parametrize("inference", ["window", "recurrent", "staggered"])
def test_a_box_of_integers_can_be_acted_in(inference: str) -> None:
    space = spaces.Box(0, 9, (2,), np.int64)
    policy = tiny_algorithm(inference=inference).make_policy(BOX_OBSERVATION, space)
    for _ in range(5):
        assert space.contains(policy.predict(np.ones(3))[0])
        policy.observe(1.0)
