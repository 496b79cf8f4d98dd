"""Task: what published weights do not say of themselves, and the parts that all of them share."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike
from torch import Tensor

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.convert.layout import Layout
from decision_policies.errors import ConversionError
from decision_policies.models.encoders import VectorEncoder
from decision_policies.models.model import TokenModel
from decision_policies.spaces import is_image, model_shape

A = TypeVar("A", bound=SequenceAlgorithm)


@dataclass(frozen=True)
class Task:
    """What weights were trained for, which a published state dict does not say.

    The converted policy acts by re-encoding the last `context_length` steps, as published.

    Attributes:
        observation_space: Space of one observation, a Box of numbers.
        action_space: Space of one action: Box(-1, 1) where the weights' head ends in a tanh, else
            an unbounded Box. Published weights see and give actions in these units.
        context_length: Number K of steps that the weights were trained on; published are 20 for
            DT and DM, 8 for DC and DMM.
        return_scale: What returns were divided by in training; published for locomotion: 1000.
        target_return: The return to ask for by default, before that division.
        observation_mean: Mean that was subtracted from observations, of their shape; None is 0.
            Where neither this nor the deviation is given, a `learn` that follows takes its data's.
        observation_std: What they were then divided by; None is 1. Published code adds 1e-6 to the
            data's deviation; pass the sum.
        device: Where to put the weights.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    _: KW_ONLY
    context_length: int
    return_scale: float
    target_return: float
    observation_mean: ArrayLike | None = None
    observation_std: ArrayLike | None = None
    device: str = "auto"


class Sizes(NamedTuple):
    """Sizes that every published policy has.

    Attributes:
        width: Token width D.
        observation: Numbers in an observation.
        action: Numbers in an action.
    """

    width: int
    observation: int
    action: int


def read_sizes(layout: Layout, task: Task, *, tanh: bool = True) -> Sizes:
    """Read the sizes, and compare them with the task's spaces.

    Args:
        layout: The published weights.
        task: What they were trained for.
        tanh: Whether their head ends in a tanh.

    Raises:
        ConversionError: The spaces are of another kind or size than the weights', or these are of
            an Atari model.
    """
    if "global_pos_emb" in layout.weights:
        raise ConversionError(
            "these are the weights of an Atari model, which adds one timestep embedding for all "
            "tokens of a window; the models of this package have one for each step, so only the "
            f"layout of {layout.title} can be converted"
        )
    _check_spaces(layout.title, task, tanh)
    linear = ("embed_return", "embed_state", "embed_action")
    width = layout.size(
        ("embed_ln.weight", 0), ("embed_ln.bias", 0), *((f"{name}.bias", 0) for name in linear)
    )
    observation, action = (
        int(np.prod(space.shape or ())) for space in (task.observation_space, task.action_space)
    )
    seen = layout.axis("embed_state.weight", 1)
    if seen not in (None, observation):
        raise ConversionError(
            f"embed_state.weight takes observations of {seen} numbers, but those of "
            f"{task.observation_space} have {observation}"
        )
    given = layout.size(
        ("predict_action.0.weight", 0), ("predict_action.0.bias", 0), ("embed_action.weight", 1)
    )
    if given != action:
        raise ConversionError(
            f"predict_action.0 gives actions of {given} numbers, but those of {task.action_space} "
            f"have {action}"
        )
    return Sizes(width, observation, action)


def declare_ends(layout: Layout, sizes: Sizes, norm: str, *, with_actions: bool = True) -> None:
    """Declare the embeddings, the last norm and the head, which all published policies share.

    Args:
        layout: The published weights.
        sizes: Their sizes.
        norm: Published name of the norm before the head.
        with_actions: Whether actions are tokens; if not, their embedding is there and unused.
    """
    layout.linear("embedding.returns", "embed_return", 1, sizes.width)
    layout.linear("embedding.observation.linear", "embed_state", sizes.observation, sizes.width)
    if with_actions:
        layout.linear("embedding.action", "embed_action", sizes.action, sizes.width)
    else:
        layout.ignore("embed_action.weight", "embed_action.bias")
    layout.norm("embedding.norm", "embed_ln", sizes.width)
    layout.norm("norm", norm, sizes.width)
    layout.linear("head.linear", "predict_action.0", sizes.width, sizes.action)


def declare_timesteps(layout: Layout, sizes: Sizes) -> int:
    """Declare the table of timestep embeddings, and return how many steps it has."""
    steps = layout.size(("embed_timestep.weight", 0))
    layout.copy("embedding.timestep.weight", "embed_timestep.weight", steps, sizes.width)
    return steps


def fill(algorithm: A, layout: Layout, task: Task) -> A:
    """Make the algorithm's policy and give it the published weights.

    Raises:
        ConversionError: The weights, or the task's mean and deviation, do not fit.
    """
    layout.check()
    shape = model_shape(task.observation_space)
    mean = _statistic("observation_mean", task.observation_mean, shape, 0.0)
    std = _statistic("observation_std", task.observation_std, shape, 1.0)
    if not bool((std > 0).all()):
        raise ConversionError(f"observation_std must be positive, got {task.observation_std}")
    policy = algorithm.make_policy(
        task.observation_space,
        task.action_space,
        return_scale=task.return_scale,
        target_return=task.target_return,
    )
    model = policy.model
    assert isinstance(model, TokenModel)
    layout.load_into(model)
    encoder = model.embedding.observation
    assert isinstance(encoder, VectorEncoder)
    encoder.mean.copy_(mean.flatten())  # not by set_statistics, which mends small deviations
    encoder.std.copy_(std.flatten())
    return algorithm


def _check_spaces(title: str, task: Task, tanh: bool) -> None:
    seen, acted = task.observation_space, task.action_space
    if not isinstance(seen, spaces.Box) or is_image(seen):
        raise ConversionError(
            f"the layout of {title} takes observations of a Box of numbers, not of {seen}"
        )
    if not isinstance(acted, spaces.Box):
        raise ConversionError(
            f"the layout of {title} gives continuous actions, so it needs a Box, not {acted}"
        )
    unit = bool((acted.low == -1).all() and (acted.high == 1).all())
    if tanh and not unit:
        raise ConversionError(
            f"the layout of {title} bounds actions by tanh, so it needs a bounded Box, from -1 to "
            f"1; got {acted}. If the weights were trained on actions scaled to [-1, 1], wrap the "
            "environment in gymnasium.wrappers.RescaleAction(env, -1, 1); if on the environment's "
            "own, pass Box(-1, 1, shape), and the policy acts in that part of the space"
        )
    if not tanh and acted.is_bounded():
        raise ConversionError(
            f"these weights of the layout of {title} end without a tanh, so they need an unbounded "
            f"Box, Box(-inf, inf, shape), not {acted}; clip the actions in the environment with "
            "gymnasium.wrappers.ClipAction(env)"
        )


def _statistic(
    name: str, values: ArrayLike | None, shape: tuple[int, ...], default: float
) -> Tensor:
    if values is None:
        return torch.full(shape, default)
    array = np.asarray(values, np.float32)
    if array.shape != shape or not np.isfinite(array).all():
        raise ConversionError(
            f"{name} must be finite numbers of the observation's shape {shape}, got an array of "
            f"shape {array.shape}{'' if array.shape != shape else f': {array}'}"
        )
    return torch.from_numpy(array.copy())
