"""Checks at the policy's door: what users pass in becomes arrays, or one clear error."""

from __future__ import annotations

import reprlib
import threading
from typing import Any, SupportsFloat

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from decision_policies.returns import ReturnStatistics, asked_for
from decision_policies.spaces import (
    LARGEST,
    channels_first,
    flat,
    is_flat,
    parts,
    split,
    whole_range,
)


class Turn:
    """Lets one call at a time into a policy; a copy of it, or what is unpickled, is a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"thread {threading.current_thread().name!r} called a policy that another thread "
                "is using; its memory is one session, so give each thread its own: policy.fork()"
            )

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        return Turn, ()


def observation(
    value: object, space: spaces.Space[Any], role: str = "observation"
) -> tuple[Tensor, bool]:
    """Copy an observation, or a batch of them, into a tensor with a leading axis n.

    Args:
        value: What the user passed.
        space: A supported observation space.
        role: What it is called in messages.

    Returns:
        The batch (n, *observation), float32 for Box, but uint8 as it is, with the channels of
        images first, int64 for Discrete, and flat (n, S) and float32 for all else; and whether the
        observation came without a leading axis.

    Raises:
        TypeError: The value is no array of numbers, no mapping for a Dict, no tuple for a Tuple.
        ValueError: Its shape or values do not fit the space.
    """
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict):
        pair = type(space) is not spaces.Tuple or len(space.spaces) != 2
        if pair or type(space.spaces[1]) is not spaces.Dict:  # type: ignore[attr-defined]
            raise TypeError(
                "predict was given the pair (observation, info) that env.reset() returns; "
                "unpack it first: observation, info = env.reset()"
            )
    if is_flat(space):
        return _flattened(value, space, role)
    batch, single = _array(value, space, role)
    return torch.from_numpy(channels_first(batch, space)), single


def _array(value: object, space: spaces.Space[Any], role: str) -> tuple[NDArray[Any], bool]:
    """Copy a value of a space without parts as an array (n, *shape), whether it had no axis n."""
    array = _numbers(value, role)
    shape = space.shape or ()
    single = array.shape == shape
    if not single and (array.ndim == 0 or array.shape[1:] != shape):
        raise ValueError(
            f"unexpected {role} shape {array.shape}: the space {space} needs {shape}, "
            f"or (n, {', '.join(map(str, shape))}) for n environments"
        )
    if not single and not len(array):
        raise ValueError("got a batch of 0 observations; pass at least one")
    batch = array[None] if single else array
    if not isinstance(space, spaces.Box):
        return _whole(batch, space, role), single
    if space.dtype == np.uint8:
        _check_whole(batch, np.uint8(0), np.uint8(255), role)
        return batch.astype(np.uint8), single
    return _float32(batch, role), single


def rewards(value: ArrayLike | SupportsFloat, rows: int) -> NDArray[np.float64]:
    """Check rewards: finite, a number for all rows or one for each.

    Raises:
        TypeError: They are no numbers.
        ValueError: A reward is not finite, or their number is not `rows`.
    """
    if isinstance(value, float) and rows == 1 and abs(value) <= LARGEST:  # the common case, soon
        return np.array([value], np.float64)
    array = _numbers(value, "reward").astype(np.float64)
    if rows == 1 and array.size == 1:
        array = array.reshape(1)
    if array.shape not in ((), (rows,)):
        raise ValueError(
            f"got rewards of shape {array.shape} for {rows} environments; "
            f"give one number, or one for each environment, ({rows},)"
        )
    good = np.abs(array) <= LARGEST
    if not good.all():
        row = int(np.argmin(good.reshape(-1)))
        raise ValueError(
            f"the reward of environment {row} is {array.reshape(-1)[row]}; rewards must be "
            "finite in float32"
        )
    return array if array.shape else np.full(rows, array)


def flags(value: ArrayLike | bool, rows: int) -> NDArray[np.bool_]:
    """Check row flags: one bool for all rows or one for each.

    Raises:
        TypeError: They are no bools; the numbers 0 and 1 pass for them.
        ValueError: Their number is not `rows`, or a number is neither 0 nor 1.
    """
    if isinstance(value, bool):  # the common case, soon
        return np.full(rows, value)
    array = _numbers(value, "flag (episode_start, terminated, truncated)")
    if array.shape not in ((), (rows,)):
        raise ValueError(
            f"got flags of shape {array.shape} (episode_start, terminated, truncated) for "
            f"{rows} environments; give one bool, or one for each environment, ({rows},)"
        )
    if array.dtype.kind != "b" and not ((array == 0) | (array == 1)).all():
        raise ValueError(
            f"episode_start, terminated and truncated must be False or True, got {array}"
        )
    return array.astype(bool) if array.shape else np.full(rows, bool(array))


def actions(value: ArrayLike, space: spaces.Space[Any], rows: int, *, single: bool) -> NDArray[Any]:
    """Check executed actions and give them the shape (n, *action).

    A single row may come without its leading axis, whatever way its observation came: tools that
    batch one environment (Stable-Baselines3's DummyVecEnv) step it with the bare action.

    Raises:
        TypeError: They are no numbers.
        ValueError: Wrong shape, not finite, or out of the range of a space of choices.
    """
    array = _numbers(value, "executed action")
    shape = space.shape or ()
    if (single or rows == 1) and array.shape == shape:
        array = array[None]
    if array.shape != (rows, *shape):
        cure = "; wrap all environments together, not each" if array.shape == shape else ""
        raise ValueError(
            f"got executed actions of shape {array.shape}; expected {(rows, *shape)} for "
            f"{rows} environments{cure}"
        )
    if isinstance(space, spaces.Box):
        return _float32(array, "action")
    return _whole(array, space, "action")


def target_return(value: ArrayLike, returns: ReturnStatistics | None) -> NDArray[np.float64]:
    """Check the return to ask for: a finite number or a word, or one for each environment.

    Args:
        value: What the user passed.
        returns: Those of the training data, which words such as "p90" refer to.

    Raises:
        TypeError: It is no number.
        ValueError: It is not finite, has more than one axis, or is empty; or a word asks for
            nothing that is known.
    """
    if isinstance(value, str):
        value = asked_for(value, returns)
    elif isinstance(value, (list, tuple)):
        value = [asked_for(each, returns) if isinstance(each, str) else each for each in value]
    array = _numbers(value, "target_return").astype(np.float64)
    if array.ndim > 1 or not array.size or not (np.abs(array) <= LARGEST).all():
        raise ValueError(
            "target_return must be a finite number, or one for each environment; got "
            f"{array.tolist()}"
        )
    return array


def action_tensor(array: NDArray[Any]) -> Tensor:
    """Copy actions (n, *action) into a tensor: float32 for Box, int64 for choices."""
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))


def check_same_space(found: spaces.Space[Any], expected: spaces.Space[Any], role: str) -> None:
    """Compare kind and size of two spaces; dtype and bounds may differ (float64 against float32).

    Of spaces with parts the names of the parts, and kind and size of each, are compared.

    Raises:
        ValueError: They differ in kind, shape or number of values.
    """
    same = type(found) is type(expected) and found.shape == expected.shape
    inner, wanted = dict(parts(found) or ()), dict(parts(expected) or ())
    same = same and inner.keys() == wanted.keys()
    if same:
        for key, part in inner.items():
            check_same_space(part, wanted[key], f"{role}.{key}")
        same = bool(np.array_equal(whole_range(found) or (), whole_range(expected) or ()))
    if not same:
        raise ValueError(f"the {role} space is {found}, but the policy was made for {expected}")


def _flattened(value: object, space: spaces.Space[Any], role: str) -> tuple[Tensor, bool]:
    """Check a value part by part, and make one flat vector (n, S) of it."""
    vectors, rows = [], {}
    single = False
    for name, part, leaf in split(value, space, role):
        batch, single = _array(part, leaf, name)
        vectors.append(flat(batch, leaf))
        rows[name] = None if single else len(batch)
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{name} {n or 'one without an axis'}" for name, n in rows.items())
        raise ValueError(f"the parts differ in their number of environments: {found}")
    return torch.from_numpy(np.concatenate(vectors, 1, dtype=np.float32)), single


def _numbers(value: object, role: str) -> NDArray[Any]:
    """Turn what holds numbers into an array, which may still share the user's memory."""
    if isinstance(value, Tensor):
        value = _copied(value, role)
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"the {role} is no regular array: {error}") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"the {role} must hold numbers, got {reprlib.repr(value)} "
            f"({type(value).__name__} of dtype {array.dtype})"
        )
    return array


