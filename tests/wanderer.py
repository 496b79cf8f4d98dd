"""An environment of short episodes in which everything follows from the seed and the actions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


class Wanderer(gym.Env[NDArray[np.float64], NDArray[np.float32]]):
    """Goes where its actions push it, and remembers; episodes of 1 to 9 steps.

    Its spaces are those of the laws' kind "box-box". Rewards are exact in single precision, the
    precision of Stable-Baselines3's vector environments.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Box(np.array([-2.0, -1.0], np.float32), np.array([3.0, 1.0], np.float32))
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - gymnasium's way

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Begin somewhere; without a seed, where the last episode's random numbers lead."""
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 10))
        self.place = self.np_random.normal(size=3)
        return self.place.copy(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Drift, pushed by the action; the last step ends or cuts off the episode, by its place."""
        self.left -= 1
        push = np.array([action[0], action[1], action[0] * action[1]], np.float64)
        self.place = 0.5 * self.place + 0.1 * push + 0.3 * self.np_random.normal(size=3)
        reward = float(np.float32(self.place.sum()))
        ends, high = self.left == 0, bool(self.place[0] > 0)
        return self.place.copy(), reward, ends and high, ends and not high, {}

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """Draw a picture whose brightness is the number of steps left."""
        return np.full((4, 4, 3), self.left, np.uint8)
