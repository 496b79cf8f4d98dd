"""Both doors make the same numbers of every space, and name what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from decision_policies import DMHybrid, SequencePolicy, Trajectories, check_dataset
from decision_policies.data import WindowSampler
from decision_policies.errors import DatasetError
from decision_policies.inputs import check_same_space, observation
from decision_policies.models.encoders import ImageEncoder, MixedEncoder
from decision_policies.spaces import choices, model_shape
from tests.fixtures import BOX_ACTION, tiny_algorithm, write_minari
from tests.test_spaces import (
    ACTIONS,
    CHOICES,
    IMAGES,
    NUMBERS,
    OBSERVATIONS,
    PARTS,
    Anything,
    Space,
    at,
    draw,
    episodes,
)

NESTED = PARTS["nested"]


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_data_and_policy_see_the_same_numbers_which_are_gymnasiums(name: str) -> None:
    space, action = OBSERVATIONS[name], NUMBERS["bounded"]
    logged = episodes(space, action)
    data = Trajectories.from_episodes(logged, space, action)
    assert data.observations.shape[1:] == model_shape(space)
    doors = [observation(one["observations"], space) for one in logged]
    seen = torch.cat([batch[:-1] for batch, _ in doors]).numpy()
    np.testing.assert_array_equal(data.observations, seen)
    for one, (batch, _) in zip(logged, doors, strict=True):
        first, single = observation(at(one["observations"], 0), space)
        assert single and torch.equal(first[0], batch[0])
        if name not in IMAGES and not isinstance(space, spaces.Discrete):
            flat = np.asarray(spaces.flatten(space, at(one["observations"], 0)), np.float32)
            np.testing.assert_array_equal(batch[0].flatten(), flat)
    window = WindowSampler(data, 4, 6, seed=0).sample()
    assert window.observations.shape == (6, 4, *model_shape(space))


@pytest.mark.parametrize("name", [*PARTS, "image and numbers"])
def test_a_list_of_observations_is_what_a_loop_collects(name: str) -> None:
    space, action = OBSERVATIONS[name], CHOICES["several"]
    logged = episodes(space, action)
    data = Trajectories.from_episodes(logged, space, action)
    for one in logged:
        steps = len(one["rewards"]) + 1
        one["observations"] = [at(one["observations"], t) for t in range(steps)]
    again = Trajectories.from_episodes(logged, space, action)
    np.testing.assert_array_equal(again.rows, data.rows)
    np.testing.assert_array_equal(again.actions, np.concatenate([x["actions"] for x in logged]))


def test_images_act_the_same_whichever_axis_their_channels_are() -> None:
    last, first = IMAGES["channels last"], IMAGES["channels first"]
    logged = episodes(last, CHOICES["one of 4"])
    moved = [{**one, "observations": np.moveaxis(one["observations"], -1, 1)} for one in logged]
    trained = [
        tiny_algorithm(n_layers=1).learn(
            Trajectories.from_episodes(given, space, CHOICES["one of 4"]).shift_images(1), 2
        )
        for given, space in ((logged, last), (moved, first))
    ]
    weights = [one.get_parameters()["policy"] for one in trained]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    picture = draw(last, np.random.default_rng(3), 1)[0]
    actions = [
        one.predict(x, deterministic=False)[0]
        for one, x in zip(trained, (picture, np.moveaxis(picture, -1, 0)), strict=True)
    ]
    assert actions[0] == actions[1]


def test_images_among_other_parts_are_convolved_and_not_standardised() -> None:
    space = IMAGES["image and numbers"]
    data = Trajectories.from_episodes(episodes(space, BOX_ACTION), space, BOX_ACTION)
    model = tiny_algorithm(n_layers=1).learn(data, 1).policy.model  # type: ignore[union-attr]
    encoder = model.get_submodule("embedding.observation")
    assert isinstance(encoder, MixedEncoder) and encoder.others is not None
    assert len(encoder.images) == 2
    mean, _ = data.observation_statistics()
    np.testing.assert_array_equal(encoder.others.mean, [0, 0, 0, 0, *mean[-3:]])
    drawn = draw(space, np.random.default_rng(1), 4)
    code = encoder(observation(drawn, space)[0])
    camera, depth = encoder.images
    assert isinstance(camera, ImageEncoder) and isinstance(depth, ImageEncoder)
    numbers = np.concatenate((np.eye(4)[drawn["gear"]], drawn["pose"]), 1).astype(np.float32)
    expected = encoder.others(torch.from_numpy(numbers))
    expected = expected + camera(torch.from_numpy(drawn["camera"].transpose(0, 3, 1, 2)))
    expected = expected + depth(torch.from_numpy(drawn["depth"][:, None]))
    torch.testing.assert_close(code, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["nested", "pair with a dict", "image and numbers"])
def test_a_batch_is_its_rows_alone_in_an_environment_that_is_wrapped(name: str) -> None:
    space, action = OBSERVATIONS[name], CHOICES["several from"]
    policy = tiny_algorithm(n_layers=1).make_policy(space, action)
    alone, together = [policy.fork(seed=0) for _ in range(2)], policy.fork(seed=0)
    made = [lambda: Anything(space, action)] * 2
    envs = together.wrap(SyncVectorEnv(made))
    rows = [one.wrap(make()) for one, make in zip(alone, made, strict=True)]
    shown, _ = envs.reset(seed=[5, 6])  # type: ignore[arg-type]
    each = [env.reset(seed=seed)[0] for env, seed in zip(rows, (5, 6), strict=True)]
    for _ in range(4):
        actions, _ = together.predict(shown)
        shown, *_ = envs.step(actions)
        for row, (one, env) in enumerate(zip(alone, rows, strict=True)):
            found, _ = one.predict(each[row])
            np.testing.assert_array_equal(found, actions[row])
            each[row], *_ = env.step(found)
    envs.close()


@pytest.mark.parametrize(
    ("seen", "acted"), [("nested", "several"), ("image and numbers", "binary"), ("pair", "bounded")]
)
def test_stable_baselines3s_environments_and_evaluation_take_them(seen: str, acted: str) -> None:
    space, action = OBSERVATIONS[seen], ACTIONS[acted]
    if seen == "nested":  # its environments know no parts inside parts
        space = spaces.Dict({"a": CHOICES["several"], "b": CHOICES["binary"]})
    policy = tiny_algorithm(n_layers=1).make_policy(space, action)
    envs = policy.wrap(DummyVecEnv([lambda: Monitor(Anything(space, action))] * 2))
    assert evaluate_policy(policy, envs, 4) == (5.0, 0.0)  # type: ignore[arg-type]


def test_a_memory_over_episodes_learns_from_parts_too() -> None:
    for name in ("nested", "image and numbers"):
        space, action = OBSERVATIONS[name], CHOICES["binary table"]
        data = Trajectories.from_episodes(episodes(space, action), space, action)
        tiny: dict[str, Any] = {"d_model": 8, "context_episodes": 2, "chunk_length": 3}
        algorithm = DMHybrid(**tiny, n_heads=2, batch_size=4, seed=0).learn(data, 1)
        found, _ = algorithm.predict(at(draw(space, np.random.default_rng(1), 1), 0))
        assert action.contains(found)


@pytest.mark.parametrize("acted", ["several from", "binary", "one from -3"])
@pytest.mark.parametrize("seen", ["nested", "pair with a dict", "several", "channels last"])
def test_check_dataset_reports_on_them(seen: str, acted: str) -> None:
    space, action = OBSERVATIONS[seen], ACTIONS[acted]
    logged = episodes(space, action)
    for one in logged:
        one["actions"] = np.broadcast_to(one["actions"][0], one["actions"].shape)
    report = check_dataset(logged, space, action)
    assert report.with_final == len(logged)
    taken = np.concatenate([one["actions"].reshape(len(one["actions"]), -1) for one in logged])
    component, value = choices(action)
    shares = (taken[:, component] == value).mean(0)
    np.testing.assert_allclose(report.actions.shares, shares)  # type: ignore[arg-type]
    named = zip(component, value, shares, strict=True)
    said = [f"[{i}] {v}" if action.shape else f"{v}" for i, v, share in named if not share]
    assert not said or f"Never taken: {said[0]}" in str(report)


@pytest.mark.parametrize("name", ["pair", "nested", "pair with a dict", "several from"])
def test_minari_sets_are_read(name: str) -> None:
    space, action = OBSERVATIONS[name], CHOICES["several"]
    logged = episodes(space, action)
    written = f"tiny/{name.replace(' ', '-')}/random-v0"
    write_minari(written, logged, observation_space=space, action_space=action)
    read = Trajectories.from_minari(written)
    check_same_space(read.observation_space, space, "observation")
    check_same_space(read.action_space, action, "action")
    np.testing.assert_array_equal(read.rows, Trajectories.from_episodes(logged, space, action).rows)


OTHERS: list[tuple[Space, Space, str]] = [
    (spaces.Tuple([NUMBERS["int8"]]), PARTS["pair"], "observation space is Tuple"),
    (spaces.Tuple([NUMBERS["unbounded"], CHOICES["one of 4"]]), PARTS["pair"], r"observation\.1 "),
    (spaces.MultiDiscrete([2, 3, 2]), CHOICES["several"], "observation space is MultiDiscrete"),
    (spaces.MultiDiscrete(np.array([[2, 4]])), CHOICES["several from"], "space is MultiDiscrete"),
    (spaces.MultiBinary(4), CHOICES["binary"], "space is MultiBinary"),
    (spaces.MultiDiscrete([2, 2, 2]), CHOICES["binary"], "space is MultiDiscrete"),
]


@pytest.mark.parametrize(("found", "made_for", "message"), OTHERS)
def test_other_spaces_than_the_policys_are_refused(
    found: Space, made_for: Space, message: str
) -> None:
    check_same_space(made_for, made_for, "observation")
    with pytest.raises(ValueError, match=message):
        check_same_space(found, made_for, "observation")


PAIR = np.zeros(3)
ACTING: list[tuple[str, Any, type[Exception], str]] = [
    ("pair", PAIR, TypeError, "observation must be a tuple of 2 parts; got ndarray"),
    ("pair", (PAIR,), ValueError, "observation has 1 parts; Tuple.* has 2"),
    ("pair", (PAIR, 4), ValueError, r"observation\.1 of environment 0 is 4; .* from -3 to -2"),
    ("pair", (PAIR, {}), TypeError, r"unpack it first"),
    ("pair with a dict", ([[1, 2], [3, 4]], {}), ValueError, r"observation\.1 lacks \['x'\]"),
    ("several", [0, 3, 0], ValueError, "holds 3 at index 1; .* from 0 to 2"),
    ("several from", [[-2, 5]], ValueError, "holds -2 .* whole number from -1 to 0"),
    ("binary", [0, 0.5, 1], ValueError, "holds 0.5 at index 1; .* from 0 to 1"),
    ("binary", [0, 1], ValueError, r"unexpected observation shape \(2,\)"),
]


@pytest.mark.parametrize(("name", "value", "kind", "message"), ACTING)
def test_an_observation_that_does_not_fit_is_named(
    name: str, value: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        observation(value, OBSERVATIONS[name])


LOGGED: list[tuple[str, Any, str]] = [
    ("several", np.full((5, 3), 1), r"step 0: actions hold 1, outside 0 to 0 \(5 such"),
    ("several", np.zeros((5, 3)), "actions are float64, but the space MultiDiscrete"),
    ("binary", np.full((5, 3), 2), r"step 0: actions hold 2, outside 0 to 1 \(5 such"),
    ("binary table", np.zeros((5, 2), bool), r"actions have shape \(2,\) a step"),
]


@pytest.mark.parametrize(("name", "values", "message"), LOGGED)
def test_logged_choices_that_do_not_fit_are_named(name: str, values: Any, message: str) -> None:
    logged = episodes(NESTED, ACTIONS[name])
    logged[0]["actions"] = values
    with pytest.raises(DatasetError, match=f"^episode 0.*{message}"):
        Trajectories.from_episodes(logged, NESTED, ACTIONS[name])


def test_logged_parts_that_do_not_fit_are_named() -> None:
    space, action = PARTS["pair"], CHOICES["binary"]
    logged = episodes(space, action)
    numbers, choices = logged[1]["observations"]
    for value, message in (
        (numbers, "observations must be a tuple of 2 parts; got ndarray"),
        ((numbers,), "observations has 1 parts"),
        ((numbers, choices[:1]), r"ragged: observations\.0 has 2, observations\.1 has 1 steps"),
        ([(numbers[0], choices[0]), (numbers[1],)], r"observations\[1\] has 1 parts"),
        ((numbers, choices + 9), r"step 0: observations\.1 hold \d, outside -3 to -2"),
    ):
        logged[1]["observations"] = value
        with pytest.raises(DatasetError, match=f"^episode 1.*{message}"):
            Trajectories.from_episodes(logged, space, action)


def test_executed_choices_that_do_not_fit_are_named() -> None:
    policy: SequencePolicy = tiny_algorithm().make_policy(NUMBERS["scalar"], CHOICES["several"])
    policy.predict(0.5)
    with pytest.raises(ValueError, match="the action of environment 0 holds 3 at index 1"):
        policy.observe(0.0, action=[0, 3, 0])
    policy.observe(0.0, action=[1, 2, 0])
    assert policy.predict(0.25)[0].shape == (3,)
