"""Hyper-parameters as dataclass fields: written once, with their range, checked in one place."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")

MANNER = {"manner": True}
"""Metadata of a field that is no hyper-parameter: a manner of speaking, which is not saved."""


def setting(default: T, low: float | None = None, high: float | None = None) -> T:
    """Declare a hyper-parameter with its default and, for numbers, its range (both ends allowed).

    Example:
        >>> @dataclasses.dataclass(kw_only=True)
        ... class Example:
        ...     width: int = setting(128, 1, 8192)
    """
    field: T = dataclasses.field(default=default, metadata={"low": low, "high": high})
    return field


def names(algorithm: type) -> list[str]:
    """Names of the hyper-parameters of an algorithm class, in order."""
    fields = dataclasses.fields(algorithm)
    return [f.name for f in fields if f.init and not f.metadata.get("manner")]


def check(algorithm: object) -> None:
    """Check type and range of every hyper-parameter of an instance.

    Raises:
        TypeError: A value has another type than its annotation; bool does not pass for int.
        ValueError: A value is out of range or not among its choices.
    """
    kind = type(algorithm)
    hints = get_type_hints(kind)
    for field in dataclasses.fields(algorithm):  # type: ignore[arg-type]
        if not field.init:
            continue
        value = getattr(algorithm, field.name)
        name = f"{kind.__name__}({field.name}=...)"
        _check_type(name, value, hints[field.name])
        low, high = field.metadata.get("low"), field.metadata.get("high")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            inside = abs(value) <= sys.float_info.max and (low is None or value >= low)
            if not inside or (high is not None and value > high):
                limits = "finite" if low is None else f"at least {low} and finite"
                limits = limits if high is None else f"from {low} to {high}"
                raise ValueError(f"{name} must be {limits}, got {value!r}")


def check_updates(total_timesteps: object, log_interval: int) -> None:
    """Check how long `learn` is asked to train, and how often to log.

    Raises:
        ValueError: The number of updates is negative or not whole, or the interval is below 1.
    """
    whole = isinstance(total_timesteps, (int, np.integer)) and total_timesteps is not True
    if not whole or total_timesteps < 0 or log_interval < 1:  # type: ignore[operator]
        raise ValueError(
            "total_timesteps must be a whole number of at least 0 and log_interval at least 1, "
            f"got {total_timesteps!r} and {log_interval!r}"
        )


def check_names(algorithm: type, given: Mapping[str, Any]) -> None:
    """Check that all names are hyper-parameters of an algorithm class.

    Raises:
        ValueError: One is not; the message names the closest that is.
    """
    known = names(algorithm)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(known)}"
            raise ValueError(f"{algorithm.__name__} has no hyper-parameter {name!r}{hint}")


def _check_type(name: str, value: object, hint: Any) -> None:
    options = _options(hint)
    choices = [o for o in options if get_origin(o) is Literal]
    if choices:
        allowed = [c for o in choices for c in get_args(o)]
        if value in allowed or (value is None and type(None) in options):
            return
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
    if any(_fits(value, option) for option in options):
        return
    wanted = " or ".join(
        getattr(o, "__name__", str(o)).replace("NoneType", "None") for o in options
    )
    raise TypeError(f"{name} must be {wanted}, got {value!r} ({type(value).__name__})")


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: object, option: Any) -> bool:
    if get_origin(option) is dict:
        return isinstance(value, dict)
    if get_origin(option) is not None:  # Callable[...]: all that can be seen is that it is one
        return callable(value)
    if option is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, option)
