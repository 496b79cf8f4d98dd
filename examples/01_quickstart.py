"""Train DeMa on logged CartPole episodes, act with it in a second process, draw what came of it."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from stable_baselines3.common.logger import configure

import decision_policies
from decision_policies import DeMa

DATASET = Path(decision_policies.__file__).parent / "datasets/cartpole/mixed-v0"


def train(output: Path, updates: int) -> None:
    """Train on the episodes that ship with the package, and save."""
    model = DeMa(
        d_model=64,
        context_length=10,
        learning_rate="lin_1e-3",
        warmup_steps=100,
        seed=0,
    )
    model.set_logger(configure(str(output), ["csv"]))  # writes progress.csv
    model.learn(DATASET, total_timesteps=updates, log_interval=10, progress_bar=True)
    model.logger.close()
    model.save(output / "model")


def draw(output: Path) -> None:
    """Draw returns asked for against returns obtained, and the learning curve."""
    log = np.genfromtxt(output / "progress.csv", delimiter=",", names=True, deletechars="")
    asked, mean, std, _ = np.loadtxt(output / "returns.csv", delimiter=",", unpack=True)
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot((0, 510), (0, 510), "--", color="0.7", label="obtained = asked")
    left.errorbar(asked, mean, std, fmt="o", capsize=5, label="mean ± std")
    left.set(title="Returns", xlabel="return asked for", ylabel="return obtained", aspect="equal")
    left.legend(frameon=False)
    right.plot(log["time/total_timesteps"], log["train/loss"])
    right.set(title="Learning curve", xlabel="updates", ylabel="cross-entropy of the actions")
    figure.savefig(output / "quickstart.png", dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--updates", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)  # so small a model gains nothing from more
    train(args.output, args.updates)
    act = [sys.executable, Path(__file__).with_name("02_act.py"), args.output / "model"]
    subprocess.run([*act, "--csv", args.output / "returns.csv"], check=True)
    draw(args.output)
    print(f"\npicture: {args.output / 'quickstart.png'}")
