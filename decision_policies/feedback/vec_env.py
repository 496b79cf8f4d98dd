"""VecEnvFeedback: the wrapper of Stable-Baselines3's environments; imported for these only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from decision_policies.feedback.observer import Observer, Reporter


class VecEnvFeedback(VecEnvWrapper, Reporter):
    """Tells a policy of the rewards, ends and actions of n environments.

    They reset themselves: the observation after a row's end is the next episode's first.

    Args:
        venv: The environments.
        policy: The policy that acts in them.
    """

    def __init__(self, venv: VecEnv, policy: Observer) -> None:
        super().__init__(venv)
        self.policy = policy
        self._actions: NDArray[Any] | None = None

    def reset(self) -> VecEnvObs:
        """Reset all environments; to the policy, their present episodes end here."""
        observations = self.venv.reset()
        self.policy.observe(0.0, truncated=True)
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Begin a step."""
        self._actions = np.array(actions)
        super().step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """End the step and report what came of it."""
        result = self.venv.step_wait()
        _, rewards, dones, _ = result
        self.policy.observe(rewards, dones, action=self._actions)
        return result
