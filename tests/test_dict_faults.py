"""Dict observations that do not fit: each fault is named by its place, and nothing has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from decision_policies import DeMa, SequencePolicy, Trajectories
from decision_policies.errors import CheckpointError, DatasetError, UnsupportedSpaceError
from decision_policies.space_json import from_json, to_json
from tests.fixtures import BOX_ACTION, forge, tiny_algorithm
from tests.goals import SPACE, Goal, at, episodes, parts, sample, scripted, vector


@pytest.fixture(scope="module")
def algorithm() -> DeMa:
    data = Trajectories.from_episodes(episodes(), SPACE, BOX_ACTION)
    return tiny_algorithm(device="cpu").learn(data, 3)


@pytest.fixture
def policy(algorithm: DeMa) -> SequencePolicy:
    assert algorithm.policy is not None
    return algorithm.policy.fork()


def put(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Replace what is at a dotted place of nested mappings; `...` takes it away."""

    def change(mapping: dict[str, Any]) -> None:
        *above, last = place.split(".")
        for name in above:
            mapping = mapping[name]
        if value is ...:
            del mapping[last]
        else:
            mapping[last] = value

    return change


NAN = np.array([[0.0, 1.0], [np.nan, 0.0], [0.0, 0.0]])
ACTING: list[tuple[str, Any, type[Exception], str]] = [
    ("clock", ..., ValueError, r"observation lacks \['clock'\]; its keys must be \['agent', 'cl"),
    ("agent.pose", ..., ValueError, r"observation\.agent lacks \['pose'\]"),
    ("agent.more", 1, ValueError, r"observation\.agent has \['more'\]; its keys"),
    ("agent", np.zeros(3), TypeError, r"observation\.agent must be a mapping with .* got ndarray"),
    ("clock", "late", TypeError, r"observation\.clock must hold numbers"),
    ("desired_goal", np.zeros((3, 3)), ValueError, r"unexpected observation\.desired_goal shape"),
    (
        "desired_goal",
        NAN,
        ValueError,
        r"observation\.desired_goal of environment 1 holds nan at in",
    ),
    ("agent.gear", [4, 7, 5], ValueError, r"observation\.agent\.gear of environment 1 is 7; .* 6"),
    ("clock", [1, 2], ValueError, r"differ in their number .*agent\.gear 3, .*clock 2, observ"),
    ("clock", 1, ValueError, r"observation\.clock one without an axis"),
]


@pytest.mark.parametrize(("place", "value", "kind", "message"), ACTING)
def test_a_faulty_observation_is_named_and_nothing_has_changed(
    place: str, value: Any, kind: type[Exception], message: str, policy: SequencePolicy
) -> None:
    untouched = policy.fork()
    for p in (policy, untouched):
        p.predict(sample(3, seed=1))
    bad = sample(3, seed=2)
    put(place, value)(bad)
    with pytest.raises(kind, match=message):
        policy.predict(bad, reward=1.0)
    good = sample(3, seed=2)
    np.testing.assert_array_equal(
        policy.predict(good, reward=1.0)[0], untouched.predict(good, reward=1.0)[0]
    )


def test_a_vector_or_the_pair_of_reset_is_refused(policy: SequencePolicy) -> None:
    with pytest.raises(TypeError, match=r"observation must be a mapping .* agent, clock, desired"):
        policy.predict(np.zeros(10))
    with pytest.raises(TypeError, match=r"the pair \(observation, info\)"):
        policy.predict((at(sample(1), 0), {}))


LOGGED: list[tuple[str, Any, str]] = [
    ("desired_goal", ..., r"episode 1: observations lacks \['desired_goal'\]"),
    ("agent", [], r"episode 1: observations\.agent must be a mapping"),
    ("desired_goal", np.zeros((6, 3)), r"episode 1: observations\.desired_goal have shape \(3,\)"),
    ("agent.pose", np.full((6, 2, 2), np.inf), r"1, step 0: observations\.agent\.pose hold inf"),
    ("agent.gear", [4, 5, 6, 7, 4, 4], r"1, step 3: observations\.agent\.gear hold 7, outside 4"),
    ("clock", [1, 2], r"episode 1 is ragged: .*observations\.clock has 2"),
]


@pytest.mark.parametrize(("place", "value", "message"), LOGGED)
def test_a_faulty_episode_is_named(place: str, value: Any, message: str) -> None:
    logged = episodes()
    put(f"observations.{place}", value)(logged[1])
    with pytest.raises(DatasetError, match=message):
        Trajectories.from_episodes(logged, SPACE, BOX_ACTION)


def test_a_step_that_lacks_an_entry_is_named() -> None:
    logged = scripted(2)
    del logged[1]["observations"][1]["desired_goal"]
    with pytest.raises(DatasetError, match=r"episode 1: observations\[1\] lacks \['desired_goal'"):
        Trajectories.from_episodes(logged, Goal().observation_space, Goal().action_space)


def nested(depth: int) -> spaces.Space[Any]:
    return spaces.Dict({"in": nested(depth - 1)}) if depth else vector(1)


