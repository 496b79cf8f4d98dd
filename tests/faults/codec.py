"""Spaces written as JSON and read back by the thousand, and their descriptions forged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.space_json import INTEGERS, from_json, to_json
from decision_policies.strict_json import parse_json
from tests.faults.counting import Suite
from tests.faults.forging import forged

FLOATS = ("float16", "float32", "float64")
HERE = Path("spaces.json")


def round_trips(count: int = 2000) -> Suite:
    """Write random spaces and read them back: equal to the last bit, dtypes and order included."""
    suite, rng = Suite("spaces written and read"), np.random.default_rng(4)
    for turn in range(count):
        space = random_space(rng)

        def there_and_back(space: spaces.Space[Any] = space) -> None:
            text = json.dumps({"space": to_json(space)}, allow_nan=False)
            found = from_json(parse_json(HERE, text.encode())["space"])
            assert_same(found, space)

        suite.inject(f"space {turn}: {space}"[:300], there_and_back, refusals=())
    return suite


def malformed(count: int = 500) -> Suite:
    """Forge descriptions of spaces: refused, or just what they say."""
    suite, rng, numbers = Suite("spaces forged"), random.Random(5), np.random.default_rng(5)
    for turn in range(count):
        content = forged({"space": to_json(random_space(numbers))}, rng)

        def read(content: bytes = content) -> None:
            said: Any = parse_json(HERE, content).get("space")
            # Bounds that are the same everywhere may be said once or often.
            assert_same(from_json(said), from_json(to_json(from_json(said))))
            assert said["type"] == type(from_json(said)).__name__

        suite.inject(f"turn {turn}: {content[:200]!r}", read)
    return suite


def random_space(rng: np.random.Generator, depth: int = 3) -> spaces.Space[Any]:
    """Draw a space of arrays, or a Dict or Tuple of some, nested up to `depth` deep."""
    kind = rng.integers(7 if depth else 5)
    if kind == 4:
        shape = [int(n) for n in rng.integers(1, 4, rng.integers(1, 4))]
        return spaces.MultiBinary(shape if len(shape) > 1 or rng.random() < 0.5 else shape[0])
    if kind == 3:
        shape = rng.integers(1, 4, rng.integers(1, 4)).tolist()
        size = shape if rng.random() < 0.5 else ()
        counts, starts = (
            np.broadcast_to(rng.integers(*ends, size), shape) for ends in ((1, 9), (-5, 5))
        )
        return spaces.MultiDiscrete(counts, str(rng.choice(["int8", "int64"])), start=starts)
    if kind == 0:
        n, start = int(rng.integers(1, 100)), int(rng.integers(-5, 5))
        dtype = np.dtype(str(rng.choice([name for name in INTEGERS if name[0] == "i"])))
        return spaces.Discrete(n, start=start, dtype=dtype.type)
    if kind < 3:
        return random_box(rng)
    if kind == 6:
        return spaces.Tuple([random_space(rng, depth - 1) for _ in range(rng.integers(1, 4))])
    keys = [str(key) for key in rng.permutation(["z", "a", "é", "", "0", "a.b", "type"])]
    chosen = keys[: int(rng.integers(1, 4))]
    return spaces.Dict({key: random_space(rng, depth - 1) for key in chosen})


def random_box(rng: np.random.Generator) -> spaces.Box:
    """Draw a Box: any dtype and rank, bounds the same everywhere or not, finite or not."""
    shape = tuple(int(n) for n in rng.integers(1, 4, rng.integers(5)))
    dtype = np.dtype(str(rng.choice([*FLOATS, *INTEGERS])))
    size = shape if rng.random() < 0.5 else ()
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        pair: list[NDArray[Any]] = [
            rng.integers(limits.min, limits.max, size, dtype, endpoint=True) for _ in range(2)
        ]
    else:
        scale = 10.0 ** rng.integers(-4, 5)
        pair = [np.asarray(scale * rng.normal(size=size), dtype) for _ in range(2)]
        for bound, infinite in zip(pair, (-np.inf, np.inf), strict=True):
            bound[rng.random(size) < 0.2] = infinite
    low, high = np.minimum(*pair), np.maximum(*pair)
    low, high = (np.broadcast_to(bound, shape) for bound in (low, high))
    return spaces.Box(low, high, shape, dtype.type)


def assert_same(found: spaces.Space[Any], space: spaces.Space[Any]) -> None:
    assert type(found) is type(space)
    assert found.dtype == space.dtype
    if isinstance(space, spaces.MultiBinary) and isinstance(found, spaces.MultiBinary):
        assert type(found.n) is type(space.n)
    if isinstance(space, spaces.Dict) and isinstance(found, spaces.Dict):
        assert found.spaces.keys() == space.spaces.keys()
        for key, part in space.spaces.items():
            assert_same(found.spaces[key], part)
    elif isinstance(space, spaces.Tuple) and isinstance(found, spaces.Tuple):
        for one, other in zip(found.spaces, space.spaces, strict=True):
            assert_same(one, other)
    elif isinstance(space, spaces.Box) and isinstance(found, spaces.Box):
        assert found.shape == space.shape
        assert np.array_equal(found.low, space.low)
        assert np.array_equal(found.high, space.high)
    else:
        assert found == space
