"""Spaces of every kind, in a grid: learnt from, saved, loaded, acted in and evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from decision_policies import DeMa, Trajectories, evaluate_policy
from decision_policies.spec import Inference
from tests.fixtures import tiny_algorithm

Space = spaces.Space[Any]
MODES: tuple[Inference, ...] = ("window", "recurrent", "staggered")
INF = np.inf
FAR = float(np.finfo(np.float32).max)

NUMBERS: dict[str, Space] = {
    "unbounded": spaces.Box(-INF, INF, (3,), np.float64),
    "bounded": spaces.Box(np.array([-2, 0], np.float32), np.array([3, 9], np.float32)),
    "half bounded": spaces.Box(np.array([0, -INF]), np.array([INF, 1]), dtype=np.float64),
    "float32's ends": spaces.Box(-FAR, FAR, (2,)),
    "scalar": spaces.Box(-1, 1, (), np.float16),
    "rank 4": spaces.Box(0, 1, (1, 2, 1, 3)),
    "int8": spaces.Box(-9, 9, (2, 2), np.int8),
    "uint8": spaces.Box(0, 255, (2,), np.uint8),
    "int64": spaces.Box(-5, 1000, (), np.int64),
    "bool": spaces.Box(0, 1, (2,), np.bool_),
}
TYPED: dict[str, Any] = (
    {"dtype": np.int32} if "dtype" in signature(spaces.Discrete).parameters else {}
)
"""Of a Discrete; older versions of gymnasium have none."""
CHOICES: dict[str, Space] = {
    "one of 4": spaces.Discrete(4),
    "one from -3": spaces.Discrete(2, start=-3, **TYPED),
    "several": spaces.MultiDiscrete([2, 3, 1], "int32"),
    "several from": spaces.MultiDiscrete(np.array([[2, 4]]), np.int64, start=np.array([[-1, 5]])),
    "binary": spaces.MultiBinary(3),
    "binary table": spaces.MultiBinary([2, 2]),
}
PARTS: dict[str, Space] = {
    "pair": spaces.Tuple([NUMBERS["unbounded"], CHOICES["one from -3"]]),
    "goal": spaces.Dict({n: NUMBERS["bounded"] for n in ("observation", "desired_goal")}),
    "of choices": spaces.Dict({k.replace(" ", "_"): v for k, v in CHOICES.items()}),
    "nested": spaces.Dict(
        {
            "b": spaces.Tuple([NUMBERS["rank 4"], spaces.Dict({"z": CHOICES["several from"]})]),
            "a": spaces.Tuple([spaces.Tuple([NUMBERS["uint8"]]), CHOICES["binary table"]]),
        }
    ),
    "pair with a dict": spaces.Tuple([NUMBERS["int8"], spaces.Dict({"x": NUMBERS["bool"]})]),
}
IMAGES: dict[str, Space] = {
    "channels first": spaces.Box(0, 255, (3, 36, 40), np.uint8),
    "channels last": spaces.Box(0, 255, (36, 40, 3), np.uint8),
    "one channel last": spaces.Box(0, 255, (36, 40, 1), np.uint8),
    "image and numbers": spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (36, 37, 3), np.uint8),
            "depth": spaces.Box(0, 255, (36, 38), np.uint8),
            "pose": NUMBERS["unbounded"],
            "gear": CHOICES["one of 4"],
        }
    ),
    "image alone": spaces.Tuple([spaces.Box(0, 255, (2, 36, 36), np.uint8)]),
}
OBSERVATIONS = {**NUMBERS, **CHOICES, **PARTS, **IMAGES}
ACTIONS = {**NUMBERS, **CHOICES}
GRID = [(name, list(ACTIONS)[i % len(ACTIONS)]) for i, name in enumerate(OBSERVATIONS)]
GRID += [
    (list(OBSERVATIONS)[(5 * i + 3) % len(OBSERVATIONS)], name) for i, name in enumerate(ACTIONS)
]


def draw(space: Space, rng: np.random.Generator, n: int) -> Any:
    """Draw n elements: an array, a mapping or a tuple of arrays."""
    if isinstance(space, spaces.Dict):
        return {key: draw(part, rng, n) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(draw(part, rng, n) for part in space.spaces)
    if isinstance(space, spaces.Box):
        low, high = (np.clip(end.astype(np.float64), -999, 999) for end in (space.low, space.high))
        drawn = rng.uniform(low, high, (n, *space.shape))
        return (np.rint(drawn) if space.dtype.kind in "iub" else drawn).astype(space.dtype)
    space.seed(int(rng.integers(1 << 30)))
    return np.array([space.sample() for _ in range(n)])


def at(value: Any, index: Any) -> Any:
    """Take one element, or some, out of what `draw` made."""
    if isinstance(value, Mapping):
        return {key: at(part, index) for key, part in value.items()}
    return tuple(at(part, index) for part in value) if isinstance(value, tuple) else value[index]


def episodes(seen: Space, acted: Space, lengths: tuple[int, ...] = (5, 1, 7)) -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        {
            "observations": draw(seen, rng, t + 1),
            "actions": draw(acted, rng, t),
            "rewards": rng.normal(size=t),
        }
        for t in lengths
    ]


class Anything(gym.Env[Any, Any]):
    """Shows random elements of a space for five steps, and insists on actions of another."""

    def __init__(self, seen: Space, acted: Space) -> None:
        self.observation_space, self.action_space = seen, acted

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return at(draw(self.observation_space, self.np_random, 1), 0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action)), action
        self.time += 1
        shown = at(draw(self.observation_space, self.np_random, 1), 0)
        return shown, 1.0, self.time == 5, False, {}


@pytest.mark.parametrize(("seen", "acted"), GRID)
def test_learnt_saved_loaded_and_acted_in(seen: str, acted: str, tmp_path: Path) -> None:
    pair = OBSERVATIONS[seen], ACTIONS[acted]
    data = Trajectories.from_episodes(episodes(*pair), *pair)
    sizes = {"n_layers": 1, "d_model": 8, "layout": "BL3D" if len(seen) % 2 else "B3LD"}
    algorithm = tiny_algorithm(device="cpu", **sizes).learn(data, 2)
    assert algorithm.policy is not None
    algorithm.save(tmp_path / "saved")
    loaded = DeMa.load(tmp_path / "saved", Anything(*pair), device="cpu").policy
    assert loaded is not None and (loaded.observation_space, loaded.action_space) == pair
    shown = draw(pair[0], np.random.default_rng(1), 12)
    rows = [algorithm.policy.fork(inference=mode) for mode in MODES]
    others = [loaded.fork(inference=mode) for mode in MODES]
    for t in range(6):
        one, three = at(shown, t), at(shown, slice(t, t + 3))
        for policy, other in zip(rows, others, strict=True):
            action, _ = policy.predict(one, reward=0.5, deterministic=t != 3)
            assert pair[1].contains(action)
            if t < 3:  # sampled from one generator each, of different seeds
                np.testing.assert_array_equal(action, other.predict(one, reward=0.5)[0])
        batch, _ = loaded.predict(three, reward=0.5)
        assert batch.shape == (3, *(pair[1].shape or ())) and batch.dtype == pair[1].dtype
    played = evaluate_policy(loaded, lambda: Anything(*pair), 3, n_envs=2)
    assert played.returns.tolist() == [5.0] * 3
