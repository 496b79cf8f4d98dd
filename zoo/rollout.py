"""Rolls the stages of an agent out, block by block, into complete episodes."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from minari.data_collector import EpisodeBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed

from zoo.progress import progress_bar
from zoo.sb3_agents import Env, Stage, Weights

Arrays: TypeAlias = npt.NDArray[Any] | dict[str, Any]
"""One sample or a stack of samples of a space: an array, or a dict of such for a Dict space."""

Policy: TypeAlias = Callable[[Arrays], Arrays]
Summary: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Behaviour:
    """One block of a dataset: an agent at one stage of training, and how often it is ignored.

    Attributes:
        name: for people, such as `ppo after 4000 steps, epsilon 0.3`.
        epsilon: probability of a random action at each step.
        weights: of the agent's policy; `None` only where epsilon is 1.
    """

    name: str
    epsilon: float
    weights: Weights | None


def behaviours(algorithm: str, stages: list[Stage], epsilons: Sequence[float]) -> list[Behaviour]:
    """The blocks of a dataset, weakest first: random, then by training, then by epsilon.

    Args:
        algorithm: the agent's, for the blocks' names.
        stages: of the agent, in the order of training.
        epsilons: probabilities of a random action, in any order.

    Returns:
        The random policy if 1 is among the epsilons, then one behaviour per stage and epsilon
        below 1.
    """
    descending = sorted(set(epsilons), reverse=True)
    blocks = [Behaviour("random", 1.0, None)] if 1.0 in descending else []
    for trained, weights in stages:
        for epsilon in descending:
            if epsilon < 1.0:
                name = f"{algorithm} after {trained} steps, epsilon {epsilon:g}"
                blocks.append(Behaviour(name, epsilon, weights))
    return blocks


def play_blocks(
    agent: BaseAlgorithm,
    blocks: list[Behaviour],
    env: Env,
    steps: int,
    seed: int,
    *,
    progress: bool = False,
) -> tuple[list[EpisodeBuffer], list[Summary]]:
    """Plays whole episodes until the steps are spent.

    The blocks take turns, an episode each. Sharing the steps instead would give the weakest block,
    whose episodes are the shortest, most of the episodes, and leave few with a high return.

    Args:
        agent: its policy's weights are replaced by those of the blocks.
        blocks: what to play.
        env: where to play.
        steps: environment steps; more where the blocks' first episodes or the last one need it.
        seed: of the environment, the agent's sampling and the random actions.
        progress: show a progress bar.

    Returns:
        The episodes, block after block, and a summary of each block in JSON types.
    """
    set_random_seed(seed)
    env.action_space.seed(seed)
    rng = np.random.default_rng(seed)
    episodes: list[list[EpisodeBuffer]] = [[] for _ in blocks]
    turns = itertools.cycle(zip(blocks, episodes, strict=True))
    played = 0
    with progress_bar("rolling out", steps, progress) as tick:
        while played < steps or not episodes[-1]:
            block, own = next(turns)
            policy = _policy(agent, block, env, rng)
            own.append(play_episode(env, policy, int(rng.integers(2**31)), limit=steps))
            played += len(own[-1])
            tick(len(own[-1]))
    summaries = [_summary(block.name, own) for block, own in zip(blocks, episodes, strict=True)]
    return [episode for own in episodes for episode in own], summaries


def _policy(agent: BaseAlgorithm, block: Behaviour, env: Env, rng: np.random.Generator) -> Policy:
    """A block's policy: the agent's sampled action, or a random one with probability epsilon."""
    if block.weights is not None:
        agent.policy.load_state_dict(block.weights)

    def act(observation: Arrays) -> Arrays:
        if rng.random() < block.epsilon:
            sample: Arrays = env.action_space.sample()
            return sample
        return agent.predict(observation)[0]

    return act


def play_episode(env: Env, act: Policy, seed: int, *, limit: int) -> EpisodeBuffer:
    """Plays one episode to its end.

    Args:
        env: a Gymnasium environment.
        act: maps an observation to an action.
        seed: of the environment's reset; recorded with the episode.
        limit: environment steps after which an episode without an end is truncated.

    Returns:
        Observations [T+1, ...] (a dict of such arrays for a Dict space), actions [T, ...], rewards
        [T] as float64, terminations [T] and truncations [T] as bool.
    """
    observation, _ = env.reset(seed=seed)
    # Copies: an environment may return the same array, changed in place, at every step.
    observations, actions = [copy.deepcopy(observation)], []
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated):
        action = act(observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(copy.deepcopy(observation))
        actions.append(action)
        rewards.append(float(reward))
        truncated = truncated or (len(rewards) >= limit and not terminated)
    ends = np.zeros((2, len(rewards)), dtype=np.bool_)
    ends[:, -1] = terminated, truncated
    return EpisodeBuffer(
        seed=seed,
        observations=_stack(env.observation_space, observations),
        actions=_stack(env.action_space, actions),
        rewards=np.asarray(rewards, dtype=np.float64),
        terminations=ends[0],
        truncations=ends[1],
    )


def _stack(space: gym.Space[Any], items: list[Any]) -> Arrays:
    """Stacks samples of a space along a new first axis, in the space's own type."""
    if isinstance(space, gym.spaces.Dict):
        return {key: _stack(part, [item[key] for item in items]) for key, part in space.items()}
    return np.asarray(items, dtype=space.dtype)


def _summary(name: str, episodes: list[EpisodeBuffer]) -> Summary:
    """What a block did, in JSON types."""
    returns = [float(np.sum(episode.rewards)) for episode in episodes]
    return {
        "behaviour": name,
        "episodes": len(returns),
        "return_mean": round(float(np.mean(returns)), 2),
        "return_min": min(returns),
        "return_max": max(returns),
    }


def reference_scores(
    agent: BaseAlgorithm, env: Env, episodes: int, seed: int, *, limit: int, progress: bool = False
) -> tuple[float, float]:
    """Mean returns of the random policy and of an agent that acts deterministically.

    Args:
        agent: acts with the weights that it has now.
        env: where to play.
        episodes: per policy.
        seed: of the first episode; the next ones count up.
        limit: environment steps after which an episode without an end is truncated.
        progress: show a progress bar.

    Returns:
        The random policy's and the agent's mean return.
    """
    policies: tuple[Policy, Policy] = (
        lambda observation: env.action_space.sample(),
        lambda observation: agent.predict(observation, deterministic=True)[0],
    )
    means: list[float] = []
    with progress_bar("reference scores", 2 * episodes, progress) as tick:
        for policy in policies:
            returns = []
            for episode in range(episodes):
                buffer = play_episode(env, policy, seed + episode, limit=limit)
                returns.append(float(np.sum(buffer.rewards)))
                tick(1)
            means.append(round(float(np.mean(returns)), 4))
    return means[0], means[1]
