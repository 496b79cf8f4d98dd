"""Spaces: which are supported, and which numbers a model sees of their observations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.errors import UnsupportedSpaceError

LARGEST = float(np.finfo(np.float32).max)
"""Models work in float32; beyond this, a finite float64 would become infinite."""
MAX_ELEMENTS = 1 << 24
MAX_DEPTH = 8
"""How many Dict and Tuple spaces may stand inside one another."""
SINGLE = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
"""Spaces whose elements are arrays: the leaves of Dict and Tuple."""
LEAST = 36
"""Pixels that an image has in each direction, at the least; what is smaller is a table."""


def check_supported(space: spaces.Space[Any], role: str) -> None:
    """Refuse a space that no part of the package can encode.

    Box, Discrete, MultiDiscrete and MultiBinary are supported, and, for observations, Dict and
    Tuple of supported spaces.

    Args:
        space: The observation or action space.
        role: "observation" or "action".

    Raises:
        UnsupportedSpaceError: The space is none of these; the message says what to do.
    """
    kinds = "Box, Discrete, MultiDiscrete and MultiBinary"
    if role == "action":
        fault = "it has parts" if parts(space) is not None else _fault(space, MAX_DEPTH)
        cure = (
            f"actions may be of {kinds}; make one of them of the parts, a Box of numbers or a "
            "MultiDiscrete of choices, with gymnasium.wrappers.TransformAction"
        )
    else:
        fault = _fault(space, MAX_DEPTH)
        cure = (
            f"observations may be of {kinds}, and of Dict (with names that are strings) and Tuple "
            "of these; change them with gymnasium.wrappers.TransformObservation, or drop entries "
            "of a Dict with FilterObservation"
        )
    if fault:
        raise UnsupportedSpaceError(f"{role} space {space} is not supported: {fault}; {cure}")


def is_flat(space: spaces.Space[Any]) -> bool:
    """Whether models see observations of a space as flat vectors: of all but Box and Discrete."""
    return type(space) not in (spaces.Box, spaces.Discrete)


def model_shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    """Shape of one observation as models see it.

    Returns:
        The space's own shape for Box, with the channels of images first, and () for Discrete; for
        all else (S,), the length of the flat vector that `gymnasium.spaces.flatten` makes: the
        entries of a Dict in the order of their names, those of a Tuple in their own; choices as
        one-hots, MultiBinary as 0 and 1, and images with their channels first.
    """
    if is_flat(space):
        return (sum(leaf_size(leaf) for _, leaf in leaves(space)),)
    shape = space.shape or ()
    return (shape[2], *shape[:2]) if has_channels_last(space) else shape


def leaf_size(leaf: spaces.Space[Any]) -> int:
    """Numbers that a space of arrays takes in a flat vector."""
    if isinstance(leaf, spaces.Discrete):
        return int(leaf.n)
    if isinstance(leaf, spaces.MultiDiscrete):
        return int(leaf.nvec.astype(np.int64).sum())
    return math.prod(leaf.shape or ())


def parts(space: spaces.Space[Any]) -> list[tuple[Any, spaces.Space[Any]]] | None:
    """List key and space of the parts of a Dict, by name, or of a Tuple; None for all else."""
    if isinstance(space, spaces.Dict):
        return [(key, space.spaces[key]) for key in sorted(space.spaces)]
    return list(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else None


def leaves(space: spaces.Space[Any], name: str = "") -> Iterator[tuple[str, spaces.Space[Any]]]:
    """List dotted name and space of all parts that are arrays, in the flat vector's order.

    Args:
        space: A supported space; one without parts is its only leaf.
        name: What the names begin with.
    """
    inner = parts(space)
    if inner is None:
        yield name, space
        return
    for key, part in inner:
        yield from leaves(part, f"{name}.{key}" if name else str(key))


def split(
    value: object, space: spaces.Space[Any], name: str
) -> Iterator[tuple[str, Any, spaces.Space[Any]]]:
    """Take a value apart, in the flat vector's order.

    Args:
        value: For a Dict, a mapping with exactly its keys; for a Tuple, a tuple or list of as many
            parts; what these hold is not looked at.
        space: A supported space; one without parts is its only leaf.
        name: What the value is called; the parts' dotted names begin with it.

    Returns:
        Dotted name, value and space of each leaf.

    Raises:
        TypeError: A value is no mapping, or no tuple.
        ValueError: A part is missing or unexpected.
    """
    inner = parts(space)
    if inner is None:
        yield name, value, space
        return
    if isinstance(space, spaces.Dict):
        _check_keys(value, space, name)
    elif not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be a tuple of {len(inner)} parts; got {type(value).__name__}")
    elif len(value) != len(inner):
        raise ValueError(f"{name} has {len(value)} parts; {space} has {len(inner)}")
    for key, part in inner:
        yield from split(value[key], part, f"{name}.{key}")  # type: ignore[index]


def flat(batch: NDArray[Any], leaf: spaces.Space[Any]) -> NDArray[Any]:
    """Make flat vectors, (n, S), of checked arrays (n, *shape) of a space without parts."""
    if isinstance(leaf, (spaces.Discrete, spaces.MultiDiscrete)):
        component, value = choices(leaf)
        hot: NDArray[np.bool_] = batch.reshape(len(batch), -1)[:, component] == value
        return hot
    return channels_first(batch, leaf).reshape(len(batch), leaf_size(leaf))


def choices(space: spaces.Space[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Say of each column of one-hots which component it is of, and which value it stands for.

    Returns:
        Index of the component in the flattened array, and the value, start included, (S,) each.
    """
    ends = whole_range(space)
    assert ends is not None, "a Box has no choices"
    least, counts = np.ravel(ends[0]), np.ravel(ends[1] - ends[0] + 1)
    component = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return component, np.arange(len(component)) - (first - least)[component]


