"""Learn to reach goals from scripted episodes of an environment whose observations are a Dict."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict

from decision_policies import DeMa, Trajectories, evaluate_policy


class Room(gym.Env[dict[str, Any], Any]):
    """A ball that rolls through a square room; the reward is 1 at the goal, else 0."""

    observation_space = Dict({name: Box(-9, 9, (2,)) for name in ("ball", "speed", "desired_goal")})
    action_space = Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Put ball and goal anywhere."""
        super().reset(seed=seed)
        ball, goal = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        self.now = {"ball": ball, "speed": np.zeros(2, np.float32), "desired_goal": goal}
        self.left = 40
        return self.now, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Push the ball."""
        speed = np.float32(0.8) * self.now["speed"] + np.float32(0.1) * np.clip(action, -1, 1)
        ball, goal = np.clip(self.now["ball"] + speed, -1, 1), self.now["desired_goal"].copy()
        self.now = {"ball": ball, "speed": speed, "desired_goal": goal}
        self.left -= 1
        there = bool(np.abs(ball - goal).max() < 0.1 and np.abs(speed).max() < 0.1)
        return self.now, float(there), there, self.left == 0, {}


def scripted_episode(env: Room, seed: int) -> dict[str, list[Any]]:
    """Steer to the goal, with some noise: T + 1 observations, T actions and T rewards."""
    rng, done = np.random.default_rng(seed), False
    log: dict[str, list[Any]] = {"observations": [env.reset(seed=seed)[0]], "actions": []}
    log["rewards"] = []
    while not done:
        now = log["observations"][-1]
        push = 3 * (now["desired_goal"] - now["ball"]) - 6 * now["speed"] + rng.normal(0, 0.3, 2)
        log["actions"].append(np.clip(push, -1, 1).astype(np.float32))
        observation, reward, terminated, truncated, _ = env.step(log["actions"][-1])
        log["observations"].append(observation)
        log["rewards"].append(reward)
        done = terminated or truncated
    return log


torch.set_num_threads(1)
episodes = [scripted_episode(Room(), seed) for seed in range(200)]
data = Trajectories.from_episodes(episodes, Room.observation_space, Room.action_space)
print(f"script: {data.returns.mean():.0%} of the goals reached, {data.lengths.mean():.0f} steps")
model = DeMa(d_model=32, context_length=8, learning_rate="lin_3e-3", warmup_steps=20, seed=0)
model.learn(data, total_timesteps=200, progress_bar=True)
result = evaluate_policy(model, Room, 100, seed=1000)
print(f"policy: {result.mean:.0%} of new goals reached, {result.lengths.mean():.0f} steps")
