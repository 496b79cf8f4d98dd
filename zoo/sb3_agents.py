"""Stable-Baselines3 agents: trained on the spot, with snapshots, or loaded from a zip."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.preprocessing import is_image_space

from zoo.progress import Tick, progress_bar

Algorithm: TypeAlias = type[sb3.A2C | sb3.DDPG | sb3.DQN | sb3.PPO | sb3.SAC | sb3.TD3]
ALGORITHMS: dict[str, Algorithm] = {
    "a2c": sb3.A2C,
    "ddpg": sb3.DDPG,
    "dqn": sb3.DQN,
    "ppo": sb3.PPO,
    "sac": sb3.SAC,
    "td3": sb3.TD3,
}

Env: TypeAlias = gym.Env[Any, Any]
Weights: TypeAlias = dict[str, torch.Tensor]
Stage: TypeAlias = tuple[int, Weights]
"""Environment steps an agent was trained for, and the weights of its policy then."""

# What SB3 raises when algorithm, zip and environment do not fit one another.
MISFIT = (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError)


def algorithm_class(name: str) -> Algorithm:
    """The class of a name in `ALGORITHMS`; `ValueError` names the known ones."""
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}; known are {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]


def agent_zip(path: Path) -> Path:
    """The path of an agent's zip, with the suffix that Stable-Baselines3 adds when it is missing.

    Raises:
        FileNotFoundError: when there is no such file.
    """
    path = path if path.suffix else path.with_suffix(".zip")
    if not path.is_file():
        raise FileNotFoundError(f"no agent at {path}; give the zip that the agent's save() wrote")
    return path


def load_agent(name: str, path: Path, env: Env) -> tuple[BaseAlgorithm, list[Stage]]:
    """Loads an agent that Stable-Baselines3 saved.

    Such a zip contains pickles, which run code when they are read: load only agents you trust.

    Args:
        name: a key of `ALGORITHMS`.
        path: the zip.
        env: the environment it has to fit.

    Returns:
        The agent and its one stage.

    Raises:
        FileNotFoundError: when there is no such zip.
        ValueError: when algorithm, zip and environment do not fit together.
    """
    kind, path = algorithm_class(name), agent_zip(path)
    try:
        agent = kind.load(path, env=env, device="cpu")
    except MISFIT as error:
        raise ValueError(f"{path} is not a {name} agent for this environment: {error}") from error
    return agent, [(agent.num_timesteps, weights(agent))]


def train_agent(
    name: str, env: Env, train_steps: int, snapshots: int, seed: int, *, progress: bool = False
) -> tuple[BaseAlgorithm, list[Stage]]:
    """Trains an agent with the default settings of Stable-Baselines3.

    Args:
        name: a key of `ALGORITHMS`.
        env: the environment to train in.
        train_steps: environment steps; an on-policy algorithm completes its last rollout.
        snapshots: stages to keep, evenly spaced, the final agent included.
        seed: of the agent and the environment; also re-seeds the global generators.
        progress: show a progress bar.

    Returns:
        The agent, and its stages in the order of training.

    Raises:
        ValueError: when the algorithm does not fit the environment's spaces.
    """
    kind = algorithm_class(name)
    try:
        agent = kind(_policy_name(env), env, seed=seed, device="cpu")
    except MISFIT as error:
        raise ValueError(f"{name} cannot learn this environment: {error}") from error
    with progress_bar("training", train_steps, progress) as tick:
        callback = _Snapshots(train_steps, snapshots, tick)
        agent.learn(train_steps, callback=callback)
    return agent, [*callback.stages, (agent.num_timesteps, weights(agent))]


def weights(agent: BaseAlgorithm) -> Weights:
    """A copy of the weights an agent acts with."""
    return copy.deepcopy(agent.policy.state_dict())


class _Snapshots(BaseCallback):
    """Copies the policy's weights evenly during training, the final ones excepted."""

    def __init__(self, train_steps: int, snapshots: int, tick: Tick) -> None:
        super().__init__()
        self.due = [train_steps * i // snapshots for i in range(1, snapshots)]
        self.stages: list[Stage] = []
        self.tick = tick

    def _on_step(self) -> bool:
        self.tick(1)
        if self.due and self.num_timesteps >= self.due[0]:
            self.due.pop(0)
            self.stages.append((self.num_timesteps, weights(self.model)))
        return True


def _policy_name(env: Env) -> str:
    """The standard policy of Stable-Baselines3 for an environment's observations."""
    if isinstance(env.observation_space, gym.spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(env.observation_space) else "MlpPolicy"
