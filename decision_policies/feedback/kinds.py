"""wrap: which wrapper a kind of environment takes, and which environments are refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from decision_policies.feedback.observer import Observer, Reporter
from decision_policies.feedback.single import Feedback
from decision_policies.feedback.vector import VectorFeedback
from decision_policies.inputs import check_same_space

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

E = TypeVar("E", gym.Env[Any, Any], VectorEnv[Any, Any, Any], "VecEnv")
"""A kind of environment."""

Spaces = tuple[spaces.Space[Any], spaces.Space[Any]]
"""Observation space and action space of one environment."""


def wrap(env: E, policy: Observer, expected: Spaces | None = None) -> E:
    """Put an environment into the wrapper of its kind.

    Args:
        env: The environment.
        policy: Who hears of its rewards.
        expected: The spaces that the policy was made for; None compares none.

    Raises:
        TypeError: There is no wrapper for it.
        ValueError: Its spaces are others, or it reports to a policy already.
    """
    wrapper, found = _kind(env)
    if reports(env):
        raise ValueError(
            "this environment reports to a policy already, and what is reported twice counts "
            "twice: wrap the environment inside, as it was made"
        )
    if expected is not None:
        for its, own, role in zip(found, expected, ("observation", "action"), strict=True):
            check_same_space(its, own, role)
    wrapped: E = wrapper(env, policy)
    return wrapped


def _kind(env: object) -> tuple[Callable[[Any, Observer], Any], Spaces]:
    """Choose the wrapper, and find the spaces of one environment."""
    if isinstance(env, gym.Env):
        return Feedback, (env.observation_space, env.action_space)
    if isinstance(env, VectorEnv):
        return VectorFeedback, (env.single_observation_space, env.single_action_space)
    sb3: Any = sys.modules.get(
        "stable_baselines3.common.vec_env"
    )  # else there are none of its kind
    if sb3 is not None and isinstance(env, sb3.VecEnv):
        from decision_policies.feedback.vec_env import VecEnvFeedback

        return VecEnvFeedback, (env.observation_space, env.action_space)
    raise TypeError(
        "wrap takes a gymnasium.Env, a gymnasium.vector.VectorEnv or a Stable-Baselines3 VecEnv, "
        f"got {type(env).__name__}"
    )


def reports(env: object) -> bool:
    """Say whether one of our wrappers is somewhere around or in an environment."""
    if isinstance(env, Reporter):
        return True
    parts = getattr(env, "__dict__", {})
    inner = [parts[name] for name in ("env", "venv") if name in parts]
    return any(map(reports, inner + list(parts.get("envs", ()))))
