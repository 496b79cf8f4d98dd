"""Policies in published layouts predict what the published models predict, and act, save, load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import decision_policies
from decision_policies.convert import dmm_from_published, dt_from_published
from tests.convert.cases import (
    CASES,
    CONTEXT,
    OBSERVATIONS,
    acting_error,
    draw,
    make,
    metamamba,
    task,
    transformer,
    window_error,
)


@pytest.mark.parametrize("case", CASES)
def test_predicts_what_the_published_model_predicts(case: str) -> None:
    model, weights, convert = make(case)
    algorithm = convert(weights, task())
    assert window_error(algorithm, model) < 1e-5
    assert acting_error(algorithm, model) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_recurrent_inference_agrees_within_the_context(case: str) -> None:
    model, weights, convert = make(case)
    algorithm = convert(weights, task())
    assert algorithm.policy is not None
    algorithm.policy = algorithm.policy.fork(inference="recurrent")
    assert acting_error(algorithm, model, CONTEXT) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_saved_and_loaded_acts_the_same(case: str, tmp_path: Path) -> None:
    _, weights, convert = make(case)
    algorithm = convert(weights, task())
    algorithm.save(tmp_path / "policy")
    loaded = decision_policies.load(tmp_path / "policy", device="cpu")
    assert type(loaded) is type(algorithm)
    assert loaded.hyperparameters() == algorithm.hyperparameters()
    for observation in draw(batch=1, steps=CONTEXT + 2).observations[0].numpy():
        one, other = algorithm.predict(observation)[0], loaded.predict(observation)[0]
        np.testing.assert_array_equal(one, other)
        algorithm.observe(1.0)
        loaded.observe(1.0)


def test_task_is_the_policys() -> None:
    _, weights, convert = make("dt")
    policy = convert(weights, task()).policy
    assert policy is not None
    spec = policy.spec
    assert (spec.context_length, spec.return_scale, spec.target_return) == (5, 20.0, 30.0)
    assert (spec.inference, spec.modalities) == ("window", ("return", "observation", "action"))


def test_mean_and_deviation_are_optional() -> None:
    _, weights, convert = make("dm")
    plain = convert(weights, task(observation_mean=None, observation_std=None))
    given = convert(weights, task(observation_mean=np.zeros(3), observation_std=np.ones(3)))
    observation = np.array([0.3, -0.4, 0.5], np.float32)
    np.testing.assert_array_equal(plain.predict(observation)[0], given.predict(observation)[0])


def test_head_without_tanh_acts_beyond_one() -> None:
    torch.manual_seed(0)
    model = transformer(tanh=False).eval()
    unbounded = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    algorithm = dt_from_published(
        model.state_dict(), task(action_space=unbounded), action_tanh=False
    )
    assert window_error(algorithm, model) < 1e-5
    assert acting_error(algorithm, model) < 1e-5


def test_dense_mixer_that_the_state_dict_lacks_can_be_handed_in() -> None:
    torch.manual_seed(0)
    model: Any = metamamba(hidden=True).eval()
    dense = model.model.local_sequence_mixers[0].lin.weight
    algorithm = dmm_from_published(model.state_dict(), task(), dense_mixer=dense)
    assert algorithm.dsm_mode == "shared_frozen"
    assert window_error(algorithm, model) < 1e-5
    assert acting_error(algorithm, model) < 1e-5


def test_half_precision_weights_become_float32() -> None:
    _, weights, convert = make("dc")
    rounded = {name: tensor.bfloat16() for name, tensor in weights.items()}
    policy = convert(rounded, task()).policy
    assert policy is not None
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}


def test_conversion_leaves_weights_and_generators_alone() -> None:
    _, weights, convert = make("dmm")
    before = {name: tensor.clone() for name, tensor in weights.items()}
    random = torch.get_rng_state()
    policy = convert(weights, task()).policy
    assert policy is not None
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(1)
    assert all(torch.equal(weights[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), random)


def test_observations_of_another_rank_are_flattened() -> None:
    _, weights, convert = make("dt")
    table = spaces.Box(-1, 1, (3, 1), np.float32)
    statistics = {"observation_mean": np.ones((3, 1)), "observation_std": np.full((3, 1), 2.0)}
    folded = convert(weights, task(observation_space=table, **statistics))
    flat = convert(weights, task(**{k: v.ravel() for k, v in statistics.items()}))
    observation = OBSERVATIONS.sample()
    np.testing.assert_array_equal(
        folded.predict(observation[:, None])[0], flat.predict(observation)[0]
    )
