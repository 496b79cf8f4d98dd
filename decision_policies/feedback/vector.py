"""VectorFeedback: the wrapper of gymnasium's vector environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from decision_policies.feedback.observer import Observer, Reporter

if TYPE_CHECKING:
    Wrapper: TypeAlias = VectorWrapper[Any, Any, Any, Any, NDArray[Any]]
else:
    Wrapper = VectorWrapper  # which is not generic in older versions of gymnasium


class VectorFeedback(Wrapper, Reporter):
    """Tells a policy of the rewards, ends and actions of n environments.

    Where a row's next episode begins depends on `env.metadata["autoreset_mode"]`:

    - `NEXT_STEP`: one step after the end. The action that was predicted from the last observation
      is not executed then, so the policy forgets it; the reward of that step does not count.
    - `SAME_STEP`: at the end, whose step returns the next episode's first observation.
    - `DISABLED`: at `reset(options={"reset_mask": rows})`.

    Args:
        env: The environments.
        policy: The policy that acts in them.

    Raises:
        ValueError: The environments do not say their autoreset mode.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], policy: Observer) -> None:
        super().__init__(env)
        self.policy = policy
        mode = env.metadata.get("autoreset_mode")
        if mode is None:
            raise ValueError(
                f"{env} does not say when a new episode begins; set its "
                'metadata["autoreset_mode"] to a gymnasium.vector.AutoresetMode'
            )
        self._waits = AutoresetMode(mode) is AutoresetMode.NEXT_STEP
        self._resetting = np.zeros(env.num_envs, bool)

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Step the environments and report what came of it."""
        result = self.env.step(actions)
        _, rewards, terminated, truncated, _ = result
        begun = self._resetting
        self._resetting = (terminated | truncated) & self._waits
        self.policy.observe(
            rewards, terminated, truncated | begun, actions, resetting=self._resetting
        )
        return result

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all environments, or those of a mask; to the policy, their episodes end here."""
        mask = (options or {}).get("reset_mask")  # the environment takes it out of the options
        result = self.env.reset(seed=seed, options=options)
        if mask is None:
            self._resetting[:] = False
            self.policy.observe(0.0, truncated=True)
        else:
            self._resetting &= ~mask
            self.policy.observe(0.0, truncated=mask, resetting=self._resetting)
        return result
