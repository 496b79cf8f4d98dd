"""Learn to learn: in rooms never seen before, a policy gets better over episodes, weights fixed."""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from decision_policies import DMHybrid, Histories, evaluate_in_context
from decision_policies.analysis import plot_in_context
from decision_policies.envs import Darkroom

parser = argparse.ArgumentParser()
parser.add_argument("--updates", type=int, default=600)
parser.add_argument("--repeats", type=int, default=4, help="histories of each goal")
parser.add_argument("--folder", type=Path, default=Path("runs/in-context"))
options = parser.parse_args()
torch.set_num_threads(1)

# How a searching learner found 80 goals of a dark 9 x 9 room; 16 of the goals are held out.
command = (
    "-m decision_policies histories --env Darkroom-v0 --learner search --episodes 20 "
    "--option observation=box --dataset darkroom/search-v0 --overwrite "
    f"--repeats {options.repeats} --output"
)
subprocess.run([sys.executable, *shlex.split(command), options.folder], check=True)
folder = options.folder / "darkroom" / "search-v0"
histories = Histories.from_minari(folder, cache=False)

model = DMHybrid(
    d_model=64,
    context_episodes=10,
    chunk_length=5,
    batch_size=48,
    chunks_per_update=256,
    align_coef=1.0,
    dropout=0.0,
    learning_rate="lin_2e-3",
    warmup_steps=50,
    max_grad_norm=1.0,
    seed=0,
)
model.learn(histories.train, options.updates, progress_bar=True)
model.save(options.folder / "dm-h")

# Exploring takes chance: actions are sampled.
result = evaluate_in_context(
    model,
    Darkroom([0], observation="box"),
    tasks=np.unique(histories.unseen.tasks),
    n_episodes=20,
    deterministic=False,
)
print(result)
plot_in_context({"DM-H": result}).savefig(options.folder / "in-context.png", dpi=150)
print(f"picture: {options.folder / 'in-context.png'}")
