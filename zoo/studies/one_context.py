"""Measures one system at one context length; a program, since peak memory is a process's own."""

from __future__ import annotations

import functools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from gymnasium.spaces import Box

from decision_policies import SequenceAlgorithm, SequencePolicy, Trajectories
from decision_policies.algorithms import BY_NAME
from decision_policies.data import WindowSampler

EPISODES = 4


class Plan(TypedDict):
    """What to measure.

    Attributes:
        class_name: A key of `decision_policies.algorithms.BY_NAME`.
        hyperparameters: Of the class; `context_length` and `batch_size` among them.
        observation: Length of an observation vector.
        action: Length of an action vector.
        repeats: Timed calls of everything; the fastest counts, as other processes only slow down.
    """

    class_name: str
    hyperparameters: dict[str, Any]
    observation: int
    action: int
    repeats: int


def measure(plan: Plan) -> dict[str, float]:
    """Measures, in milliseconds of CPU time, and mebibytes.

    Returns:
        `update`: of `learn`, with drawing the batch; `peak`: largest resident memory so far, most
        of it the update's; `forward`: of a batch of windows, without gradients; `window` and
        `recurrent`: of a `predict` with a full context in one environment; and `parameters`.
    """
    torch.set_num_threads(1)
    algorithm = BY_NAME[plan["class_name"]](seed=0, device="cpu", **plan["hyperparameters"])
    data = random_data(plan, max(1000, 2 * algorithm.context_length))
    stamps: list[float] = []

    def stamp(_: Mapping[str, Any], __: Mapping[str, Any]) -> bool:
        stamps.append(time.process_time())
        return True

    algorithm.learn(data, plan["repeats"] + 1, callback=stamp)
    found = {"update": 1000 * float(np.diff(stamps).min()), "peak": peak_memory()}
    policy = algorithm.policy
    assert policy is not None, "it has been trained"
    found["forward"] = _fastest(_forward(algorithm, policy, data), plan["repeats"])
    for mode in ("window", "recurrent"):
        act = _predict(policy.fork(inference=mode), data)
        for _ in range(algorithm.context_length):
            act()
        found[mode] = _fastest(act, 2 * plan["repeats"])
    found["parameters"] = sum(p.numel() for p in policy.model.parameters())
    return found


def in_a_process(plan: Plan) -> dict[str, float]:
    """Does what `measure` does in a process of its own.

    Raises:
        RuntimeError: It failed; says its last words.
    """
    command = [sys.executable, "-m", "zoo.studies.one_context", json.dumps(plan)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"the measuring process failed: {done.stderr.strip()[-400:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@functools.cache
def idle_memory(class_name: str, observation: int, action: int) -> float:
    """Peak memory of a process that has next to nothing to do, in MiB.

    It makes two updates of a tiny model, since much is imported only then.
    """
    tiny = {"d_model": 8, "n_layers": 1, "context_length": 2, "batch_size": 1}
    return in_a_process(
        {
            "class_name": class_name,
            "hyperparameters": tiny,
            "observation": observation,
            "action": action,
            "repeats": 1,
        }
    )["peak"]


def random_data(plan: Plan, length: int) -> Trajectories:
    """Draws episodes of Gaussian observations, uniform actions and uniform rewards."""
    rng, observation, action = np.random.default_rng(0), plan["observation"], plan["action"]
    episodes = [
        {
            "observations": rng.normal(size=(length, observation)),
            "actions": rng.uniform(-1, 1, size=(length, action)),
            "rewards": rng.uniform(0, 4, size=length),
        }
        for _ in range(EPISODES)
    ]
    spaces = Box(-np.inf, np.inf, (observation,), np.float32), Box(-1, 1, (action,), np.float32)
    return Trajectories.from_episodes(episodes, *spaces)


def peak_memory() -> float:
    """Largest resident memory that this process has had, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage's, it does not count the parent before exec
        [line] = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    units = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units


def _forward(
    algorithm: SequenceAlgorithm, policy: SequencePolicy, data: Trajectories
) -> Callable[[], None]:
    sampler = WindowSampler(data, algorithm.context_length, algorithm.batch_size, seed=0)
    window, state = sampler.sample(), None

    def forward() -> None:
        nonlocal state
        with torch.inference_mode():
            _, after = policy.model(window, state)
        state = after if algorithm.carries_state else None

    return forward


def _predict(policy: SequencePolicy, data: Trajectories) -> Callable[[], None]:
    observation = data.observations[0]

    def predict() -> None:
        policy.predict(observation)
        policy.observe(1.0)

    return predict


def _fastest(call: Callable[[], None], repeats: int) -> float:
    """Least CPU time of a call in milliseconds, after one that is not timed."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1000 * min(times)


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
