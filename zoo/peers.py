"""Trains a d3rlpy peer: a script for an interpreter of its own, which shares no code with ours.

d3rlpy names an exact, old gymnasium, so it has its own environment (`make peers`). `zoo benchmark`
starts `python -P zoo/peers.py FOLDER` there. The folder holds `plan.json` and `data.npz`; the
script prints a line of JSON as it goes on, and writes `result.json`.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

NAMES = {
    "d3rlpy.DT": ("DecisionTransformer", "DiscreteDecisionTransformer"),
    "d3rlpy.BC": ("BC", "DiscreteBC"),
    "d3rlpy.TD3+BC": ("TD3PlusBC", None),
    "d3rlpy.IQL": ("IQL", None),
}
"""d3rlpy's classes for continuous and for discrete actions."""

Act = Callable[[NDArray[Any], float], Any]


def make_algorithm(plan: dict[str, Any], actions: NDArray[Any]) -> Any:
    """Makes the peer: d3rlpy's defaults, apart from what the plan says.

    Args:
        plan: `class_name`, and `hyperparameters`: fields of d3rlpy's config, and four words of our
            own: `width` (of the encoders' hidden layers), `layers` (how many of them),
            `standardise` (observations) and `reward_scale` (a factor).
        actions: All actions of the data.

    Raises:
        ValueError: The peer has no variant for these actions.
    """
    d3rlpy: Any = import_module("d3rlpy")
    continuous, discrete = NAMES[plan["class_name"]]
    name = continuous if plan["action_low"] is not None else discrete
    if name is None:
        raise ValueError(f"{plan['class_name']} has no variant for discrete actions")
    config = getattr(d3rlpy.algos, f"{name}Config")
    values = dict(plan["hyperparameters"])
    width, layers = values.pop("width", None), values.pop("layers", 1)
    if width is not None:
        encoder = d3rlpy.models.VectorEncoderFactory([width] * layers, exclude_last_activation=True)
        values |= {
            field: encoder for field in config.__dataclass_fields__ if "encoder_factory" in field
        }
    if values.pop("standardise", False):
        values["observation_scaler"] = d3rlpy.preprocessing.StandardObservationScaler()
    if (scale := values.pop("reward_scale", None)) is not None:
        values["reward_scaler"] = d3rlpy.preprocessing.MultiplyRewardScaler(scale)
    if plan["action_low"] is not None:
        low, high = (np.array(plan[f"action_{end}"], np.float32) for end in ("low", "high"))
        if np.isfinite([low, high]).all() and not ((low == -1).all() and (high == 1).all()):
            values["action_scaler"] = d3rlpy.preprocessing.MinMaxActionScaler(low, high)
    return config(**values).create(device=False)


def train(plan: dict[str, Any], data: Any, evaluate: Callable[[Any, int], None]) -> dict[str, Any]:
    """Trains the peer, stopping at each checkpoint.

    Args:
        plan: What to train.
        data: Arrays `observations`, `actions`, `rewards`, `terminals`, `timeouts`, a step a row.
        evaluate: Called with the algorithm and the number of updates at each checkpoint; its time
            does not count.

    Returns:
        Number of parameters, seconds of training.
    """
    d3rlpy: Any = import_module("d3rlpy")
    d3rlpy.seed(plan["seed"])
    algorithm = make_algorithm(plan, data["actions"])
    dataset = d3rlpy.dataset.MDPDataset(
        data["observations"].astype(np.float32),
        data["actions"],
        data["rewards"],
        data["terminals"].astype(np.float32),
        data["timeouts"].astype(np.float32),
        action_size=plan["action_size"],
    )
    spent = [0.0, 0.0]  # wall and CPU seconds of evaluations
    parent = os.getppid()

    def after_update(_: Any, __: int, step: int) -> None:
        if step % 50 == 0:
            say(step, "training")
            if os.getppid() != parent:
                sys.exit("the benchmark that started this is gone")
        if step in plan["checkpoints"]:
            before = time.perf_counter(), time.process_time()
            with kept_random_state():
                evaluate(algorithm, step)
            spent[0] += time.perf_counter() - before[0]
            spent[1] += time.process_time() - before[1]

    start = time.perf_counter(), time.process_time()
    algorithm.fit(
        dataset,
        n_steps=plan["updates"],
        n_steps_per_epoch=plan["updates"],
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        callback=after_update,
    )
    return {
        "parameters": count_parameters(algorithm),
        "wall_seconds": time.perf_counter() - start[0] - spent[0],
        "cpu_seconds": time.process_time() - start[1] - spent[1],
        "evaluation_seconds": spent[0],
    }


