"""Take over a Decision Transformer of the transformers library, compare both, and act with it."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import RescaleAction

from decision_policies.convert import Task, dt_from_transformers

try:
    from transformers import DecisionTransformerConfig, DecisionTransformerModel
except ImportError as missing:
    raise SystemExit("the model to compare with needs: pip install transformers") from missing

STEPS, SCALE, TARGET = 20, 100.0, -200.0
torch.set_num_threads(1)  # so small a model gains nothing from more
torch.manual_seed(0)

# A random model; a trained one is DecisionTransformerModel.from_pretrained(folder), or the folder.
config = DecisionTransformerConfig(
    state_dim=3, act_dim=1, hidden_size=64, n_head=4, bos_token_id=None, eos_token_id=None
)
original = DecisionTransformerModel(config).train(False)

low, high = np.float32(-1), np.float32(1)  # the weights act in [-1, 1]
pendulum = RescaleAction(gym.make("Pendulum-v1"), low, high)
mean, std = np.array([0.0, 0.0, 0.0]), np.array([0.7, 0.7, 3.0])  # of the data it learnt from
task = Task(
    pendulum.observation_space,
    pendulum.action_space,
    context_length=STEPS,
    return_scale=SCALE,
    target_return=TARGET,
    observation_mean=mean,
    observation_std=std,
)
model = dt_from_transformers(original, task)

env = model.wrap(pendulum)  # rewards reach the policy by themselves
states, actions, returns, error = [], [], [TARGET], 0.0
observation = env.reset(seed=0)[0]
for step in range(100):
    action = model.predict(observation)[0]
    states.append((observation - mean) / std)
    actions.append(action)
    first = max(0, step - STEPS + 1)  # the original sees the last steps, in its own units
    with torch.no_grad():
        expected = original(
            states=torch.tensor(np.array(states[first:]), dtype=torch.float32)[None],
            actions=torch.tensor(np.array(actions[first:]))[None],
            returns_to_go=torch.tensor(returns[first:])[None, :, None] / SCALE,
            timesteps=torch.arange(first, step + 1)[None],
        ).action_preds[0, -1]
    error = max(error, float(np.abs(action - expected.numpy()).max()))
    observation, reward = env.step(action)[:2]
    returns.append(returns[-1] - float(reward))

print(f"100 actions from {min(actions).item():.2f} to {max(actions).item():.2f}")
print(f"largest difference from the original: {error:.0e}")
