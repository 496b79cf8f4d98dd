"""Feedback: the wrapper of a single gymnasium environment."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym

from decision_policies.feedback.observer import Observer, Reporter


class Feedback(gym.Wrapper[Any, Any, Any, Any], Reporter):
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
