"""d3rlpy's half of `benchmarks.peers`: a script for an interpreter of its own, without our package.

It answers each line "predict N" or "sample N" on its input with the CPU seconds of N calls.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np


def sides(sizes: dict[str, int]) -> dict[str, Callable[[], object]]:
    """Make the two calls: a `predict` with its reward, and the draw of a batch of windows."""
    d3rlpy: Any = import_module("d3rlpy")
    import_module("torch").set_num_threads(1)
    rng = np.random.default_rng(0)
    steps = sizes["episodes"] * sizes["length"]
    timeouts = np.zeros(steps)
    timeouts[sizes["length"] - 1 :: sizes["length"]] = 1
    data = d3rlpy.dataset.MDPDataset(
        rng.normal(size=(steps, 11)).astype(np.float32),
        rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        rng.uniform(0, 4, (steps, 1)).astype(np.float32),
        np.zeros(steps),
        timeouts,
    )
    encoder = d3rlpy.models.VectorEncoderFactory([sizes["width"]], exclude_last_activation=True)
    config = d3rlpy.algos.DecisionTransformerConfig(
        context_size=sizes["context"], num_layers=3, num_heads=1, encoder_factory=encoder
    )
    algorithm = config.create(device=False)
    algorithm.build_with_dataset(data)
    actor, observation = algorithm.as_stateful_wrapper(3000.0), rng.normal(size=11)
    observation = observation.astype(np.float32)
    return {
        "predict": lambda: actor.predict(observation, 1.0),
        "sample": lambda: data.sample_trajectory_batch(sizes["batch"], sizes["context"]),
    }


def main(words: list[str]) -> None:
    """Answer until the input ends."""
    calls = sides({name: int(value) for name, value in (word.split("=") for word in words)})
    print("ready", flush=True)
    for line in sys.stdin:
        name, count = line.split()
        start = time.process_time()
        for _ in range(int(count)):
            calls[name]()
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
