"""Evaluate a policy over vector environments, and say how sure the figures are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import ArrayLike, NDArray

from decision_policies.feedback import reports
from decision_policies.inputs import check_same_space
from decision_policies.policy import SequencePolicy


class HasPolicy(Protocol):
    """An algorithm: what holds a policy."""

    policy: SequencePolicy | None


@dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of evaluated episodes, in the order of their seeds.

    Attributes:
        returns: Undiscounted return of each episode, (n,).
        lengths: Steps of each episode, (n,).
        seeds: Seed of each episode, (n,).
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    seeds: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes."""
        return float(self.returns.std())

    def __str__(self) -> str:
        """Say mean and deviation."""
        return f"{self.mean:.1f} +/- {self.std:.1f} over {len(self.returns)} episodes"


def evaluate_policy(  # noqa: PLR0913 - the field's own tail of options
    policy: SequencePolicy | HasPolicy,
    env: str | Callable[[], gym.Env[Any, Any]],
    n_eval_episodes: int = 10,
    *,
    target_return: float | str | None = None,
    seed: int = 0,
    n_envs: int = 10,
    deterministic: bool = True,
    asynchronous: bool = False,
    on_episode: Callable[[], None] | None = None,
) -> Evaluation:
    """Run episodes in parallel environments and collect their returns.

    Episode i starts from `env.reset(seed=seed + i)` whatever the number of environments; an
    environment that has no episode left stands still and does no harm to the others. The policy
    that is passed keeps its session; the evaluation runs in a fork of it.

    Args:
        policy: The policy, or an algorithm that has one.
        env: Id of a registered environment, or a function that makes one.
        n_eval_episodes: Number of episodes.
        target_return: The return to ask for, a number or a word such as "p90"; None is the policy's
            own.
        seed: Seed of the first episode.
        n_envs: Environments that are stepped together.
        deterministic: Take the likeliest action rather than sample.
        asynchronous: Step each environment in a process of its own.
        on_episode: Called after each finished episode, for a progress bar.

    Returns:
        Returns and lengths, in the order of the seeds.

    Raises:
        TypeError: The environment is neither an id nor a function.
        ValueError: Fewer than one episode or environment, a target that is not finite, an
            environment that reports to a policy already, or other spaces than the policy's.
    """
    if n_eval_episodes < 1 or n_envs < 1:
        raise ValueError(
            f"n_eval_episodes and n_envs must be at least 1, got {n_eval_episodes} and {n_envs}"
        )
    if not (isinstance(env, str) or callable(env)):
        raise TypeError(
            f"env must be a registered id or a function that makes an environment, since several "
            f"run at once; got {type(env).__name__}: pass lambda: gym.make(...)"
        )
    actor = policy_of(policy).fork(seed=seed)
    actor.reset(target_return)
    rows = min(n_envs, n_eval_episodes)
    returns, lengths = np.zeros(n_eval_episodes), np.zeros(n_eval_episodes, np.int64)
    episode = np.arange(rows)  # the episode that each row plays
    make = (lambda: gym.make(env)) if isinstance(env, str) else env
    with vector_env([make] * rows, asynchronous=asynchronous) as envs:
        check_same_space(envs.single_observation_space, actor.observation_space, "observation")
        check_same_space(envs.single_action_space, actor.action_space, "action")
        observations, _ = envs.reset(seed=[seed + i for i in range(rows)])  # type: ignore[arg-type]
        starts, playing, waiting = np.ones(rows, bool), np.ones(rows, bool), rows
        while playing.any():
            actions, _ = actor.predict(observations, None, starts, deterministic)
            observations, rewards, terminated, truncated, _ = envs.step(actions)
            actor.observe(np.where(playing, rewards, 0.0))
            returns[episode[playing]] += rewards[playing]
            lengths[episode[playing]] += 1
            starts = np.asarray(terminated | truncated)
            for row in np.flatnonzero(starts & playing):
                playing[row] = waiting < n_eval_episodes
                if playing[row]:
                    episode[row], waiting = waiting, waiting + 1
                if on_episode is not None:
                    on_episode()
            if starts.any():  # rows without an episode restart too, and are not counted
                seeds = [
                    seed + int(e) if again else None
                    for e, again in zip(episode, starts, strict=True)
                ]
                options = {"reset_mask": starts}
                observations, _ = envs.reset(seed=seeds, options=options)  # type: ignore[arg-type]
    return Evaluation(returns, lengths, seed + np.arange(n_eval_episodes))


