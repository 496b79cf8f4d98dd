"""What the tests of the logs share: trainings of a moment on the shipped CartPole set."""

from __future__ import annotations

from pathlib import Path

from zoo.__main__ import main
from zoo.experiments import Experiment

SET = "cartpole/mixed-v0"
SMALL = "d_model=8 n_layers=1 context_length=3 batch_size=4 warmup_steps=2"


def train(logs: Path, words: str = "", *, algo: str = "dema", seed: int = 0) -> int:
    """Runs `zoo train` for 6 updates, with two evaluations of 2 episodes."""
    line = (
        f"train --algo {algo} --dataset {SET} --seed {seed} --n-timesteps 6 --eval-freq 3 "
        f"--eval-episodes 2 --quiet {words} --hyperparams {SMALL}"
    )
    return main([*line.split(), "--folder", str(logs)])


def trained(logs: Path, words: str = "", *, algo: str = "dema", seed: int = 0) -> Experiment:
    """The experiment that `train` leaves."""
    assert train(logs, words, algo=algo, seed=seed) == 0
    folder = logs / algo.lower()
    numbers = [int(path.name.rpartition("_")[2]) for path in folder.iterdir()]
    return Experiment(folder / f"CartPole-v1_{max(numbers)}")


def zoo(words: str, *more: str | Path) -> int:
    """Runs a command line."""
    return main([*words.split(), *map(str, more)])
