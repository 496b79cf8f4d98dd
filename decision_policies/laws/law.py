"""What a law is, how it says that it was broken, and how it compares two results."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from decision_policies import tree
from decision_policies.laws.cases import MODES, SPACES, Case
from decision_policies.spec import Inference
from decision_policies.tree import State

ALL = tuple(SPACES)
"""Every space kind."""

PAIR = ("box-discrete", "discrete-box")
"""Between them, these have every type of observation and action: enough for the slower laws."""

Array: TypeAlias = Tensor | ArrayLike


class Difference(AssertionError):
    """Two things that must agree do not; the message says which, and by how much."""


class LawBroken(AssertionError):
    """An algorithm, or a mixer, breaks a law.

    Attributes:
        subject: Name of the class.
        law: Name of the law.
        kind: Space kind in which it was broken; None for mixers.
        mode: Inference mode in which it was broken; None where the law is not about a single one.
        difference: What differed.
    """

    def __init__(
        self, subject: str, law: str, kind: str | None, mode: str | None, difference: str
    ) -> None:
        self.subject = subject
        self.law = law
        self.kind = kind
        self.mode = mode
        self.difference = difference
        named = (("space kind", kind), ("mode", mode))
        where = ", ".join(f"{name} {value}" for name, value in named if value is not None)
        sentence = law.replace("_", " ")
        place = f" ({where})" if where else ""
        super().__init__(f"{subject} breaks the law {sentence!r}{place}: {difference}")


@contextmanager
def naming(
    subject: str, law: str, kind: str | None = None, mode: str | None = None
) -> Iterator[None]:
    """Turn whatever goes wrong in a law into a `LawBroken` that says where."""
    try:
        yield
    except Difference as error:
        raise LawBroken(subject, law, kind, mode, str(error)) from error
    except Exception as error:
        text = f"it raised {type(error).__name__}: {error}"
        raise LawBroken(subject, law, kind, mode, text) from error


@dataclass(frozen=True)
class Law:
    """Something that holds for every algorithm; called with a case, it raises if it does not.

    Attributes:
        name: The law as a sentence, with underscores.
        description: First line of the law's docstring.
        kinds: The space kinds that it takes to see it broken.
        checks: What is checked, for each inference mode, or for None where there is one check.
    """

    name: str
    description: str
    kinds: tuple[str, ...]
    checks: Mapping[Inference | None, Callable[[Case], None]]

    def __call__(self, case: Case) -> None:
        """Check a case.

        Raises:
            LawBroken: The case breaks the law.
        """
        for mode, check in self.checks.items():
            with naming(case.algorithm.__name__, self.name, case.kind, mode):
                check(case)


def law(kinds: Sequence[str] = ALL) -> Callable[[Callable[[Case], None]], Law]:
    """Make a law of a function of a case."""

    def decorate(function: Callable[[Case], None]) -> Law:
        return _make(function, kinds, {None: function})

    return decorate


def law_in_modes(
    kinds: Sequence[str] = ALL, modes: Sequence[Inference] = MODES
) -> Callable[[Callable[[Case, Inference], None]], Law]:
    """Make a law of a function of a case and an inference mode, to hold in each mode."""

    def decorate(function: Callable[[Case, Inference], None]) -> Law:
        def in_mode(mode: Inference) -> Callable[[Case], None]:
            return lambda case: function(case, mode)

        return _make(function, kinds, {mode: in_mode(mode) for mode in modes})

    return decorate


def _make(
    function: Callable[..., None],
    kinds: Sequence[str],
    checks: Mapping[Inference | None, Callable[[Case], None]],
) -> Law:
    description = (function.__doc__ or "").split("\n")[0]
    return Law(function.__name__, description, tuple(kinds), checks)


def laws_of(module: ModuleType) -> dict[str, Law]:
    """Collect the laws that a module defines, in their order."""
    return {law.name: law for law in vars(module).values() if isinstance(law, Law)}


def require(holds: bool, otherwise: str) -> None:
    """Check a condition.

    Raises:
        Difference: It does not hold; `otherwise` is the message.
    """
    if not holds:
        raise Difference(otherwise)


def same(found: Array, expected: Array, what: str) -> None:
    """Check that two arrays or tensors are equal, bit for bit.

    Raises:
        Difference: They are not.
    """
    a, b = _numpy(found), _numpy(expected)
    require(a.shape == b.shape, f"{what} has the shape {a.shape}, expected {b.shape}")
    if not np.array_equal(a, b):
        raise Difference(f"{what} {_gap(a, b)}, and must not differ in a single bit")


def differ(a: Array, b: Array, what: str) -> None:
    """Check that two arrays or tensors are not the same throughout.

    Raises:
        Difference: They are; `what` is the message.
    """
    require(not np.array_equal(_numpy(a), _numpy(b)), what)


def close(found: Array, expected: Array, what: str, tolerance: float = 1e-5) -> None:
    """Check that two arrays or tensors differ by no more than a tolerance anywhere.

    Raises:
        Difference: They do, or one is not finite, or their shapes differ.
    """
    a, b = _numpy(found), _numpy(expected)
    require(a.shape == b.shape, f"{what} has the shape {a.shape}, expected {b.shape}")
    if not np.allclose(a, b, atol=tolerance, rtol=0):
        raise Difference(f"{what} {_gap(a, b)}, and may differ by {tolerance:g}")


def same_state(found: State, expected: State, what: str, tolerance: float = 1e-5) -> None:
    """Compare the tensors of two states: floats by tolerance, all else exactly.

    Tensors of different shapes are passed over: a cache may hold more than will be looked at.
    Whoever calls this must also compare what follows from the two states.

    Raises:
        Difference: The states differ in structure, in dtype or in value.
    """
    left, right = tree.leaves(found), tree.leaves(expected)
    count = f"{what} consists of {len(left)} tensors, expected {len(right)}"
    require(len(left) == len(right), count)
    for index, (a, b) in enumerate(zip(left, right, strict=True)):
        name = f"tensor {index} of {what}"
        require(a.dtype == b.dtype, f"{name} is {a.dtype}, expected {b.dtype}")
        if a.shape != b.shape:
            continue
        if a.is_floating_point() and tolerance:
            close(a, b, name, tolerance)
        else:
            same(a, b, name)


@contextmanager
def one_warning(pattern: str) -> Iterator[None]:
    """Check that a block gives one warning that matches a pattern; others are passed on.

    Raises:
        Difference: There was none, or more than one.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    others = [w for w in caught if not re.search(pattern, str(w.message))]
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    count = len(caught) - len(others)
    require(count == 1, f"{count} warnings match {pattern!r}, expected one")


@contextmanager
def no_warning() -> Iterator[None]:
    """Turn warnings into errors, which break the law."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _numpy(values: Array) -> np.ndarray[Any, Any]:
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)


def _gap(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> str:
    """Say where two arrays of one shape differ most."""
    gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    place = np.unravel_index(int(np.nan_to_num(gap, nan=np.inf).argmax()), gap.shape)
    index = f" at {list(map(int, place))}" if place else ""
    return f"differs by {gap[place]:.3g}{index} ({a[place]} rather than {b[place]})"


def is_zero(state: State) -> bool:
    """Whether every tensor of a state is all zero."""
    return all(not bool(torch.count_nonzero(leaf)) for leaf in tree.leaves(state))