def normalized_score(
    returns: ArrayLike, reference_scores: tuple[float, float]
) -> NDArray[np.float64]:
    """Scale returns so that the two reference scores become 0 and 100, as D4RL does.

    Args:
        returns: Returns, any shape.
        reference_scores: Returns that count as 0 and 100: D4RL's own (random, expert), or
            `trajectories.source.reference_scores`, which a dataset may name for itself.

    Returns:
        100 (return - low) / (high - low). Minari's `get_normalized_score` is a hundredth of this.

    Raises:
        ValueError: The references are equal or not finite.
    """
    low, high = reference_scores
    if not np.isfinite([low, high]).all() or low == high:
        raise ValueError(f"reference scores must be finite and differ, got {reference_scores}")
    return 100 * (np.asarray(returns, np.float64) - low) / (high - low)


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all scores (the 25 % trimmed mean), whatever their shape.

    References:
        Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
        arXiv 2108.13264, section 4.3.
    """
    ordered = np.sort(np.asarray(scores, np.float64).reshape(-1))
    if not len(ordered):
        raise ValueError("got no scores")
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def bootstrap_interval(
    scores: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Stratified bootstrap interval of a statistic.

    Args:
        scores: (runs,) of one task, or (runs, tasks); runs are resampled within each task.
        statistic: Function of all the scores.
        confidence: Share of resampled statistics inside the interval.
        resamples: Number of resamples.
        seed: Seeds the resampling.

    Returns:
        Lower and upper end (percentile method).

    References:
        Agarwal et al., arXiv 2108.13264, section 4.1.
    """
    table = np.asarray(scores, np.float64)
    if not table.size or table.ndim > 2 or not 0 < confidence < 1:
        raise ValueError(
            f"expected scores (runs,) or (runs, tasks) and a confidence between 0 and 1, got "
            f"shape {table.shape} and {confidence}"
        )
    table = table.reshape(len(table), -1)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(table), size=(resamples, *table.shape))
    values = [statistic(np.take_along_axis(table, index, 0)) for index in drawn]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def policy_of(subject: SequencePolicy | HasPolicy) -> SequencePolicy:
    """Take the policy out of an algorithm, or a policy as it is.

    Raises:
        TypeError: It is neither.
        ValueError: The algorithm has no policy yet.
    """
    if isinstance(subject, SequencePolicy):
        return subject
    if not hasattr(subject, "policy"):
        raise TypeError(f"expected a policy or an algorithm, got {type(subject).__name__}")
    if subject.policy is None:
        raise ValueError(
            f"this {type(subject).__name__} has no policy yet: call learn first, or load one"
        )
    return subject.policy


@contextmanager
def vector_env(
    makes: Sequence[Callable[[], gym.Env[Any, Any]]], *, asynchronous: bool = False
) -> Iterator[VectorEnv[Any, Any, Any]]:
    """Step environments together; nothing is reset of itself, and all are closed in the end.

    Args:
        makes: A function for each row that makes its environment.
        asynchronous: Step each environment in a process of its own.

    Raises:
        ValueError: They report to a policy, which is not the fork that is evaluated.
    """
    kind = AsyncVectorEnv if asynchronous else SyncVectorEnv
    envs = kind(makes, autoreset_mode=AutoresetMode.DISABLED)
    try:
        if reports(envs):
            raise ValueError(
                "the environment was wrapped by a policy, which would hear of every reward of an "
                "evaluation that is not its own: pass the environment as it was made"
            )
        yield envs
    finally:
        envs.close()
