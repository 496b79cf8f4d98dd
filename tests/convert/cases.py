"""Every published layout with its converter, ways to compare what they predict, and damages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from decision_policies import SequenceAlgorithm
from decision_policies.batch import Window
from decision_policies.convert import (
    Task,
    dc_from_published,
    dm_from_published,
    dmm_from_published,
    dt_from_published,
)
from tests.convert.published import (
    ACTED,
    LAYERS,
    SEEN,
    STEPS,
    Body,
    ConvBlock,
    DecisionMambaBlock,
    GPT2Block,
    MetaMambaBody,
    Published,
)

SCALE, TARGET, CONTEXT = 20.0, 30.0, 5
MEAN, STD = np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.1, 1e-6])
OBSERVATIONS = spaces.Box(-np.inf, np.inf, (SEEN,), np.float32)
ACTIONS = spaces.Box(-1, 1, (ACTED,), np.float32)

Predict = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Convert = Callable[..., SequenceAlgorithm]


def task(**changes: Any) -> Task:
    """Describe the task of all tests."""
    values: dict[str, Any] = {
        "observation_space": OBSERVATIONS,
        "action_space": ACTIONS,
        "context_length": CONTEXT,
        "return_scale": SCALE,
        "target_return": TARGET,
        "observation_mean": MEAN,
        "observation_std": STD,
        "device": "cpu",
    }
    return Task(**{**values, **changes})


def transformer(heads: int = 1, activation: Any = F.relu, **options: Any) -> Published:
    blocks = [GPT2Block(heads, activation) for _ in range(LAYERS)]
    return Published("transformer", Body(*blocks, vocabulary=True), **options)


def mamba(**options: Any) -> Published:
    return Published("transformer", Body(*(DecisionMambaBlock() for _ in range(LAYERS))), **options)


def convformer(heads: int = 0, project: bool = False, kinds: int = 3) -> Published:
    first = [ConvBlock(kinds, project=project) for _ in range(LAYERS - 1)]
    last = ConvBlock(kinds, heads=heads, project=project)
    return Published("transformer", Body(*first, last), kinds=kinds)


def metamamba(hidden: bool = False) -> Published:
    return Published("model", MetaMambaBody(hidden=hidden), timesteps=False)


gelu_tanh = partial(F.gelu, approximate="tanh")

CASES: dict[str, tuple[Callable[[], Published], Convert, dict[str, Any]]] = {
    "dt": (partial(transformer, unused=True), dt_from_published, {}),
    "dt-heads": (
        partial(transformer, 4, gelu_tanh),
        dt_from_published,
        {"n_heads": 4, "activation": "gelu_tanh"},
    ),
    "dt-no-actions": (
        partial(transformer, 1, F.gelu, kinds=2),
        dt_from_published,
        {"activation": "gelu", "remove_act_embs": True},
    ),
    "dm": (mamba, dm_from_published, {}),
    "dm-no-actions": (partial(mamba, kinds=2), dm_from_published, {"remove_act_embs": True}),
    "dc": (convformer, dc_from_published, {}),
    "dc-no-actions": (partial(convformer, kinds=2), dc_from_published, {"remove_act_embs": True}),
    "dc-hybrid": (partial(convformer, 4, True), dc_from_published, {"n_heads": 4}),
    "dmm": (metamamba, dmm_from_published, {}),
}


def make(case: str) -> tuple[Published, Mapping[str, Tensor], Convert]:
    """Make a published model, its weights, and the converter with its options."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = CASES[case][0]().eval()
    return model, model.state_dict(), partial(CASES[case][1], **CASES[case][2])


def draw(batch: int, steps: int) -> Window:
    """Draw a window in the units of the environment."""
    rng = torch.Generator().manual_seed(1)
    shape = (batch, steps)
    return Window(
        observations=torch.randn(*shape, SEEN, generator=rng) * torch.from_numpy(STD).float()
        + torch.from_numpy(MEAN).float(),
        actions=torch.rand(*shape, ACTED, generator=rng) * 2 - 1,
        rewards=torch.zeros(shape),
        returns_to_go=torch.randn(shape, generator=rng) * SCALE,
        timesteps=torch.randint(STEPS, (batch, 1), generator=rng) % 7 + torch.arange(steps),
        mask=torch.ones(shape, dtype=torch.bool),
        starts=torch.ones(batch, dtype=torch.bool),
    )


def published_inputs(window: Window) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalise a window as published code does, outside its models."""
    mean, std = (torch.from_numpy(x).float() for x in (MEAN, STD))
    returns = (window.returns_to_go / SCALE).unsqueeze(-1)
    return (window.observations - mean) / std, window.actions, returns, window.timesteps


@torch.no_grad()
def window_error(algorithm: SequenceAlgorithm, predict: Predict) -> float:
    """Largest difference of the predictions over whole windows."""
    assert algorithm.policy is not None
    window = draw(batch=3, steps=CONTEXT)
    ours, _ = algorithm.policy.model(window)
    theirs = predict(*published_inputs(window))
    assert theirs.std() > 0.05, "predictions that are all the same would agree by chance"
    return float((ours.action - theirs).abs().max())


@torch.no_grad()
def acting_error(algorithm: SequenceAlgorithm, predict: Predict, steps: int = 9) -> float:
    """Largest difference of the actions of an episode longer than the context, step by step."""
    window = draw(batch=1, steps=steps)
    states, actions, *_ = published_inputs(window)
    rewards = torch.linspace(-2, 3, steps)
    returns = torch.cat((torch.tensor([TARGET]), TARGET - rewards.cumsum(0)))[:steps] / SCALE
    clock, errors = torch.arange(steps)[None], []
    for t in range(steps):
        seen = slice(max(0, t - CONTEXT + 1), t + 1)
        ours, _ = algorithm.predict(window.observations[0, t].numpy())
        theirs = predict(
            states[:, seen], actions[:, seen], returns[None, seen, None], clock[:, seen]
        )
        errors.append(np.abs(ours - theirs[0, -1].numpy()).max())
        actions[0, t] = torch.from_numpy(ours)
        algorithm.observe(float(rewards[t]))
    algorithm.reset()
    return float(max(errors))


def damaged(weights: Mapping[str, Tensor], name: str, how: str) -> dict[str, Tensor]:
    """Damage one tensor: "missing", "renamed", "wider" by its last axis, or "not finite"."""
    copy = dict(weights)
    tensor = copy.pop(name)
    if how == "renamed":
        copy[f"{name}_"] = tensor
    elif how == "wider":
        copy[name] = torch.cat((tensor, tensor[..., :1]), -1)
    elif how == "not finite":
        copy[name] = tensor.clone().index_fill(0, torch.tensor(0), torch.nan)
    return copy
