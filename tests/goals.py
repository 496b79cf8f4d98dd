"""Dict observations for tests: a space with every kind of entry, and a tiny goal environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


def vector(*shape: int, dtype: type[np.floating[Any]] = np.float64) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, dtype)


def parts(dtype: type[np.floating[Any]] = np.float64) -> dict[str, spaces.Space[Any]]:
    """Entries of every supported kind, out of order, as a user would write them."""
    return {
        "desired_goal": vector(2, dtype=dtype),
        "agent": spaces.Dict(
            {"pose": vector(2, 2, dtype=dtype), "gear": spaces.Discrete(3, start=4)}
        ),
        "clock": spaces.Box(0, 100, (), np.int64),
    }


SPACE = spaces.Dict(parts())


def sample(n: int, seed: int = 0) -> dict[str, Any]:
    """Draw n observations, a mapping of arrays."""
    rng = np.random.default_rng(seed)
    return {
        "clock": rng.integers(0, 100, n),
        "agent": {"pose": rng.normal(size=(n, 2, 2)), "gear": rng.integers(4, 7, n)},
        "desired_goal": rng.normal(size=(n, 2)),
    }


def at(observations: Mapping[str, Any], index: Any) -> dict[str, Any]:
    """Take one observation, or some, out of a mapping of arrays."""
    return {
        key: at(value, index) if isinstance(value, Mapping) else value[index]
        for key, value in observations.items()
    }


def episodes(seed: int = 0, lengths: tuple[int, ...] = (9, 5, 12)) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "observations": sample(t + 1, seed + t),
            "actions": rng.uniform(-1, 1, (t, 2)),
            "rewards": rng.normal(size=t),
        }
        for t in lengths
    ]


class Goal(gym.Env[Any, NDArray[np.float32]]):
    """A point that has to be near its goal; its id does not say how near."""

    def __init__(self, near: float = 0.3) -> None:
        self.near = near
        names = ("observation", "achieved_goal", "desired_goal")
        self.observation_space = spaces.Dict({name: vector(2) for name in names})
        self.action_space = spaces.Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        self.steps = 0
        return self._observation(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = self.place + 0.25 * np.clip(action, -1, 1)
        self.steps += 1
        there = bool(np.linalg.norm(self.goal - self.place) < self.near)
        return self._observation(), float(there), there, self.steps == 12, {}

    def _observation(self) -> dict[str, NDArray[np.float64]]:
        place, goal = self.place.copy(), self.goal.copy()
        return {"observation": place, "achieved_goal": place.copy(), "desired_goal": goal}


def scripted(n: int) -> list[dict[str, Any]]:
    """Play towards the goal, collecting a list of mappings as a loop does."""
    env, played = Goal(), []
    for seed in range(n):
        observation, _ = env.reset(seed=seed)
        episode: dict[str, Any] = {"observations": [observation], "actions": [], "rewards": []}
        done = False
        while not done:
            towards = 4 * (observation["desired_goal"] - observation["achieved_goal"])
            action = np.clip(towards, -1, 1).astype(np.float32)
            observation, reward, terminated, truncated, _ = env.step(action)
            episode["observations"].append(observation)
            episode["actions"].append(action)
            episode["rewards"].append(reward)
            done = terminated or truncated
        played.append(episode)
    return played
