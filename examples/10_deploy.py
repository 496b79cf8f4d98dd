"""Act with an exported policy by onnxruntime and numpy alone: python examples/10_deploy.py FILE."""

import json
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


class ExportedPolicy:
    """What `export_step` wrote, with the little that must be remembered between two calls."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path)
        self.inputs = {entry.name: entry for entry in self.session.get_inputs()}
        about = self.session.get_modelmeta().custom_metadata_map["decision_policies"]
        self.about = json.loads(about)
        self.reset(self.about["target_return"])

    def reset(self, target_return: float) -> None:
        """Begin an episode, and ask for a return."""
        self.return_to_go, self.timestep = target_return, 0
        self.last = [self.zeros(name) for name in list(self.inputs)[3:]]

    def zeros(self, name: str) -> Any:
        """Make zeros of an input's shape and type."""
        return np.zeros(self.inputs[name].shape, TYPES[self.inputs[name].type])

    def predict(self, observation: Any, reward: float = 0.0) -> Any:
        """Choose the next action; the reward is that of the last one."""
        if self.about["clip_rewards"]:
            reward = min(max(reward, -1.0), 1.0)
        if self.about["counts_down"]:
            self.return_to_go -= reward
        self.last[1] = np.array([reward], np.float32)
        observation = np.asarray(observation, TYPES[self.inputs["observation"].type])[None]
        now = [observation, np.array([self.return_to_go], np.float32), np.array([self.timestep])]
        given = dict(zip(self.inputs, now + self.last, strict=True))
        action, _, *state = self.session.run(None, given)
        self.last = [action, self.last[1], *state]
        self.timestep += 1
        return action[0]


policy = ExportedPolicy(sys.argv[1])
env = gym.make("CartPole-v1")
for target in (100.0, 200.0, 500.0):
    policy.reset(target)
    observation, _ = env.reset(seed=0)
    reward, obtained, done = 0.0, 0.0, False
    while not done:
        action = policy.predict(observation, reward)
        observation, earned, terminated, truncated, _ = env.step(action)
        reward, done = float(earned), terminated or truncated
        obtained += reward
    print(f"asked for {target:.0f}, obtained {obtained:.0f}")
