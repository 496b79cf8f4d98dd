"""Map, select and clear rows over nested tuples of tensors: the state of any mixer or model.

A *state* is a tensor, or a (named) tuple of states, whose tensors all have the batch as their first
axis. The all-zero state is the initial state, so starting a row afresh is one generic `clear`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

State: TypeAlias = Tensor | tuple["State", ...]

S = TypeVar("S", bound=State)


def map_state(function: Callable[..., Tensor], first: S, *others: S) -> S:
    """Apply a function to the tensors at the same place of one or several states.

    Args:
        function: Takes one tensor of each state and returns a tensor.
        first: The state whose structure the result has.
        others: States of the same structure.

    Returns:
        A new state; none of the arguments is changed.
    """
    if isinstance(first, Tensor):
        return function(first, *others)  # type: ignore[return-value]
    children = [map_state(function, *parts) for parts in zip(first, *others, strict=True)]
    if hasattr(first, "_fields"):  # a NamedTuple takes its fields one by one
        return type(first)(*children)
    return type(first)(children)


def where(rows: Tensor, new: S, old: S) -> S:
    """Take the marked rows from one state and the others from another.

    Where a state grows along its second axis, as caches of keys do, the shorter tensor gets zeros
    in front: nothing, as in the initial state.

    Args:
        rows: Which rows to take from `new`, shape (B,), bool.
        new: State of the marked rows.
        old: State of the other rows.

    Returns:
        The merged state.
    """
    return map_state(
        lambda a, b: torch.where(_column(rows, a), _grown(a, b), _grown(b, a)), new, old
    )


def clear(state: S, rows: Tensor) -> S:
    """Put the marked rows back to the initial (all-zero) state.

    Args:
        state: The state; it is not changed.
        rows: Which rows to clear, shape (B,), bool.

    Returns:
        A new state whose other rows are bit-equal to those of `state`.
    """
    return map_state(lambda x: x.masked_fill(_column(rows, x), 0), state)


def detach(state: S) -> S:
    """Cut the state from the graph that made it (truncated back-propagation through time)."""
    return map_state(Tensor.detach, state)


def leaves(state: State) -> list[Tensor]:
    """List the tensors of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    return [leaf for child in state for leaf in leaves(child)]


def unflatten(like: S, tensors: list[Tensor]) -> S:
    """Rebuild a state from the list that `leaves` makes of it.

    Args:
        like: A state of the wanted structure.
        tensors: Its tensors, in the order of `leaves`.

    Returns:
        A state of the structure of `like`.
    """
    source = iter(tensors)
    return map_state(lambda _: next(source), like)


def _grown(x: Tensor, other: Tensor) -> Tensor:
    """Give a tensor the length of another along the second axis, if that one is longer."""
    missing = 0 if x.shape == other.shape else other.shape[1] - x.shape[1]
    if missing <= 0:
        return x
    return torch.cat((x.new_zeros(len(x), missing, *x.shape[2:]), x), 1)


def _column(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(-1, *(1 for _ in like.shape[1:]))
