"""Learn from stacks of frames and clipped rewards, as on Atari; by default, CartPole in pictures.

A game: pip install 'decision-policies[atari]', and name a Minari set of its single frames:
python examples/06_atari.py --dataset ID --game breakout --updates 600
"""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import FrameStackObservation, TransformObservation

from decision_policies import DeMa, Trajectories, evaluate_policy
from decision_policies.envs import make_atari

RECIPE: dict[str, Any] = {"embedding": "tanh", "weight_decay": 0.1, "max_grad_norm": 1.0, "seed": 0}
FRAME = gym.spaces.Box(0, 255, (36, 36), np.uint8)


def draw(states: Any) -> Any:
    """Draw poles on carts; how fast they move, only a stack of frames shows."""
    height, column = np.arange(36)[::-1, None], np.arange(36)
    place = 18 + 6 * states[..., 0, None, None] + 3 * height * states[..., 2, None, None]
    return np.uint8(255 * np.clip(2 - abs(column - place), 0, 1))


def make_cartpole() -> gym.Env[Any, Any]:
    """Make a CartPole of which stacks of four drawn frames are seen."""
    return FrameStackObservation(TransformObservation(gym.make("CartPole-v1"), draw, FRAME), 4)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--dataset", help="Minari id of a set of single frames")
parser.add_argument("--game", help="the game that it was recorded in")
parser.add_argument("--updates", type=int, default=200)
args = parser.parse_args()
torch.set_num_threads(1)
if args.game:
    data = Trajectories.from_minari(args.dataset)
    make: Callable[[], gym.Env[Any, Any]] = partial(make_atari, args.game)
    model = DeMa(**RECIPE, d_model=128, context_length=20, learning_rate=6e-4, warmup_steps=50)
else:
    log, make = Trajectories.from_minari("cartpole/mixed-v0"), make_cartpole
    fields = {"observations": draw(log.observations), "actions": log.actions}
    fields["rewards"] = log.rewards
    episodes = [{k: v[a:b] for k, v in fields.items()} for a, b in pairwise(log.offsets)]
    data = Trajectories.from_episodes(episodes, FRAME, gym.spaces.Discrete(2))
    model = DeMa(**RECIPE, d_model=32, context_length=5, learning_rate=1e-3, warmup_steps=20)

print(f"logged: {data.returns.mean():.1f} on average, {data.returns.max():.1f} at best")
model.learn(data.stack_frames(4).clip_rewards(), args.updates, progress_bar=True)
# Atari policies sample their actions: the likeliest one may never launch the ball.
result = evaluate_policy(model, make, 10, seed=1000, deterministic=False)
print(f"obtained: {result}")
