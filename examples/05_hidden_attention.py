"""Train DeMa on logged CartPole episodes and look into it: what does a decision draw on?"""

import argparse
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

from decision_policies import DeMa, Trajectories
from decision_policies.analysis import (
    activation_norms,
    attention_matrices,
    attention_rollout,
    decay_curve,
    decision_surface,
    draw_decay,
    draw_norms,
    draw_rollout,
    draw_surface,
    gradient_norms,
    played_episode,
)
from decision_policies.data import WindowSampler

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--output", type=Path, default=Path("runs/hidden_attention"))
parser.add_argument("--updates", type=int, default=500)
args = parser.parse_args()
torch.set_num_threads(1)  # so small a model gains nothing from more

data = Trajectories.from_minari("cartpole/mixed-v0")
model = DeMa(d_model=64, context_length=10, learning_rate=1e-3, warmup_steps=50, seed=0)
model.learn(data, total_timesteps=args.updates, progress_bar=True)

windows = WindowSampler(data, length=10, batch_size=128, seed=0).sample()
attention = attention_matrices(model, windows)
curve = decay_curve(attention.matrices, len(attention.tokens), attention.mask)
rollout = attention_rollout(attention.matrices).mean(0)
gradients = gradient_norms(model, windows)
episode = played_episode(model, gym.make("CartPole-v1"), target_return=200, seed=1000)
surface = decision_surface(model, episode)

pictures = {
    "surface": draw_surface(surface),
    "heatmap": draw_surface(surface, kind="heatmap"),
    "decay": draw_decay(curve),
    "rollout": draw_rollout(rollout, attention.tokens),
    "activations": draw_norms(activation_norms(model, windows)),
    "gradients": draw_norms(gradients),
}
args.output.mkdir(parents=True, exist_ok=True)
for name, figure in pictures.items():
    figure.savefig(args.output / f"{name}.png")
    print(f"picture: {args.output / name}.png")
for block, half_life in zip(attention.names, curve.steps.half_lives, strict=True):
    print(f"block {block}: attention halves every {half_life:.1f} steps")
largest = gradients.modalities[int(np.argmax(gradients.norms))]
print(f"the loss depends most on the {largest} tokens")
