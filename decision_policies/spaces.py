"""Gymnasium spaces as strict JSON and back, so that a checkpoint carries them without pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.errors import CheckpointError, UnsupportedSpaceError

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES = frozenset(["float16", "float32", "float64", "bool", *INTEGERS])
MAX_ELEMENTS = 1 << 24
MAX_RANK = 8


def check_supported(space: spaces.Space[Any], role: str) -> None:
    """Refuse a space that no part of the package can encode yet.

    Args:
        space: The observation or action space.
        role: "observation" or "action", for the message.

    Raises:
        UnsupportedSpaceError: The space is neither Box nor Discrete.
    """
    if type(space) not in (spaces.Box, spaces.Discrete):
        raise UnsupportedSpaceError(
            f"{role} space {space} is not supported: Box and Discrete are; "
            "flatten it with gymnasium.wrappers.FlattenObservation or a wrapper of your own"
        )


def to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Describe a space in plain JSON values.

    Bounds that are the same everywhere are written once; infinities are the strings "inf" and
    "-inf", since JSON has no word for them.

    Raises:
        UnsupportedSpaceError: The space is neither Box nor Discrete.
    """
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
    raise UnsupportedSpaceError(f"cannot write {space} to a checkpoint: Box and Discrete only")


def from_json(data: object, name: str = "space") -> spaces.Space[Any]:
    """Rebuild a space from `to_json`'s description; anything else is refused before allocation.

    Args:
        data: The parsed JSON.
        name: What the space is called in messages.

    Raises:
        CheckpointError: Unknown type or dtype, bad shape, or a missing or unexpected entry.
    """
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{name}: expected a JSON object, got {type(data).__name__}")
    kind, dtype = str(data.get("type")), str(data.get("dtype"))
    entries = {
        "Box": {"type", "dtype", "shape", "low", "high"},
        "Discrete": {"type", "n", "start", "dtype"},
    }
    if kind not in entries:
        raise CheckpointError(f"{name}: unknown space type {kind!r}; known are Box and Discrete")
    if set(data) != entries[kind]:
        odd = sorted(set(data) ^ entries[kind])
        raise CheckpointError(f"{name}: {kind} has missing or unexpected entries {odd}")
    if dtype not in DTYPES:
        raise CheckpointError(f"{name}: unknown dtype {dtype!r}")
    try:
        if kind == "Box":
            shape = _shape(data["shape"], name)
            low, high = (_array(data[k], shape, dtype, f"{name}.{k}") for k in ("low", "high"))
            return spaces.Box(low, high, shape, np.dtype(dtype).type)
        n, start = (_integer(data[k], f"{name}.{k}") for k in ("n", "start"))
        if n > MAX_ELEMENTS:
            raise CheckpointError(f"{name}.n: {n} is too large (at most 2^24)")
        return spaces.Discrete(n, start=start, dtype=np.dtype(dtype).type)
    except CheckpointError:
        raise
    except (AssertionError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{name}: not a valid {kind}: {error}") from error


def _numbers(array: NDArray[Any]) -> Any:
    flat = [_number(x) for x in array.reshape(-1).tolist()]
    return flat[0] if flat and all(x == flat[0] for x in flat) else flat


def _number(x: float) -> float | str:
    if isinstance(x, float) and not math.isfinite(x):
        return "inf" if x > 0 else "-inf"
    return x


def _shape(data: object, name: str) -> tuple[int, ...]:
    if not isinstance(data, list) or len(data) > MAX_RANK:
        raise CheckpointError(f"{name}.shape: expected a list of at most {MAX_RANK} integers")
    shape = tuple(_integer(x, f"{name}.shape") for x in data)
    if any(x < 0 for x in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise CheckpointError(f"{name}.shape: {list(shape)} has a bad size (at most 2^24 elements)")
    return shape


def _integer(x: object, name: str) -> int:
    if type(x) is not int:
        raise CheckpointError(f"{name}: expected an integer, got {x!r}")
    return x


def _array(data: object, shape: tuple[int, ...], dtype: str, name: str) -> NDArray[Any]:
    def value(x: object) -> float:
        if x in ("inf", "-inf") and isinstance(x, str):
            return float(x)
        if isinstance(x, (int, float)) and math.isfinite(x):
            return x
        raise CheckpointError(f"{name}: {x!r} is no number")

    if isinstance(data, list):
        if len(data) != math.prod(shape):
            raise CheckpointError(f"{name}: {len(data)} values for the shape {list(shape)}")
        return np.array([value(x) for x in data], dtype).reshape(shape)
    return np.full(shape, value(data), dtype)
