"""register: make the environments of this package known to gymnasium by their ids."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

DARKROOM = "decision_policies.envs.darkroom:DarkroomEnv"
KEY_TO_DOOR = "decision_policies.envs.key_to_door:KeyToDoorEnv"
TMAZE = "decision_policies.envs.tmaze:TMazeEnv"
# A large room has 20 times the cells, 40 x 40 for 9 x 9, and 10 times the steps (DM-H).
LARGE = {"size": 40, "horizon": 200}

ENVIRONMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "Darkroom-v0": (DARKROOM, {}),
    "DarkroomHard-v0": (DARKROOM, {"size": 17, "hard": True}),
    "DarkroomDynamic-v0": (DARKROOM, {"permuted": True}),
    "DarkKeyToDoor-v0": (KEY_TO_DOOR, {}),
    "LargeDarkroom-v0": (DARKROOM, LARGE),
    "LargeDarkroomHard-v0": (DARKROOM, {**LARGE, "hard": True}),
    "LargeDarkroomDynamic-v0": (DARKROOM, {**LARGE, "permuted": True}),
    "LargeDarkKeyToDoor-v0": (KEY_TO_DOOR, {"size": 40, "horizon": 500}),
    "PassiveTMaze-v0": (TMAZE, {}),
}
"""Entry point and arguments of each id; `gymnasium.make(id, ...)` takes others."""


def register() -> None:
    """Register every id that gymnasium does not know yet; importing `decision_policies.envs` does.

    `gymnasium.make("decision_policies.envs:Darkroom-v0")` imports it as well.
    """
    for name, (entry_point, arguments) in ENVIRONMENTS.items():
        if name not in gym.registry:
            gym.register(name, entry_point, kwargs=dict(arguments))