OTHERS: list[spaces.Space[Any]] = [
    spaces.Text(3),
    spaces.Graph(vector(1), None),
    spaces.Sequence(vector(1)),
    spaces.OneOf([vector(1), spaces.Discrete(2)]),
]
UNSUPPORTED: list[tuple[spaces.Space[Any], str]] = [
    (spaces.Dict({}), "it is empty"),
    (spaces.Dict({"a": spaces.Dict({})}), "its part 'a' is empty"),
    (spaces.Dict({"a": spaces.Tuple([])}), "its part 'a' is empty"),
    (spaces.Dict({"a": spaces.Tuple([vector(1), spaces.Text(2)])}), r"part 'a\.1' is a Text"),
    (spaces.Tuple([spaces.Box(0, 1, (2, 0))]), "its part '0' holds no numbers"),
    (spaces.Dict({1: vector(1)}), "an entry named 1"),  # type: ignore[dict-item]
    (nested(9), "more than 8 Dicts or Tuples"),
    *((space, f"it is a {type(space).__name__}; observations may be of Box") for space in OTHERS),
    (spaces.Dict({"a": spaces.Discrete(1 << 24), "b": vector(1)}), r"more than 2\^24 numbers"),
]


@pytest.mark.parametrize(("space", "message"), UNSUPPORTED)
def test_a_dict_that_cannot_be_learnt_from_is_refused(
    space: spaces.Space[Any], message: str
) -> None:
    with pytest.raises(UnsupportedSpaceError, match=message):
        tiny_algorithm().make_policy(space, BOX_ACTION)


@pytest.mark.parametrize("space", [SPACE, spaces.Tuple([BOX_ACTION]), *OTHERS], ids=str)
def test_actions_in_parts_or_of_other_kinds_are_refused(space: spaces.Space[Any]) -> None:
    fault = "it has parts" if space not in OTHERS else "it is a"
    with pytest.raises(UnsupportedSpaceError, match=f"^action space .*: {fault}.*TransformAction"):
        tiny_algorithm().make_policy(SPACE, space)


def test_spaces_travel_as_json_whatever_the_order_of_their_keys() -> None:
    for space in (SPACE, nested(8)):
        assert from_json(json.loads(json.dumps(to_json(space)))) == space
    backwards = spaces.Dict(sorted(parts().items(), reverse=True))
    assert list(backwards.spaces) == list(reversed(SPACE.spaces))
    assert to_json(backwards) == to_json(SPACE)
    data = Trajectories.from_episodes(episodes(), backwards, BOX_ACTION)
    same = Trajectories.from_episodes(episodes(), SPACE, BOX_ACTION)
    np.testing.assert_array_equal(data.rows, same.rows)


AGENT = "spec.observation_space.spaces.agent"
HALF = {"type": "Discrete", "n": 1 << 23, "start": 0, "dtype": "int64"}
BOTH = {"type": "Dict", "spaces": {"a": HALF, "b": HALF}}
MORE = {"type": "Box", "dtype": "float32", "shape": [1], "low": 0.0, "high": 1.0}
MANY = {"type": "MultiDiscrete", "dtype": "int64", "shape": [2], "nvec": 3, "start": 0}
FORGED: list[tuple[str, Any, str]] = [
    (f"{AGENT}.type", "Text", r"observation_space\.agent: unknown space type 'Text'"),
    (f"{AGENT}.type", "Tuple", r"agent\.spaces: expected a JSON list that is not empty"),
    (
        f"{AGENT}.spaces.gear",
        {"type": "MultiBinary", "n": [2, 0.5]},
        "expected an integer, got 0.5",
    ),
    (f"{AGENT}.spaces.gear", {"type": "MultiBinary", "n": -1}, r"\[-1\] has a bad size"),
    (f"{AGENT}.spaces.gear", {**MANY, "nvec": 1 << 24}, r"gear\.nvec: too large a sum"),
    (f"{AGENT}.spaces.gear", {**MANY, "nvec": [2, 0]}, "not a valid MultiDiscrete: nvec"),
    (f"{AGENT}.spaces.gear", {**MANY, "nvec": [2]}, "1 values for the shape"),
    (f"{AGENT}.spaces.gear", {**MANY, "dtype": "float32"}, "not a valid MultiDiscrete"),
    (f"{AGENT}.more", 1, r"agent: Dict has missing or unexpected entries \['more'\]"),
    (f"{AGENT}.spaces", [], r"agent\.spaces: expected a JSON object that is not empty"),
    (f"{AGENT}.spaces.gear.n", 0, r"agent\.gear: not a valid Discrete"),
    (f"{AGENT}.spaces.gear.n", 1 << 40, r"agent\.gear\.n: \d+ is too large"),
    (f"{AGENT}.spaces", {"a": BOTH, "c": MORE}, r"c\.shape: .* bad size .*in all"),
    (AGENT, to_json(nested(8)), "more than 8 Dicts or Tuples inside one another"),
    ("spec.action_space", to_json(SPACE), "action space Dict.* not supported"),
    (f"{AGENT}.spaces.gear.n", 4, "does not fit its config"),
]


@pytest.mark.parametrize(("place", "value", "message"), FORGED)
def test_a_forged_config_is_refused(
    place: str, value: Any, message: str, algorithm: DeMa, tmp_path: Path
) -> None:
    algorithm.save(tmp_path / "saved")
    forge(tmp_path / "saved", {place: value})
    with pytest.raises(CheckpointError, match=message):
        DeMa.load(tmp_path / "saved")
