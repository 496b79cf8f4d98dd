"""SequencePolicy: a trained model with its memory, acting in one or several environments."""

from __future__ import annotations

import copy
import os
import warnings
from dataclasses import replace
from typing import Any, Self, SupportsFloat

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from decision_policies import feedback, inputs
from decision_policies.batch import Step
from decision_policies.contexts import Executed, make_context
from decision_policies.feedback import E
from decision_policies.models.model import SequenceModel
from decision_policies.session import Session
from decision_policies.spec import Inference

if hasattr(os, "register_at_fork"):  # torch's pool of threads is not forked: to wait for it hangs
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class SequencePolicy:
    """A sequence model that acts: `predict(observation)` hides everything that must be remembered.

    The policy keeps the context (or the recurrent state), the return-to-go and the clock of each
    environment. Rewards lower the return-to-go; they arrive by `observe`, by `predict(...,
    reward=)`, or by themselves in an environment wrapped with `wrap`. Without any of these the
    return-to-go is held, and one warning says so; with `return_mode="constant"` it is meant to be,
    and with `return_mode="predict"` the model lowers it by the rewards that it predicts.

    To act on another device, move the model between episodes, `policy.model.to(device)`, and call
    `reset`; forks share it. The memory of an episode does not move: `predict` then says so.

    Args:
        model: The trained model; the policy never changes it.
        inference: How to remember; None is the model's own, `model.spec.inference`.
        target_return: The return to ask for, as in `reset`; None is the model's own,
            `model.spec.target_return`.
        seed: Seeds the sampling of actions when `deterministic=False`.

    Example:
        >>> import gymnasium as gym
        >>> from decision_policies import DeMa
        >>> env = gym.make("CartPole-v1")
        >>> policy = DeMa(d_model=16).make_policy(env.observation_space, env.action_space)
        >>> env = policy.wrap(env)
        >>> observation, info = env.reset(seed=0)
        >>> action, _ = policy.predict(observation)
        >>> observation, reward, terminated, truncated, info = env.step(action)
    """

    def __init__(
        self,
        model: SequenceModel,
        *,
        inference: Inference | None = None,
        target_return: ArrayLike | None = None,
        seed: int | None = None,
    ) -> None:
        self.model = model
        self.spec = model.spec
        if self.spec.predicts_rewards and model.reward_head is None:
            raise ValueError('return_mode="predict" needs a model with a reward_head; it has None')
        self.inference = self._checked(inference or model.spec.inference)
        asked = model.spec.target_return if target_return is None else target_return
        self._target = inputs.target_return(asked, model.spec.returns)
        self._rng = np.random.default_rng(seed)
        self._session: Session | None = None
        self._turn = inputs.Turn()

    def __repr__(self) -> str:
        session = self._session
        weights = sum(p.numel() for p in self.model.parameters())
        return (
            f"SequencePolicy({type(self.model).__name__} of {weights:,} weights on "
            f"{self.model.device}, inference={self.inference!r}, target_return={self._target}, "
            f"{'no episode' if session is None else f'{len(session.starts)} environments'})"
        )

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Space of one observation."""
        return self.spec.observation_space

    @property
    def action_space(self) -> spaces.Space[Any]:
        """Space of one action."""
        return self.spec.action_space

    @property
    def target_return(self) -> NDArray[np.float64]:
        """The return asked for at the start of each episode, a scalar or (n,)."""
        return self._target.copy()

    @property
    def returns_to_go(self) -> NDArray[np.float64] | None:
        """What is still asked for in each environment, (n,); None before the first `predict`."""
        return None if self._session is None else self._session.returns_to_go.copy()

    def predict(
        self,
        observation: Any,
        state: object = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = True,
        *,
        reward: ArrayLike | SupportsFloat | None = None,
    ) -> tuple[NDArray[Any], None]:
        """Choose the next action of each environment.

        Args:
            observation: One observation, or a batch of n with a leading axis. It is copied.
            state: Must be None. It stands here because Stable-Baselines3's tools pass it.
            episode_start: Rows whose observation is the first of an episode, (n,), bool. Needed
                only where episode ends are not reported by `observe` or `wrap`.
            deterministic: Take the likeliest action rather than sample. True by default, unlike
                Stable-Baselines3: return conditioning is meant to be followed, not sampled around.
                Continuous actions are deterministic in any case.
            reward: The rewards that followed the last actions, a number or (n,): short for
                `observe(reward)` before this call.

        Returns:
            The action, of the action space's shape and dtype, with a leading axis n where the
            observation had one; and None, since the state stays inside.

        Raises:
            ValueError: Wrong shape, a value that is not finite, another number of environments
                than before, or a state handed in. Nothing has changed then; the call can be
                repeated. Or the network's output is not finite; the session is reset then.
            TypeError: The observation is of a wrong kind, such as the pair that `reset` returns.
            RuntimeError: Another thread is in a call just now; or the model was moved to another
                device since the session began. Nothing has changed then.
        """
        if state is not None:
            raise ValueError(
                "predict was given a state, but the policy keeps its own: a state passed back "
                "would undo the rewards observed since. Leave it out, or use policy.fork() for "
                "an independent session."
            )
        batch, single = inputs.observation(observation, self.spec.observation_space)
        rows = batch.shape[0]
        starts = None if episode_start is None else inputs.flags(episode_start, rows)
        rewards = None if reward is None else inputs.rewards(reward, rows)
        anew = starts is not None and bool(starts.all())
        with self._turn:
            session = self._session
            if session is None or (anew and len(session.starts) != rows):
                session = self._begin(rows)
            else:
                session.check(rows, self.model.device)
            self._session = session  # nothing can fail from here on
            session.single = single
            if rewards is not None:
                self._pay(session, rewards)
            if starts is not None:
                session.starts |= starts
            return self._act(session, batch, deterministic), None

    def observe(
        self,
        reward: ArrayLike | SupportsFloat,
        terminated: ArrayLike = False,
        truncated: ArrayLike = False,
        action: ArrayLike | None = None,
        *,
        resetting: ArrayLike = False,
    ) -> None:
        """Report what the last actions earned; the only thing that changes a return-to-go.

        Args:
            reward: A number or (n,). Rewards reported in several calls between two actions add up.
                With `return_mode="predict"` the model's predictions count, and a reward that is
                reported nevertheless does not: what acts is what was deployed, however it is run.
            terminated: Rows whose episode has ended, a bool or (n,).
            truncated: Rows whose episode was cut off, a bool or (n,); the same to the policy.
            action: The actions that were executed, where they differ from the predicted ones; the
                policy remembers these.
            resetting: Rows that the environment resets in its next step, whatever the action, a
                bool or (n,): gymnasium's autoreset mode NEXT_STEP. The next action of these is not
                remembered, and the next reward does not count.

        Raises:
            ValueError: A reward that is not finite, or a wrong shape. Nothing has changed then.

        Before the first `predict` there is nothing to report on, and the call does nothing.
        """
        with self._turn:
            session = self._session
            if session is None:
                return
            rows = len(session.starts)
            rewards = inputs.rewards(reward, rows)
            ends = inputs.flags(terminated, rows) | inputs.flags(truncated, rows)
            idle = inputs.flags(resetting, rows)
            if action is not None and session.actions is not None:
                space = self.spec.action_space
                session.remember(inputs.actions(action, space, rows, single=session.single))
            self._pay(session, rewards)
            session.starts |= ends
            session.wait(idle)

    def reset(self, target_return: ArrayLike | None = None) -> None:
        """Forget everything: context, clock, return-to-go, number of environments.

        Args:
            target_return: From now on, the return to ask for: a number, a word such as "p90" (see
                `returns.asked_for`), or a list of these, one for each environment.

        Raises:
            ValueError: The target is not finite, or no such word. Nothing has changed then.
        """
        if target_return is not None:
            self._target = inputs.target_return(target_return, self.spec.returns)
        self._session = None

    def wrap(self, env: E) -> E:
        """Wrap an environment so that its rewards and episode ends reach the policy by themselves.

        Args:
            env: A `gymnasium.Env`, a `gymnasium.vector.VectorEnv` of any autoreset mode, or a
                Stable-Baselines3 `VecEnv`. The rewards that it returns are those that lower the
                return-to-go, so they must be in the units of the training data.

        Returns:
            The environment in a wrapper of its own kind.

        Raises:
            TypeError: It is none of these.
            ValueError: Its spaces differ from the policy's, or it reports to a policy already.
        """
        return feedback.wrap(env, self, (self.observation_space, self.action_space))

    def fork(self, *, inference: Inference | None = None, seed: int | None = None) -> Self:
        """Make a policy with the same weights and targets and a fresh session of its own.

        Args:
            inference: Another way to remember; None keeps this one.
            seed: Seeds the fork's sampling.

        Raises:
            ValueError: There is no such way to remember, or the context is too short for it.
        """
        fork = copy.copy(self)
        fork.inference = self._checked(inference or self.inference)
        fork._rng = np.random.default_rng(seed)
        fork._session = None
        fork._turn = inputs.Turn()
        return fork

    def _checked(self, inference: Inference) -> Inference:
        return replace(self.spec, inference=inference).inference

    def _begin(self, rows: int) -> Session:
        """Start a session of n environments, all at the start of an episode."""
        if self._target.ndim and len(self._target) != rows:
            raise ValueError(
                f"target_return has {len(self._target)} values for {rows} environments; "
                "give one number, or one for each environment"
            )
        self.model.eval()  # before anything is compared with it
        context = make_context(self.model, rows, self.inference)
        return Session.begin(context, self.model.device, rows)

    def _pay(self, session: Session, rewards: NDArray[np.float64]) -> None:
        """Lower the returns-to-go by the rewards that followed the last actions."""
        if session.actions is None:
            return
        if session.any_idle:
            rewards = np.where(session.idle, 0.0, rewards)
        if self.spec.clip_rewards:
            rewards = np.clip(rewards, -1.0, 1.0)
        if self.spec.counts_down:
            session.returns_to_go -= rewards
        session.rewards += rewards
        session.paid[:] = True

    def _act(self, session: Session, batch: Tensor, deterministic: bool) -> NDArray[Any]:
        """Close the last step, open the next one, and choose its actions."""
        executed = None
        device = session.device
        seen = batch.to(device)
        if session.actions is not None:
            known = session.paid | session.starts
            if self.spec.counts_down and np.count_nonzero(known) < len(known):
                self._warn_held(session)
            rewards = torch.from_numpy(session.rewards.astype(np.float32))
            actions = inputs.action_tensor(session.actions)
            executed = Executed(actions.to(device), rewards.to(device))
            if self.spec.predicts_rewards:
                self._count_down(session, executed.action, seen)
            session.timesteps += 1
        clear = None
        fresh = session.starts & ~session.idle if session.any_idle else session.starts.copy()
        if np.count_nonzero(fresh):  # a quarter of the time that any() takes
            session.returns_to_go[fresh] = np.broadcast_to(self._target, fresh.shape)[fresh]
            session.timesteps[fresh] = 0
            if self.spec.memory == "episode" and executed is not None:
                clear = fresh
        step = Step(
            observations=seen,
            returns_to_go=torch.from_numpy(session.returns_to_go.astype(np.float32)).to(device),
            timesteps=torch.from_numpy(session.timesteps.copy()).to(device),
        )
        session.observations = seen
        if self.model.training:
            self.model.eval()
        idle = session.idle if session.any_idle else None
        prediction = session.context.advance(executed, clear, step, idle)
        parameters = prediction.action.float().cpu().numpy()
        if np.count_nonzero(np.isfinite(parameters)) < parameters.size:
            self._session = None  # the memory may hold what is not finite, so it must go
            raise ValueError(
                "the model's output is not finite: an observation, reward or target so far from "
                "the data overflows in the network. The session was reset; check the units"
            )
        chosen = self.model.head.act(parameters, deterministic, self._rng)
        session.acted(chosen.copy())
        if not session.single:
            return chosen
        box = isinstance(self.spec.action_space, spaces.Box)  # whose elements of no axis are arrays
        return chosen[0, ...] if box else chosen[0]

    @torch.inference_mode()
    def _count_down(self, session: Session, actions: Tensor, observations: Tensor) -> None:
        """Lower the returns-to-go by what the last actions have earned, as the model sees it."""
        assert session.observations is not None, "an action has been chosen upon them"
        earned = self.model.earned(session.observations, actions, observations)
        ended = session.starts | session.idle
        session.returns_to_go -= np.where(ended, 0.0, earned.double().cpu().numpy())

    def _warn_held(self, session: Session) -> None:
        if not session.warned:
            session.warned = True
            warnings.warn(
                "no reward was reported since the last action, so the return-to-go is held: use "
                "env = policy.wrap(env), or policy.observe(reward, terminated, truncated) after "
                "each step, or policy.predict(observation, reward=reward); an environment that "
                "another policy has wrapped reports to that one",
                UserWarning,
                stacklevel=4,  # the caller of predict
            )
