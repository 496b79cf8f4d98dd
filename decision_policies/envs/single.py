"""SingleEnv: one world of a simulator as a gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from decision_policies.envs.simulator import GLYPHS, Simulator, Task

COLOURS = np.array(
    [
        (60, 60, 60),
        (236, 236, 236),
        (90, 170, 90),
        (220, 180, 60),
        (150, 100, 60),
        (60, 100, 200),
        (40, 150, 170),
    ],
    np.uint8,
)
"""Red, green and blue of each code of `Simulator.picture`, (7, 3)."""
LARGEST_PICTURE = 1024
CELL = 24


class SingleEnv(gym.Env[Any, np.int64]):
    """A `Simulator` of one world; all that is known of the dynamics is there.

    A task that is given stays for good. Otherwise the first reset draws one, and so does every
    reset with a seed; a reset without seed keeps it, as in-context learners need, except where the
    family says that tasks change with the episode (`Simulator.redraws`). `reset(options={"task":
    ...})` sets it. `info["task"]` is its number.

    Args:
        simulator: The world.
        task: Its number, or its description, such as `{"goal": (3, 8)}`.
        render_mode: "rgb_array", "ansi" or None.

    Raises:
        ValueError: There is no such task or render mode.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - as gymnasium declares it
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 8,
    }

    def __init__(self, simulator: Simulator, task: Task | None, render_mode: str | None) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ValueError(f"render_mode must be one of {modes} or None, got {render_mode!r}")
        self.simulator = simulator
        self.observation_space = simulator.observation_space
        self.action_space = simulator.action_space
        self.render_mode = render_mode
        self._given = None if task is None else simulator.task_of(task)
        self._task = self._given

    @property
    def optimal_return(self) -> float:
        """Largest return that can still be had; right after a reset, that of the episode."""
        return float(self.simulator.optimal_returns()[0])

    @property
    def optimal_action(self) -> int:
        """An action of a policy that knows the task."""
        return int(self.simulator.optimal_actions(self.np_random)[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; see `gymnasium.Env.reset`, and above for the task."""
        super().reset(seed=seed)
        if options is not None and options.get("task") is not None:
            self._task = self.simulator.task_of(options["task"])
        elif self._given is not None:
            self._task = self._given
        elif self._task is None or seed is not None or self.simulator.redraws:
            self._task = int(self.np_random.integers(self.simulator.n_tasks))
        self.simulator.set_tasks([self._task])
        return self.simulator.reset(self.np_random)[0], {"task": self._task}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step; see `gymnasium.Env.step`."""
        observations, rewards = self.simulator.step(np.asarray(action)[None])
        ended, terminates = self.simulator.ended, self.simulator.terminates
        flags = (ended and terminates, ended and not terminates)
        return observations[0], float(rewards[0]), *flags, {"task": self._task}

    def render(self) -> NDArray[np.uint8] | str | None:
        """Draw the world: (H, W, 3) uint8, or a line of letters for each row."""
        if self.render_mode is None:
            return None
        picture = self.simulator.picture(0)
        if self.render_mode == "ansi":
            return "\n".join("".join(GLYPHS[code] for code in row) for row in picture)
        pixels = max(1, min(CELL, LARGEST_PICTURE // max(picture.shape)))
        return np.asarray(COLOURS[picture].repeat(pixels, 0).repeat(pixels, 1))
