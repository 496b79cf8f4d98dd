"""check_algorithm: does an algorithm, a third party's included, keep the laws?"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.laws import algorithm, memory, model, policy
from decision_policies.laws.cases import SPACES, Case
from decision_policies.laws.law import Law, laws_of
from decision_policies.learning import hyperparameters as settings

LAWS: dict[str, Law] = {
    name: law
    for module in (model, memory, policy, algorithm)
    for name, law in laws_of(module).items()
}
"""What holds for every algorithm, by name; in this order a broken law is best told from another."""


def check_algorithm(
    cls: type[SequenceAlgorithm],
    *,
    kinds: Sequence[str] = tuple(SPACES),
    laws: Iterable[str] | None = None,
    progress: Callable[[str], None] | None = None,
    **hyperparameters: Any,
) -> None:
    """Check that an algorithm keeps the laws that the package's own systems keep.

    Tiny instances of the class learn and act on random data, in several kinds of spaces and in
    every inference mode: models step as they see windows, see no label and no future, and keep
    rows apart; policies forget what they should; learning can be repeated, interrupted, saved and
    resumed, bit for bit. It takes some ten seconds on a CPU. Call it in the main thread: elsewhere
    Ctrl-C, which one of the laws presses, cannot arrive.

    Args:
        cls: The class, not an instance.
        kinds: Space kinds, keys of `decision_policies.laws.SPACES`. A law that needs none of them
            is checked in the first.
        laws: Names of the laws to check, keys of `decision_policies.laws.LAWS`; None is all.
        progress: Called with a line before each check, such as `print`.
        **hyperparameters: What the tiny instances differ by from the package's choice of small
            `d_model`, `n_layers`, `context_length`, `batch_size`, `warmup_steps` and
            `learning_rate` (those that the class has). Give what the class cannot do without.

    Raises:
        LawBroken: The class breaks a law; the message names it, the space kind, the inference mode
            and what differed.
        TypeError: `cls` is no class of algorithms, or a hyper-parameter has the wrong type.
        ValueError: There is no such kind, law or hyper-parameter, or a value is out of range.

    Example:
        >>> from decision_policies import DeMa
        >>> from decision_policies.laws import check_algorithm
        >>> check_algorithm(DeMa, kinds=["box-discrete"], d_model=8, n_layers=1)
    """
    if not (inspect.isclass(cls) and issubclass(cls, SequenceAlgorithm)):
        raise TypeError(f"check_algorithm takes a subclass of SequenceAlgorithm, got {cls!r}")
    settings.check_names(cls, hyperparameters)
    names = list(LAWS) if laws is None else list(laws)
    _check_known("law", names, LAWS)
    _check_known("space kind", kinds, SPACES)
    if Case(cls, kinds[0], hyperparameters).steps < 2:
        raise ValueError("context_length must be at least 2: a staggered memory restarts half-way")
    for name in names:
        law = LAWS[name]
        for kind in [k for k in kinds if k in law.kinds] or kinds[:1]:
            if progress is not None:
                progress(f"{name.replace('_', ' ')} ({kind})")
            law(Case(cls, kind, hyperparameters))


def _check_known(what: str, given: Sequence[str], known: Iterable[str]) -> None:
    """Check that names are given, and that there are such things."""
    if not given:
        raise ValueError(f"no {what} was given")
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"
            raise ValueError(f"there is no {what} {name!r}{hint}")
