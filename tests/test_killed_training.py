"""A training that is killed at random, again and again, ends as if it had been left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from stable_baselines3.common.callbacks import CheckpointCallback, ConvertCallback

from decision_policies import DeMa
from tests.faults.crashes import dying_at
from tests.fixtures import tiny_algorithm, tiny_trajectories
from tests.test_checkpoint_faults import in_child

UPDATES, OFTEN = 40, 3


def training() -> DeMa:
    """Everything that a resume must restore: moments, dropout, average, carried state, schedule."""
    return tiny_algorithm(
        dropout=0.1, ema_decay=0.9, kind="rnn", learning_rate="cos_3e-3", batch_size=4
    )


def latest(folder: Path) -> DeMa | None:
    """Load the last checkpoint that there is."""
    kept = {int(path.name.split("_")[2]): path for path in folder.glob("*.zip")}
    return DeMa.load(kept[max(kept)]) if kept else None


def go_on(folder: Path, told: Callable[[], None]) -> None:
    """Learn to the end from wherever the last process has come to; tell of every update."""
    algorithm = latest(folder) or training()

    def tell(*_: object) -> bool:
        told()
        return True

    hooks = [CheckpointCallback(OFTEN, str(folder)), ConvertCallback(tell)]
    left = UPDATES - algorithm.num_timesteps
    algorithm.learn(tiny_trajectories(False), left, callback=hooks, reset_num_timesteps=False)
    algorithm.save(folder / f"rl_model_{UPDATES}_steps.zip")


def killed_from_outside(folder: Path, updates: int, after: float) -> int:
    """Kill a child some seconds after it has told of so many updates; it waits three later."""
    reader, writer = os.pipe()
    made = 0

    def tell() -> None:
        nonlocal made
        made += 1
        os.write(writer, b".")
        if made == updates + 3:
            signal.pause()

    child = in_child(lambda: go_on(folder, tell))
    os.close(writer)
    while updates and os.read(reader, 1):
        updates -= 1
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.close(reader)
    return os.waitpid(child, 0)[1]


def killed_in_a_save(folder: Path, call: int) -> int:
    """Have a child kill itself at a call into the disk, in one of its first saves."""

    def run() -> None:
        dying_at(call)
        go_on(folder, lambda: None)

    return os.waitpid(in_child(run), 0)[1]


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_and_in_saves_it_ends_bit_equal(seed: int, tmp_path: Path) -> None:
    rng, kills, done = random.Random(seed), 0, 0
    whole = training().learn(tiny_trajectories(False), UPDATES)
    while done != UPDATES:
        if kills % 2:
            status = killed_in_a_save(tmp_path, rng.randrange(1, 60))
        else:
            status = killed_from_outside(tmp_path, rng.randrange(9), rng.uniform(0, 0.01))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0
        kills += killed
        found = latest(tmp_path)
        before, done = done, 0 if found is None else found.num_timesteps
        assert done >= before, "what was saved is lost"
    assert kills > 2
    assert found is not None and found.policy is not None and whole.policy is not None
    weights = whole.policy.model.state_dict()
    for name, value in found.policy.model.state_dict().items():
        assert torch.equal(value, weights[name]), name