def count_parameters(algorithm: Any) -> int:
    """Counts trained weights, those of critics included, without target copies."""
    modules = algorithm.impl.modules.get_torch_modules()
    weights = {
        id(p): p.numel()
        for name, module in modules.items()
        if not name.startswith("targ")
        for p in module.parameters()
    }
    return sum(weights.values())


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Gives training its random numbers back after an evaluation that drew some."""
    torch: Any = import_module("torch")
    own, numpys, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)  # noqa: NPY002
        torch.set_rng_state(torchs)


def actors(algorithm: Any, plan: dict[str, Any], target: float | None) -> Iterator[Act]:
    """Yields a function of observation and last reward for each episode, with its own memory."""
    while True:
        if target is None:
            act = algorithm.predict if plan["deterministic"] else algorithm.sample_action
            yield lambda observation, reward: act(observation[None])[0]  # noqa: B023
            continue
        sampler = None  # d3rlpy's own: as it is for continuous actions, sampled for discrete ones
        if plan["deterministic"] and plan["action_low"] is None:
            d3rlpy: Any = import_module("d3rlpy")
            sampler = d3rlpy.algos.GreedyTransformerActionSampler()
        yield algorithm.as_stateful_wrapper(target, sampler).predict


def make_environment(plan: dict[str, Any]) -> gym.Env[Any, Any]:
    """Makes the environment that the peer is to play."""
    return gym.make(gym.envs.registration.EnvSpec.from_json(plan["environment"]))


def play(algorithm: Any, plan: dict[str, Any], target: float | None) -> list[float]:
    """Plays the episodes of an evaluation; episode i starts from `reset(seed=first + i)`."""
    returns = []
    env = make_environment(plan)
    try:
        for index, act in zip(
            range(plan["episodes"]), actors(algorithm, plan, target), strict=False
        ):
            observation, _ = env.reset(seed=plan["first_seed"] + index)
            total, reward, over = 0.0, 0.0, False
            while not over:
                action = act(np.asarray(observation, np.float32), reward)
                if plan["action_low"] is None:
                    action = int(action) + plan["action_start"]
                observation, paid, terminated, truncated, _ = env.step(action)
                reward, over = float(paid), terminated or truncated
                total += reward
            returns.append(total)
    finally:
        env.close()
    return returns


def say(updates: int, doing: str) -> None:
    """Tells the benchmark how far the peer is."""
    print(json.dumps({"updates": updates, "doing": doing}), flush=True)


def main(folder: Path) -> None:
    """Does what the folder's plan says."""
    import_module("torch").set_num_threads(1)
    plan = json.loads((folder / "plan.json").read_text())
    data = np.load(folder / "data.npz", allow_pickle=False)
    make_environment(plan).close()  # one that cannot be made is told before anything is trained
    evaluations: list[dict[str, Any]] = []

    def evaluate(algorithm: Any, step: int) -> None:
        targets = plan["targets"] if plan["class_name"] == "d3rlpy.DT" else [None]
        for target in targets:
            say(step, "evaluating" if target is None else f"evaluating, {target:g}")
            returns = play(algorithm, plan, target)
            evaluations.append({"updates": step, "target": target, "returns": returns})

    result = train(plan, data, evaluate)
    names = ("d3rlpy", "torch", "numpy", "gymnasium")
    result |= {"evaluations": evaluations, "versions": {name: version(name) for name in names}}
    temporary = folder / "result.json.new"
    temporary.write_text(json.dumps(result))
    temporary.replace(folder / "result.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
