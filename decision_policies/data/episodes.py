"""EpisodeReader: logged episodes in, checked and packed rows out, or the place of the fault."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.errors import DatasetError, UnsupportedSpaceError
from decision_policies.spaces import (
    channels_first,
    check_supported,
    flat,
    is_flat,
    is_image,
    parts,
    split,
    whole_range,
)

EXACT = 1 << 24
"""Up to here, float32 holds every whole number."""


@dataclass(frozen=True)
class Columns:
    """Columns of packed rows; reward, return-to-go and timestep are the last three.

    Attributes:
        observations: Columns of the flattened observation; none for images.
        actions: Columns of the flattened action.
    """

    observations: slice
    actions: slice


Piece: TypeAlias = tuple[NDArray[np.float32], NDArray[np.uint8] | None, NDArray[np.float32]]
"""Rows, images and final observation of one episode; see `EpisodeReader.read`."""


class Packed(NamedTuple):
    """Episodes one after the other; each field is described at `Trajectories`.

    Attributes:
        rows: (N, C) float32.
        images: (N, *observation) uint8, or None.
        offsets: (E + 1,) int64.
        final_observations: (E, S) float32, or None for images.
    """

    rows: NDArray[np.float32]
    images: NDArray[np.uint8] | None
    offsets: NDArray[np.int64]
    final_observations: NDArray[np.float32] | None

    def digest(self) -> str:
        """SHA-256 of what is learnt from, in hex; the final observations have no part in it."""
        digest = hashlib.sha256()
        for array in (self.rows, self.offsets, self.images):
            digest.update(b"" if array is None else np.ascontiguousarray(array).data)
        return digest.hexdigest()


def returns_to_go(rewards: NDArray[Any]) -> NDArray[np.float64]:
    """Sum each reward of one episode and all later ones: one reverse cumulative sum in float64.

    Args:
        rewards: (T,).

    Returns:
        (T,); entry t is r_t + r_{t+1} + ... + r_{T-1}.
    """
    return np.cumsum(rewards[::-1], dtype=np.float64)[::-1]


class EpisodeReader:
    """Checks and packs episodes of given spaces.

    Args:
        observation_space: A supported space.
        action_space: A supported space, without parts.

    Raises:
        UnsupportedSpaceError: A space is not supported, or has whole numbers beyond 2^24.
    """

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        check_supported(observation_space, "observation")
        check_supported(action_space, "action")
        for space in (observation_space, action_space):
            if np.abs(whole_range(space) or (0,)).max() > EXACT:
                raise UnsupportedSpaceError(
                    f"{space} has values beyond {EXACT}, which float32 rows cannot tell apart"
                )
        self.observation_space = observation_space
        self.action_space = action_space
        self.images = is_image(observation_space)

    def pack(self, episodes: Iterable[Mapping[str, Any] | object]) -> Packed:
        """Pack episodes one after the other; see `read`.

        Raises:
            DatasetError: As in `read`, or there is no episode.
        """
        rows, pictures, finals = [], [], []
        for row, picture, final in self.pieces(episodes):
            rows.append(row)
            if picture is None:
                finals.append(final)
            else:
                pictures.append(picture)
        return Packed(
            np.concatenate(rows),
            np.concatenate(pictures) if pictures else None,
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
            np.stack(finals) if finals else None,
        )

    def pieces(self, episodes: Iterable[Mapping[str, Any] | object]) -> Iterator[Piece]:
        """Pack one episode after the other; see `read`.

        Raises:
            DatasetError: As in `read`, or there is no episode.
        """
        index = -1
        for index, episode in enumerate(episodes):
            yield self.read(index, episode)
        if index < 0:
            raise DatasetError("the dataset has no episode; at least one is needed")

    def read(self, index: int, episode: Mapping[str, Any] | object) -> Piece:
        """Pack one episode of T steps.

        Args:
            index: Its number, for messages.
            episode: Holds `observations` (T + 1 or T), `actions` (T) and `rewards` (T). For a Dict
                space the observations are a mapping of arrays, (T + 1 or T, ...) each, for a Tuple
                space a tuple of such arrays; or, for both, a list of observations, one a step.

        Returns:
            Rows (T, C) float32; images (T, *observation) uint8, channels first, where observations
            are images; and the last observation that there is, flat, (S,) float32.

        Raises:
            DatasetError: Names the first bad (episode, step, field).
        """
        rewards = _column(index, "rewards", _entry(index, episode, "rewards"))
        length = len(rewards)
        if not length:
            raise DatasetError(f"episode {index} is empty; leave it out")
        given = _entry(index, episode, "actions")
        actions = self._values(index, "actions", given, self.action_space)
        observations = self._observations(index, _entry(index, episode, "observations"))
        if len(actions) != length or len(observations) not in (length, length + 1):
            raise DatasetError(
                f"episode {index} is ragged: {len(observations)} observations, {len(actions)} "
                f"actions, {length} rewards; T actions need T rewards and T + 1 observations "
                "(or T, without the final one)"
            )
        with np.errstate(over="ignore"):  # what overflows is named below
            final = observations[-1].reshape(-1).astype(np.float32)
        observations = observations[:length]
        tail = np.stack((rewards, returns_to_go(rewards), np.arange(length)), 1)
        parts = [actions.reshape(length, -1), tail]
        if not self.images:
            parts.insert(0, observations.reshape(length, -1))
        with np.errstate(over="ignore"):
            rows = np.concatenate(parts, 1, dtype=np.float32, casting="unsafe")
        _check_packed(index, rows)
        _check_packed(index, final[None], step=length)
        pictures = np.ascontiguousarray(observations, np.uint8) if self.images else None
        return rows, pictures, final

    def _observations(self, index: int, value: object) -> NDArray[Any]:
        """Check observations; make them flat vectors (T or T + 1, S) where models see such."""
        space = self.observation_space
        if not is_flat(space):
            return channels_first(self._values(index, "observations", value, space), space)
        vectors: dict[str, NDArray[Any]] = {}
        try:
            columns = _columns(value, space, "observations")
            fields = list(split(columns, space, "observations"))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"episode {index}: {error}") from error
        for name, field, leaf in fields:
            vectors[name] = flat(self._values(index, name, field, leaf), leaf)
        lengths = {name: len(vector) for name, vector in vectors.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} has {n}" for name, n in lengths.items())
            raise DatasetError(f"episode {index} is ragged: {found} steps")
        return np.concatenate(list(vectors.values()), 1, dtype=np.float64)

    def _values(
        self, index: int, name: str, value: object, space: spaces.Space[Any]
    ) -> NDArray[Any]:
        """Check the values of one field, or of one part of it, against its space."""
        array = _array(index, name, value)
        shape = space.shape or ()
        if array.shape[1:] != shape:
            raise DatasetError(
                f"episode {index}: {name} have shape {array.shape[1:]} a step, but the space "
                f"{space} needs {shape}"
            )
        _check_finite(index, name, array)
        if is_image(space):
            _check_pixels(index, name, array)
        elif not isinstance(space, spaces.Box):
            _check_choices(index, name, array, space)
        return array


def _columns(value: object, space: spaces.Space[Any], name: str) -> object:
    """Turn a list of observations, as a loop collects them, into arrays of each of their parts."""
    inner = parts(space)
    steps = isinstance(value, list) or (isinstance(value, tuple) and isinstance(space, spaces.Dict))
    if inner is None or not steps or not value:
        return value
    assert isinstance(value, (list, tuple))
    for step, one in enumerate(value):
        list(split(one, space, f"{name}[{step}]"))  # names what is missing
    columns = {key: _columns([one[key] for one in value], part, name) for key, part in inner}
    return columns if isinstance(space, spaces.Dict) else tuple(columns.values())


def _entry(index: int, episode: Mapping[str, Any] | object, name: str) -> object:
    if isinstance(episode, Mapping):
        if name not in episode:
            raise DatasetError(
                f"episode {index} has no {name!r}; it has {sorted(map(str, episode))}"
            )
        return episode[name]
    if not hasattr(episode, name):
        raise DatasetError(f"episode {index}, a {type(episode).__name__}, has no {name!r}")
    return getattr(episode, name)


def _array(index: int, name: str, value: object) -> NDArray[Any]:
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except (ValueError, TypeError, RuntimeError) as error:  # of NumPy; of torch, if there are many
        raise DatasetError(f"episode {index}: {name} are no regular array: {error}") from error
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        raise DatasetError(
            f"episode {index}: {name} must be an array of numbers, a step a row; got "
            f"{type(value).__name__} of dtype {array.dtype}"
        )
    return array


def _column(index: int, name: str, value: object) -> NDArray[Any]:
    array = _array(index, name, value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DatasetError(f"episode {index}: {name} must be one number a step, got {array.shape}")
    _check_finite(index, name, array)
    return array


def _check_finite(index: int, name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        places = np.argwhere(~np.isfinite(array))
        first = tuple(int(i) for i in places[0])
        raise DatasetError(
            f"episode {index}, step {first[0]}: {name} hold {array[first]} "
            f"({len(places)} such values in this episode); remove or repair them"
        )


def _check_packed(index: int, rows: NDArray[np.float32], step: int = 0) -> None:
    """Refuse finite float64 values, or sums of them, that float32 cannot hold."""
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise DatasetError(
            f"episode {index}, step {step + bad[0]}: a value or the return-to-go is beyond "
            f"float32's largest, {np.finfo(np.float32).max:.3g}; rescale the data"
        )


def _check_pixels(index: int, name: str, array: NDArray[Any]) -> None:
    """Refuse frames that a cast to uint8 would change, such as floats from 0 to 1."""
    if array.dtype == np.uint8:
        return
    bad = np.argwhere((array < 0) | (array > 255) | (array != np.floor(array)))
    if len(bad):
        raise DatasetError(
            f"episode {index}, step {bad[0][0]}: {name} hold {array[tuple(bad[0])]}, which "
            "is no pixel; images are whole numbers from 0 to 255"
        )


def _check_choices(index: int, name: str, array: NDArray[Any], space: spaces.Space[Any]) -> None:
    """Refuse what is no choice of a Discrete, MultiDiscrete or MultiBinary space."""
    if array.dtype.kind == "f":
        raise DatasetError(
            f"episode {index}: {name} are {array.dtype}, but the space {space} needs "
            "integers; convert them, or give a Box space"
        )
    ends = whole_range(space)
    assert ends is not None, "the space is no Box"
    outside = (array < ends[0]) | (array > ends[1])
    if outside.any():
        place = tuple(int(i) for i in np.argwhere(outside)[0])
        low, high = (np.broadcast_to(end, array.shape)[place] for end in ends)
        steps = int(outside.reshape(len(array), -1).any(1).sum())
        raise DatasetError(
            f"episode {index}, step {place[0]}: {name} hold {array[place]}, outside "
            f"{low} to {high} ({steps} such steps in this episode)"
        )
