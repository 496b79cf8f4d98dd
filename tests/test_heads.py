"""Heads and encoders: what comes out is in the space, and what goes in is on its scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from decision_policies.models.encoders import ImageEncoder, VectorEncoder
from decision_policies.models.heads import ContinuousHead, DiscreteHead

RNG = np.random.default_rng(0)
INFINITE = np.inf


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(
            np.array([-1, 0, -INFINITE]), np.array([1, INFINITE, INFINITE]), dtype=np.float64
        ),
        spaces.Box(-INFINITE, INFINITE, (2, 2)),
        spaces.Box(np.array([-3.0, 2.0]), np.array([0.5, 2.0]), dtype=np.float64),
        spaces.Box(-4, 10, (3,), np.int64),
        spaces.Box(0.1, 0.7, (), np.float32),
    ],
    ids=["partly bounded", "unbounded", "odd bounds", "integers", "scalar"],
)
def test_actions_are_inside_their_space(space: spaces.Box) -> None:
    head = ContinuousHead(4, space)
    parameters = RNG.normal(0, 10, (200, head.n_features)).astype(np.float32)
    for action in head.act(parameters, True, RNG):
        assert space.contains(action if space.shape else np.asarray(action)), action


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint64])
def test_bounds_that_are_the_ends_of_a_type_are_none(dtype: Any) -> None:
    ends = np.finfo(dtype) if np.issubdtype(dtype, np.floating) else np.iinfo(dtype)
    space = spaces.Box(np.array([ends.min]), np.array([ends.max]), dtype=dtype)
    assert space.is_bounded()
    head = ContinuousHead(4, space)
    assert not head.bounded
    actions = head.act(head.features(torch.tensor([[3.0]])).numpy(), True, RNG)
    assert actions.tolist() == [[3]] and actions.dtype == dtype


def test_integer_actions_are_rounded_to_the_nearest() -> None:
    head = ContinuousHead(4, spaces.Box(0, 10, (1,), np.int64))
    wanted = np.array([[6.6], [7.0], [7.4], [0.4], [9.6]])
    features = head.features(torch.from_numpy(wanted.astype(np.float32))).numpy()
    assert head.act(features, True, RNG)[:, 0].tolist() == [7, 7, 7, 0, 10]


def test_features_and_act_are_inverse_to_each_other() -> None:
    space = spaces.Box(np.array([-3.0, 2.0], np.float32), np.array([0.5, 9.0], np.float32))
    actions = RNG.uniform(space.low, space.high, (50, 2)).astype(np.float32)
    head = ContinuousHead(4, space)
    features = head.features(torch.from_numpy(actions))
    assert float(features.abs().max()) <= 1 + 1e-6
    np.testing.assert_allclose(head.act(features.numpy(), True, RNG), actions, atol=1e-5)


def test_sampled_actions_follow_the_softmax() -> None:
    head = DiscreteHead(4, spaces.Discrete(3, start=5))
    logits = np.log(np.tile([0.2, 0.5, 0.3], (20_000, 1))).astype(np.float32)
    shares = np.bincount(head.act(logits, False, RNG) - 5, minlength=3) / 20_000
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.02)
    assert set(head.act(logits[:9], True, RNG).tolist()) == {6}


def test_images_enter_the_network_between_0_and_1() -> None:
    encoder = ImageEncoder(4, spaces.Box(0, 255, (1, 36, 36), np.uint8))
    frames = torch.full((2, 3, 1, 36, 36), 255, dtype=torch.uint8)
    code = encoder(frames)
    assert code.shape == (2, 3, 4)
    expected = encoder.linear(encoder.convolutions(torch.ones(6, 1, 36, 36))).view(2, 3, 4)
    assert torch.allclose(code, expected, atol=1e-5)


def test_observations_are_standardised_and_constant_ones_only_centred() -> None:
    encoder = VectorEncoder(4, spaces.Box(-INFINITE, INFINITE, (2,)))
    encoder.set_statistics(torch.tensor([3.0, 7.0]), torch.tensor([2.0, 0.0]))
    seen: list[torch.Tensor] = []
    encoder.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(torch.tensor([[5.0, 7.0], [1.0, 8.0]]))
    assert seen[0].tolist() == [[1.0, 0.0], [-1.0, 1.0]]