def _copied(value: Tensor, role: str) -> NDArray[Any]:
    """Bring a tensor, of whatever device, to numpy, which knows no bfloat16."""
    try:
        here = value.detach().cpu()
        array: NDArray[Any] = (here.float() if here.dtype == torch.bfloat16 else here).numpy()
    except (RuntimeError, TypeError) as error:
        raise TypeError(
            f"the {role} is a tensor of {value.dtype} on {value.device} ({value.layout}), whose "
            "numbers cannot be read; pass an array, or a dense tensor of floats or whole numbers"
        ) from error
    return array


def _whole(array: NDArray[Any], space: spaces.Space[Any], role: str) -> NDArray[np.int64]:
    """Check and copy the numbers of choices."""
    ends = whole_range(space)
    assert ends is not None, "the space is no Box"
    _check_whole(array, *ends, role)
    return array.astype(np.int64)


def _check_whole(batch: NDArray[Any], low: Any, high: Any, role: str) -> None:
    good = (batch >= low) & (batch <= high)
    if batch.dtype.kind == "f":
        good &= batch == np.floor(batch)
    if not good.all():
        place = _first(~good)
        least, largest = (np.broadcast_to(end, batch.shape)[place] for end in (low, high))
        raise ValueError(
            f"the {role} of environment {place[0]} {_holds(batch, place)}; it must be a whole "
            f"number from {least} to {largest} (nothing has changed, so you can try again)"
        )


def _float32(batch: NDArray[Any], role: str) -> NDArray[np.float32]:
    """Copy as float32, the precision of the model; what overflows there is not finite."""
    if batch.dtype == np.float32:
        copied = batch.copy()
    else:
        with np.errstate(over="ignore"):
            copied = batch.astype(np.float32)
    if np.count_nonzero(np.isfinite(copied)) < copied.size:  # sooner than all()
        place = _first(~np.isfinite(copied))
        raise ValueError(
            f"the {role} of environment {place[0]} {_holds(batch, place)}; it must be finite in "
            "float32 (nothing has changed, so you can try again)"
        )
    return copied


def _first(bad: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def _holds(batch: NDArray[Any], place: tuple[int, ...]) -> str:
    index = place[1] if len(place) == 2 else place[1:]
    return f"is {batch[place]}" if len(place) == 1 else f"holds {batch[place]} at index {index}"
