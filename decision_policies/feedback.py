"""Wrappers that report an environment's rewards to a policy, so that loops need no extra line."""

from __future__ import annotations

from typing import Any, Protocol, SupportsFloat

import gymnasium as gym


class Observer(Protocol):
    """The part of a policy that listens to rewards."""

    def observe(
        self,
        reward: Any,
        terminated: Any = False,
        truncated: Any = False,
        action: Any = None,
    ) -> None:
        """Take in a reward."""


class Feedback(gym.Wrapper[Any, Any, Any, Any]):
    """Tells a policy of every reward, of every episode's end, and of the action that was executed.

    Made by `SequencePolicy.wrap`. A reset of the environment is the end of an episode to the
    policy; it does not clear a memory that outlives episodes (`policy.reset()` does).

    Args:
        env: The environment.
        policy: The policy that acts in it.
    """

    def __init__(self, env: gym.Env[Any, Any], policy: Observer) -> None:
        super().__init__(env)
        self.policy = policy

    def step(
        self,
        action: Any,
    ) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment and report what came of it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.policy.observe(reward, terminated, truncated, action)
        return observation, reward, terminated, truncated, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; to the policy, the present episode ends here."""
        result = self.env.reset(seed=seed, options=options)
        self.policy.observe(0.0, truncated=True)
        return result
