"""Whole episodes as windows to look at: a logged one, or one that a policy has just played."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from decision_policies import inputs
from decision_policies.batch import Window
from decision_policies.data.trajectories import Trajectories
from decision_policies.evaluation import HasPolicy, policy_of
from decision_policies.policy import SequencePolicy
from decision_policies.spec import ReturnMode


def logged_episode(data: Trajectories, index: int, return_mode: ReturnMode = "decrement") -> Window:
    """Take one episode of the data as a window (1, T) of all its steps.

    Args:
        data: The trajectories.
        index: Number of the episode, negative from the end.
        return_mode: What its steps ask for; a policy's is `policy.spec.return_mode`.

    Raises:
        IndexError: There is no such episode.
    """
    if not -data.n_episodes <= index < data.n_episodes:
        raise IndexError(f"there is no episode {index}: the data has {data.n_episodes}")
    index %= data.n_episodes
    rows = slice(data.offsets[index], data.offsets[index + 1])
    one = replace(  # stacks of frames are then made of this episode's only
        data,
        rows=data.rows[rows],
        images=None if data.images is None else data.images[rows],
        offsets=np.array([0, rows.stop - rows.start]),
    )
    returns = one.returns_to_go
    if return_mode == "constant":
        returns = np.broadcast_to(returns[:1], returns.shape)
    columns = (one.observations, one.actions, one.rewards, returns)
    return _window(*(torch.tensor(column) for column in columns))


def played_episode(
    policy: SequencePolicy | HasPolicy,
    env: gym.Env[Any, Any],
    *,
    target_return: float | str | None = None,
    seed: int | None = None,
    max_steps: int | None = None,
) -> Window:
    """Let a policy play one episode, and keep what it was conditioned on.

    It plays in a fork; the policy keeps its session. The returns-to-go are what was asked for at
    each step, not the returns that came about; the rewards are the environment's own.

    Args:
        policy: The policy, or an algorithm that has one.
        env: A single environment; it is reset, and not closed.
        target_return: The return to ask for, a number or a word such as "p90"; None is the policy's
            own.
        seed: Seeds the environment's reset; None does not seed it.
        max_steps: End the episode after this many steps; None leaves it to the environment.

    Returns:
        A window (1, T) of all its steps.
    """
    actor = policy_of(policy).fork()
    actor.reset(target_return)
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards, returns = [], [], [], []
    done = False
    while not done:
        action, _ = actor.predict(observation)
        asked = actor.returns_to_go
        assert asked is not None
        observations.append(inputs.observation(observation, actor.observation_space)[0])
        actions.append(inputs.action_tensor(np.asarray(action)[None]))
        returns.append(float(asked[0]))
        observation, reward, terminated, truncated, _ = env.step(action)
        rewards.append(float(reward))
        actor.observe(rewards[-1], terminated, truncated)
        done = terminated or truncated or len(rewards) == max_steps
    return _window(
        torch.cat(observations), torch.cat(actions), torch.tensor(rewards), torch.tensor(returns)
    )


def _window(observations: Tensor, actions: Tensor, rewards: Tensor, returns: Tensor) -> Window:
    """Give the columns of one episode, (T, ...), a batch axis, and count its steps."""
    steps = len(rewards)
    return Window(
        observations=observations[None],
        actions=actions[None],
        rewards=rewards[None].float(),
        returns_to_go=returns[None].float(),
        timesteps=torch.arange(steps)[None],
        mask=torch.ones(1, steps, dtype=torch.bool),
        starts=torch.ones(1, dtype=torch.bool),
    )
