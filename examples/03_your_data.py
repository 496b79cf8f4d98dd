"""Train on episodes of your own, here of random play, and act in a plain gymnasium loop."""

from typing import Any

import gymnasium as gym
import torch

from decision_policies import DeMa, Trajectories


def play_at_random(env: gym.Env[Any, Any], episodes: int) -> list[dict[str, list[Any]]]:
    """Log episodes of T + 1 observations, T actions and T rewards each."""
    logged = []
    env.action_space.seed(0)
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        episode: dict[str, list[Any]] = {
            "observations": [observation],
            "actions": [],
            "rewards": [],
        }
        done = False
        while not done:
            action = env.action_space.sample()
            observation, reward, terminated, truncated, _ = env.step(action)
            episode["observations"].append(observation)
            episode["actions"].append(action)
            episode["rewards"].append(reward)
            done = terminated or truncated
        logged.append(episode)
    return logged


torch.set_num_threads(1)
env = gym.make("CartPole-v1")
data = Trajectories.from_episodes(play_at_random(env, 300), env.observation_space, env.action_space)
print(f"random play: {data.returns.mean():.0f} on average, {data.returns.max():.0f} at best")

model = DeMa(d_model=32, context_length=10, learning_rate=1e-3, warmup_steps=20, seed=0)
model.learn(data, total_timesteps=300, progress_bar=True)

env = model.wrap(env)  # reports rewards and the ends of episodes to the policy
for target in (20, 60, 100):
    model.reset(target_return=target)
    returns = []
    for seed in range(1000, 1010):
        observation, info = env.reset(seed=seed)
        done, total = False, 0.0
        while not done:
            action, _ = model.predict(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            total += float(reward)
            done = terminated or truncated
        returns.append(total)
    print(f"asked for {target}, obtained {sum(returns) / len(returns):.0f} on average")