def whole_range(space: spaces.Space[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Least and largest values of a space of choices, for each component; None for Box."""
    if isinstance(space, spaces.MultiBinary):
        return np.zeros(space.shape, np.int64), np.ones(space.shape, np.int64)
    if not isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return None
    counts = space.nvec if isinstance(space, spaces.MultiDiscrete) else space.n
    low = np.asarray(space.start, np.int64)
    return low, low + np.asarray(counts, np.int64) - 1


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether a space holds uint8 images (C, H, W) or (H, W, C), or single frames (H, W)."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    if len(space.shape) not in (2, 3):
        return False
    pixels = space.shape[:2] if has_channels_last(space) else space.shape[-2:]
    return min(pixels) >= LEAST


def is_frame(space: spaces.Space[Any]) -> bool:
    """Whether a space holds single uint8 frames (H, W), large enough to be no mere table."""
    return is_image(space) and len(space.shape or ()) == 2


def has_channels_last(space: spaces.Space[Any]) -> bool:
    """Whether a space holds uint8 images (H, W, C): their last axis is shorter than both others."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
        return False
    return space.shape[2] < min(space.shape[:2]) >= LEAST


def channels_first(batch: NDArray[Any], space: spaces.Space[Any]) -> NDArray[Any]:
    """View images (n, H, W, C) as (n, C, H, W); what is anything else is left as it is."""
    return np.moveaxis(batch, -1, -3) if has_channels_last(space) else batch


def _check_keys(value: object, space: spaces.Dict, name: str) -> None:
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


def _fault(space: spaces.Space[Any], depth: int, name: str = "") -> str:
    """Say what is wrong with a space; empty if nothing is."""
    place = f"its part {name!r}" if name else "it"
    if type(space) in SINGLE:
        return _fault_of_size(space, place)
    if type(space) not in (spaces.Dict, spaces.Tuple):
        return f"{place} is a {type(space).__name__}"
    keys = list(space.spaces) if isinstance(space, spaces.Dict) else []
    odd = [key for key in keys if not isinstance(key, str)]
    if odd:
        return f"{place} has an entry named {odd[0]!r}"
    inner = parts(space)
    if not inner:
        return f"{place} is empty"
    if not depth:
        return f"more than {MAX_DEPTH} Dicts or Tuples stand inside one another"
    deeper = (_fault(part, depth - 1, f"{name}.{key}" if name else str(key)) for key, part in inner)
    return next(filter(None, deeper), "") or _fault_of_size(space, place)


def _fault_of_size(space: spaces.Space[Any], place: str) -> str:
    size = sum(leaf_size(leaf) for _, leaf in leaves(space))
    if size > MAX_ELEMENTS:
        return f"{place} has more than 2^24 numbers"
    return "" if size else f"{place} holds no numbers"
