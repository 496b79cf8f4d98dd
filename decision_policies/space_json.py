"""Gymnasium spaces as strict JSON and back, so that a checkpoint carries them without pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.errors import CheckpointError, UnsupportedSpaceError
from decision_policies.spaces import MAX_DEPTH, MAX_ELEMENTS, leaf_size, leaves

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES = frozenset(["float16", "float32", "float64", "bool", *INTEGERS])
MAX_RANK = 8


def to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Describe a space in plain JSON values.

    Bounds that are the same everywhere are written once; infinities are the strings "inf" and
    "-inf", since JSON has no word for them.

    Raises:
        UnsupportedSpaceError: The space is of another kind than `check_supported` allows.
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {k: to_json(space.spaces[k]) for k in sorted(space)}}
    if isinstance(space, spaces.Tuple):
        return {"type": "Tuple", "spaces": [to_json(part) for part in space.spaces]}
    if isinstance(space, spaces.Box):
        return {
            "type": "Box",
            "dtype": str(space.dtype),
            "shape": list(space.shape),
            "low": _numbers(space.low),
            "high": _numbers(space.high),
        }
    if isinstance(space, spaces.Discrete):
        return {
            "type": "Discrete",
            "n": int(space.n),
            "start": int(space.start),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "type": "MultiDiscrete",
            "dtype": str(space.dtype),
            "shape": list(space.shape),
            "nvec": _numbers(space.nvec),
            "start": _numbers(space.start),
        }
    if isinstance(space, spaces.MultiBinary):
        n = space.n  # an integer, or a shape: gymnasium tells 3 from (3,)
        return {"type": "MultiBinary", "n": n if isinstance(n, int) else list(n)}
    raise UnsupportedSpaceError(f"cannot write {space} to a checkpoint: it is of no known kind")


def from_json(data: object, name: str = "space") -> spaces.Space[Any]:
    """Rebuild a space from `to_json`'s description; anything else is refused before allocation.

    Args:
        data: The parsed JSON.
        name: What the space is called in messages.

    Raises:
        CheckpointError: Unknown type or dtype, bad shape, or a missing or unexpected entry.
    """
    return _parse(data, name, MAX_ELEMENTS, MAX_DEPTH)


ENTRIES = {
    "Box": {"type", "dtype", "shape", "low", "high"},
    "Discrete": {"type", "n", "start", "dtype"},
    "MultiDiscrete": {"type", "dtype", "shape", "nvec", "start"},
    "MultiBinary": {"type", "n"},
    "Dict": {"type", "spaces"},
    "Tuple": {"type", "spaces"},
}
"""What the description of each kind of space consists of."""


def _parse(data: object, name: str, room: int, depth: int) -> spaces.Space[Any]:
    """Rebuild a space of at most `room` numbers and `depth` spaces inside one another."""
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{name}: expected a JSON object, got {type(data).__name__}")
    kind = str(data.get("type"))
    if kind not in ENTRIES:
        known = ", ".join(ENTRIES)
        raise CheckpointError(f"{name}: unknown space type {kind!r}; known are {known}")
    if set(data) != ENTRIES[kind]:
        odd = sorted(set(data) ^ ENTRIES[kind])
        raise CheckpointError(f"{name}: {kind} has missing or unexpected entries {odd}")
    if kind in ("Dict", "Tuple"):
        return _parse_parts(kind, data["spaces"], name, room, depth)
    try:
        return _parse_single(kind, data, name, room)
    except CheckpointError:
        raise
    except (AssertionError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{name}: not a valid {kind}: {error}") from error


def _parse_single(kind: str, data: Mapping[str, Any], name: str, room: int) -> spaces.Space[Any]:
    """Rebuild a space without parts."""
    if kind == "MultiBinary":
        n = data["n"]
        shape = _shape(n if isinstance(n, list) else [n], f"{name}.n", room)
        return spaces.MultiBinary(shape if isinstance(n, list) else shape[0])
    dtype = str(data["dtype"])
    if dtype not in DTYPES:
        raise CheckpointError(f"{name}: unknown dtype {dtype!r}")
    if kind == "Discrete":
        n, start = (_integer(data[k], f"{name}.{k}") for k in ("n", "start"))
        if n > room:
            raise CheckpointError(f"{name}.n: {n} is too large (at most 2^24 in all)")
        # Older versions of gymnasium have no other than the default, and no word for it.
        typed: dict[str, Any] = {} if dtype == "int64" else {"dtype": np.dtype(dtype).type}
        return spaces.Discrete(n, start=start, **typed)
    shape = _shape(data["shape"], f"{name}.shape", room)
    first, second = ("low", "high") if kind == "Box" else ("nvec", "start")
    one, other = (_array(data[k], shape, dtype, f"{name}.{k}") for k in (first, second))
    if kind == "Box":
        return spaces.Box(one, other, shape, np.dtype(dtype).type)
    if sum(map(int, one.reshape(-1))) > room:
        raise CheckpointError(f"{name}.nvec: too large a sum (at most 2^24 in all)")
    return spaces.MultiDiscrete(one, np.dtype(dtype).type, start=other)


def _parse_parts(kind: str, data: object, name: str, room: int, depth: int) -> spaces.Space[Any]:
    """Rebuild a Dict or a Tuple."""
    wanted, said = (Mapping, "object") if kind == "Dict" else (list, "list")
    if not isinstance(data, wanted) or not data:
        raise CheckpointError(f"{name}.spaces: expected a JSON {said} that is not empty")
    if not depth:
        raise CheckpointError(f"{name}: more than {MAX_DEPTH} Dicts or Tuples inside one another")
    parts: dict[Any, spaces.Space[Any]] = {}
    for key, value in data.items() if isinstance(data, Mapping) else enumerate(data):
        if kind == "Dict" and not isinstance(key, str):
            raise CheckpointError(f"{name}.spaces: the name {key!r} is no string")
        part = parts[key] = _parse(value, f"{name}.{key}", room, depth - 1)
        room -= sum(leaf_size(leaf) for _, leaf in leaves(part))
    return spaces.Dict(parts) if kind == "Dict" else spaces.Tuple(list(parts.values()))


def _numbers(array: NDArray[Any]) -> Any:
    flat = [_number(x) for x in array.reshape(-1).tolist()]
    return flat[0] if flat and all(x == flat[0] for x in flat) else flat


def _number(x: float) -> float | str:
    if isinstance(x, float) and not math.isfinite(x):
        return "inf" if x > 0 else "-inf"
    return x


def _shape(data: object, name: str, room: int) -> tuple[int, ...]:
    if not isinstance(data, list) or len(data) > MAX_RANK:
        raise CheckpointError(f"{name}: expected a list of at most {MAX_RANK} integers")
    shape = tuple(_integer(x, name) for x in data)
    if any(x < 0 for x in shape) or math.prod(shape) > room:
        raise CheckpointError(
            f"{name}: {list(shape)} has a bad size (at most 2^24 elements in all)"
        )
    return shape


def _integer(x: object, name: str) -> int:
    if type(x) is not int:
        raise CheckpointError(f"{name}: expected an integer, got {x!r}")
    return x


def _array(data: object, shape: tuple[int, ...], dtype: str, name: str) -> NDArray[Any]:
    def value(x: object) -> float:
        if x in ("inf", "-inf") and isinstance(x, str):
            return float(x)
        kind = bool if dtype == "bool" else (int, float)
        if isinstance(x, bool) == (kind is bool) and isinstance(x, kind) and math.isfinite(x):
            return x
        raise CheckpointError(f"{name}: {x!r} is no number")

    size = math.prod(shape)
    given = [value(x) for x in (data if isinstance(data, list) else [data])]
    if len(given) != size and (isinstance(data, list) or not size):
        raise CheckpointError(f"{name}: {len(given)} values for the shape {list(shape)}")
    with np.errstate(over="ignore"):  # what overflows is named below
        array = np.array(given, dtype)
    held = array.tolist()
    if held != given:
        odd = next(x for x, y in zip(given, held, strict=True) if x != y)
        raise CheckpointError(f"{name}: {odd!r} is no value of {dtype}")
    return array.reshape(shape) if len(given) == size else np.full(shape, held[0], dtype)
