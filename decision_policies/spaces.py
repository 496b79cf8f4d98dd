"""Gymnasium spaces as strict JSON and back, so that a checkpoint carries them without pickle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.errors import CheckpointError, UnsupportedSpaceError

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES = frozenset(["float16", "float32", "float64", "bool", *INTEGERS])
LARGEST = float(np.finfo(np.float32).max)
"""Models work in float32; beyond this, a finite float64 would become infinite."""
MAX_ELEMENTS = 1 << 24
MAX_RANK = 8
MAX_DEPTH = 8
"""How many Dict spaces may stand inside one another."""


def check_supported(space: spaces.Space[Any], role: str) -> None:
    """Refuse a space that no part of the package can encode yet.

    Box and Discrete are supported, and, for observations, a Dict of them (nested if need be)
    without images.

    Args:
        space: The observation or action space.
        role: "observation" or "action"; only observations may be a Dict.

    Raises:
        UnsupportedSpaceError: The space is none of these.
    """
    if role == "observation" and type(space) is spaces.Dict:
        _check_dict(space)
    elif type(space) not in (spaces.Box, spaces.Discrete):
        kinds, cure = "Box and Discrete are", "TransformAction"
        if role == "observation":
            kinds, cure = f"{kinds}, and a Dict of these", "FlattenObservation"
        raise UnsupportedSpaceError(
            f"{role} space {space} is not supported: {kinds}; convert it with "
            f"gymnasium.wrappers.{cure} or a wrapper of your own"
        )


def model_shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    """Shape of one observation or action as models see it.

    Returns:
        The space's own shape, () for Discrete; for a Dict (S,), the length of the flat vector that
        `gymnasium.spaces.flatten` makes: entries in the order of their names, Discrete one-hot.
    """
    if not isinstance(space, spaces.Dict):
        return space.shape or ()
    return (sum(leaf_size(leaf) for _, leaf in leaves(space)),)


def leaf_size(leaf: spaces.Space[Any]) -> int:
    """Numbers that an entry of a Dict takes in its flat vector."""
    return int(leaf.n) if isinstance(leaf, spaces.Discrete) else math.prod(leaf.shape or ())


def leaves(space: spaces.Dict, name: str = "") -> Iterator[tuple[str, spaces.Space[Any]]]:
    """List dotted name and space of a Dict's entries, nested ones too, in the flat vector's order.

    Args:
        space: A supported Dict.
        name: What the names begin with.
    """
    for key in sorted(space.spaces):
        part, place = space.spaces[key], f"{name}.{key}" if name else key
        if isinstance(part, spaces.Dict):
            yield from leaves(part, place)
        else:
            yield place, part


def split(
    value: object, space: spaces.Dict, name: str
) -> Iterator[tuple[str, Any, spaces.Space[Any]]]:
    """Take the value of a Dict apart, in the flat vector's order.

    Args:
        value: A mapping with exactly the space's keys; what it holds is not looked at.
        space: A supported Dict.
        name: What the value is called; the entries' dotted names begin with it.

    Returns:
        Dotted name, value and space of each entry.

    Raises:
        TypeError: The value is no mapping.
        ValueError: A key is missing or unexpected.
    """
    keys = space.spaces.keys()
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{name} must be a mapping with the keys {', '.join(sorted(keys))}; got "
            f"{type(value).__name__}"
        )
    if value.keys() != keys:
        missing, odd = sorted(keys - value.keys()), sorted(map(str, value.keys() - keys))
        found = [f"{text} {keys}" for text, keys in (("lacks", missing), ("has", odd)) if keys]
        raise ValueError(f"{name} {' and '.join(found)}; its keys must be {sorted(keys)}")
    for key in sorted(keys):
        part, place = space.spaces[key], f"{name}.{key}"
        if isinstance(part, spaces.Dict):
            yield from split(value[key], part, place)
        else:
            yield place, value[key], part


def to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Describe a space in plain JSON values.

    Bounds that are the same everywhere are written once; infinities are the strings "inf" and
    "-inf", since JSON has no word for them.

    Raises:
        UnsupportedSpaceError: The space is neither Box, Discrete nor Dict.
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {k: to_json(space.spaces[k]) for k in sorted(space)}}
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
    raise UnsupportedSpaceError(f"cannot write {space} to a checkpoint: no Box, Discrete or Dict")


def from_json(data: object, name: str = "space") -> spaces.Space[Any]:
    """Rebuild a space from `to_json`'s description; anything else is refused before allocation.

    Args:
        data: The parsed JSON.
        name: What the space is called in messages.

    Raises:
        CheckpointError: Unknown type or dtype, bad shape, or a missing or unexpected entry.
    """
    return _parse(data, name, MAX_ELEMENTS, MAX_DEPTH)


def _parse(data: object, name: str, room: int, depth: int) -> spaces.Space[Any]:
    """Rebuild a space of at most `room` numbers and `depth` Dicts inside one another."""
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{name}: expected a JSON object, got {type(data).__name__}")
    entries = {
        "Box": {"type", "dtype", "shape", "low", "high"},
        "Discrete": {"type", "n", "start", "dtype"},
        "Dict": {"type", "spaces"},
    }
    kind = str(data.get("type"))
    if kind not in entries:
        known = ", ".join(entries)
        raise CheckpointError(f"{name}: unknown space type {kind!r}; known are {known}")
    if set(data) != entries[kind]:
        odd = sorted(set(data) ^ entries[kind])
        raise CheckpointError(f"{name}: {kind} has missing or unexpected entries {odd}")
    if kind == "Dict":
        return _parse_dict(data["spaces"], name, room, depth)
    dtype = str(data["dtype"])
    if dtype not in DTYPES:
        raise CheckpointError(f"{name}: unknown dtype {dtype!r}")
    try:
        if kind == "Box":
            shape = _shape(data["shape"], name, room)
            low, high = (_array(data[k], shape, dtype, f"{name}.{k}") for k in ("low", "high"))
            return spaces.Box(low, high, shape, np.dtype(dtype).type)
        n, start = (_integer(data[k], f"{name}.{k}") for k in ("n", "start"))
        if n > room:
            raise CheckpointError(f"{name}.n: {n} is too large (at most 2^24 in all)")
        return spaces.Discrete(n, start=start, dtype=np.dtype(dtype).type)
    except CheckpointError:
        raise
    except (AssertionError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{name}: not a valid {kind}: {error}") from error


def _parse_dict(data: object, name: str, room: int, depth: int) -> spaces.Dict:
    if not isinstance(data, Mapping) or not data:
        raise CheckpointError(f"{name}.spaces: expected a JSON object that is not empty")
    if not depth:
        raise CheckpointError(f"{name}: more than {MAX_DEPTH} Dicts inside one another")
    parts: dict[str, spaces.Space[Any]] = {}
    for key, value in data.items():
        if not isinstance(key, str):
            raise CheckpointError(f"{name}.spaces: the name {key!r} is no string")
        part = parts[key] = _parse(value, f"{name}.{key}", room, depth - 1)
        room -= model_shape(part)[0] if isinstance(part, spaces.Dict) else leaf_size(part)
    return spaces.Dict(parts)


def _check_dict(space: spaces.Dict) -> None:
    """Refuse a Dict that could not be flattened, or not be read back from a checkpoint."""
    fault = _fault(space, MAX_DEPTH)
    if not fault and model_shape(space)[0] > MAX_ELEMENTS:
        fault = "together its entries have more than 2^24 numbers"
    if fault:
        raise UnsupportedSpaceError(
            f"observation space {space} is not supported: {fault}; a Dict may hold Box (no "
            "images), Discrete and Dict under names that are strings; change it with a wrapper of "
            "your own (gymnasium.wrappers.FilterObservation drops entries)"
        )


def _fault(space: spaces.Dict, depth: int, name: str = "") -> str:
    """Say what is wrong with a Dict; empty if nothing is."""
    place = f"its entry {name!r}" if name else "it"
    if not space.spaces:
        return f"{place} is empty"
    if not depth:
        return f"more than {MAX_DEPTH} Dicts stand inside one another"
    odd = [key for key in space.spaces if not isinstance(key, str)]
    if odd:
        return f"{place} has an entry named {odd[0]!r}"
    for key, part in space.spaces.items():
        inner = f"{name}.{key}" if name else key
        if type(part) is spaces.Dict:
            fault = _fault(part, depth - 1, inner)
            if fault:
                return fault
        elif type(part) not in (spaces.Box, spaces.Discrete):
            return f"its entry {inner!r} is {part}"
        elif part.dtype == np.uint8 and len(part.shape or ()) > 1:
            return f"its entry {inner!r} holds uint8 images"
    return ""


def _numbers(array: NDArray[Any]) -> Any:
    flat = [_number(x) for x in array.reshape(-1).tolist()]
    return flat[0] if flat and all(x == flat[0] for x in flat) else flat


def _number(x: float) -> float | str:
    if isinstance(x, float) and not math.isfinite(x):
        return "inf" if x > 0 else "-inf"
    return x


def _shape(data: object, name: str, room: int) -> tuple[int, ...]:
    if not isinstance(data, list) or len(data) > MAX_RANK:
        raise CheckpointError(f"{name}.shape: expected a list of at most {MAX_RANK} integers")
    shape = tuple(_integer(x, f"{name}.shape") for x in data)
    if any(x < 0 for x in shape) or math.prod(shape) > room:
        raise CheckpointError(
            f"{name}.shape: {list(shape)} has a bad size (at most 2^24 elements in all)"
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
