"""Spaces: which are supported, and which numbers a model sees of their observations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from decision_policies.errors import UnsupportedSpaceError

LARGEST = float(np.finfo(np.float32).max)
"""Models work in float32; beyond this, a finite float64 would become infinite."""
MAX_ELEMENTS = 1 << 24
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
