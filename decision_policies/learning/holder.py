"""PolicyHolder: what an algorithm does by asking the policy that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsFloat

from numpy.typing import ArrayLike, NDArray

from decision_policies import feedback
from decision_policies.feedback import E
from decision_policies.policy import SequencePolicy


class PolicyHolder:
    """Holds a policy and acts by it, so that an algorithm can be used where a policy can.

    Attributes:
        policy: The policy; None before the first `learn`.
    """

    if TYPE_CHECKING:
        policy: SequencePolicy | None

    def predict(
        self,
        observation: Any,
        state: object = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = True,
        *,
        reward: ArrayLike | SupportsFloat | None = None,
    ) -> tuple[NDArray[Any], None]:
        """Choose the next actions; see `SequencePolicy.predict`."""
        policy = self._trained()
        return policy.predict(observation, state, episode_start, deterministic, reward=reward)

    def observe(
        self,
        reward: ArrayLike | SupportsFloat,
        terminated: ArrayLike = False,
        truncated: ArrayLike = False,
        action: ArrayLike | None = None,
        *,
        resetting: ArrayLike = False,
    ) -> None:
        """Report what the last actions earned; see `SequencePolicy.observe`.

        Before there is a policy, the call does nothing.
        """
        if self.policy is not None:
            self.policy.observe(reward, terminated, truncated, action, resetting=resetting)

    def reset(self, target_return: ArrayLike | None = None) -> None:
        """Forget everything; see `SequencePolicy.reset`."""
        self._trained().reset(target_return)

    def wrap(self, env: E) -> E:
        """Wrap an environment so that it reports its rewards; see `SequencePolicy.wrap`.

        It may be called before the first `learn`, for a callback that evaluates during it.
        """
        return feedback.wrap(env, self) if self.policy is None else self.policy.wrap(env)

    def _trained(self) -> SequencePolicy:
        if self.policy is None:
            name = type(self).__name__
            raise RuntimeError(f"this {name} has no policy yet: call learn first, or {name}.load")
        return self.policy
