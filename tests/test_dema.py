"""DeMa's size, layouts and options, against the figures published for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from decision_policies import DeMa
from decision_policies.data import WindowSampler
from decision_policies.models import TokenModel
from decision_policies.nets import Chain, Residual
from tests.laws.cases import SPACES, dema, trajectories


def count(algorithm: DeMa, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> int:
    policy = algorithm.make_policy(observations, actions)
    return sum(p.numel() for p in policy.model.parameters())


def decision_transformer(observation: int, action: int, d: int = 128, layers: int = 3) -> int:
    """Parameters of the Decision Transformer of the continuous-control experiments.

    GPT-2 blocks, a table of 1000 timesteps, three linear embeddings with one LayerNorm, and the
    action head, without the unused heads of returns and states.
    """
    block = (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d
    embeddings = 2 * d + (observation * d + d) + (action * d + d) + 2 * d
    return layers * block + 2 * d + 1000 * d + embeddings + d * action + action


def atari_decision_transformer(actions: int, steps: int, d: int = 128, layers: int = 6) -> int:
    """Parameters of the Atari Decision Transformer, without its table of global positions."""
    attention = 4 * (d * d + d)
    block = attention + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d
    cnn = (4 * 32 * 64 + 32) + (32 * 64 * 16 + 64) + (64 * 64 * 9 + 64) + (3136 * d + d)
    embeddings = cnn + 2 * d + actions * d + actions * d + (3 * steps + 1) * d
    return layers * block + embeddings + d * actions + 2 * d


@pytest.mark.parametrize(
    ("observation", "action", "parameters", "ratio"),
    [(11, 3, 178_691, 0.246), (17, 6, 180_230, 0.248)],
)
def test_the_default_has_a_quarter_of_the_decision_transformers_parameters(
    observation: int, action: int, parameters: int, ratio: float
) -> None:
    box = spaces.Box(-np.inf, np.inf, (observation,)), spaces.Box(-1, 1, (action,))
    ours = count(DeMa(), *box)
    assert ours == parameters
    assert ours / decision_transformer(observation, action) == pytest.approx(ratio, abs=5e-4)


def test_the_atari_configuration_has_thirty_percent_fewer_parameters() -> None:
    frames = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    atari = DeMa(n_layers=6, expand=2, context_length=30, embedding="tanh")
    ours = count(atari, frames, spaces.Discrete(6))
    assert ours == 1_181_984
    assert ours / atari_decision_transformer(6, 30) == pytest.approx(0.702, abs=5e-4)


def test_post_up_projection_adds_an_mlp_to_every_block() -> None:
    box = spaces.Box(-np.inf, np.inf, (11,)), spaces.Box(-1, 1, (3,))
    assert count(DeMa(block="post"), *box) == 574_595
    assert count(DeMa(block="post", expand=2), *box) == 749_315
    assert count(DeMa(expand=2), *box) == 353_411


def test_the_layouts_make_three_tokens_of_a_step_or_one() -> None:
    for layout, tokens in (("B3LD", 3), ("BL3D", 1)):
        model = dema(layout=layout).make_policy(*SPACES["box-box"]).model
        assert isinstance(model, TokenModel)
        assert model.embedding.tokens_per_step == tokens
        assert model.spec.layout == layout


def test_there_is_no_position_anywhere() -> None:
    """Two windows that differ in nothing but the clock are the same to the model."""
    model = dema().make_policy(*SPACES["box-box"]).model
    window = WindowSampler(trajectories(), 6, 4, seed=0).sample()
    with torch.no_grad():
        before = model(window)[0].action
        window.timesteps.add_(100)
        assert torch.equal(model(window)[0].action, before)


@pytest.mark.parametrize(("kind", "mode"), [("transformer", "staggered"), ("rnn", "recurrent")])
def test_the_default_inference_follows_the_kind(kind: str, mode: str) -> None:
    policy = dema(kind=kind).make_policy(*SPACES["box-box"])
    assert policy.inference == mode
    assert dema(kind=kind, inference="window").make_policy(*SPACES["box-box"]).inference == "window"


def test_the_stock_block_is_inside() -> None:
    model = dema(n_layers=4).make_policy(*SPACES["box-box"]).model
    assert isinstance(model, TokenModel) and isinstance(model.backbone, Chain)
    assert len(model.backbone.layers) == 4
    assert all(isinstance(layer, Residual) for layer in model.backbone.layers)


def test_images_are_learnt_from_and_acted_on() -> None:
    rng = np.random.default_rng(0)
    frames = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    episodes = [
        {
            "observations": rng.integers(0, 256, (6, 1, 36, 36), np.uint8),
            "actions": rng.integers(0, 2, 5),
            "rewards": np.ones(5),
        }
        for _ in range(3)
    ]
    from decision_policies import Trajectories

    data = Trajectories.from_episodes(episodes, frames, spaces.Discrete(2))
    assert data.images is not None and data.rows.shape == (15, 4)
    algorithm = dema(n_layers=1).learn(data, 2)
    action, _ = algorithm.predict(episodes[0]["observations"][:2])
    assert action.shape == (2,)
