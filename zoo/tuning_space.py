"""How `zoo tune` draws each hyper-parameter: a function a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from decision_policies.learning.hyperparameters import check_names, names

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Draw: TypeAlias = "Callable[[BaseTrial], Any]"


def _among(name: str, *values: Any) -> Draw:
    return lambda trial: trial.suggest_categorical(name, values)


def _size(name: str, low: float, high: float) -> Draw:
    """A positive number whose order of magnitude is what matters."""
    return lambda trial: float(f"{trial.suggest_float(name, low, high, log=True):.3g}")


def _learning_rate(trial: BaseTrial) -> str:
    """A rate that falls to 0, as in the tables."""
    return f"lin_{trial.suggest_float('learning_rate', 1e-4, 5e-3, log=True):.3g}"


SPACE: Mapping[str, Draw] = {
    "learning_rate": _learning_rate,
    "d_model": _among("d_model", 32, 64, 128),
    "n_layers": lambda trial: trial.suggest_int("n_layers", 1, 4),
    "context_length": _among("context_length", 5, 10, 20, 40),
    "batch_size": _among("batch_size", 32, 64, 128, 256),
    "weight_decay": _size("weight_decay", 1e-5, 0.1),
    "ema_decay": _among("ema_decay", None, 0.99, 0.998),
    "max_grad_norm": _among("max_grad_norm", 0.25, 1.0),
    "warmup_steps": _among("warmup_steps", 0, 100, 500),
    "dropout": _among("dropout", 0.0, 0.1, 0.2),
    "remove_act_embs": _among("remove_act_embs", False, True),
    "return_mode": _among("return_mode", "decrement", "constant"),
    "balance_returns": _among("balance_returns", False, True),
    "embedding": _among("embedding", "layernorm", "tanh"),
    "d_state": _among("d_state", 8, 16, 32),
    "d_conv": _among("d_conv", 2, 4),
    "expand": _among("expand", 1, 2),
    "n_heads": _among("n_heads", 1, 2, 4),
    "top_fraction": _among("top_fraction", 0.05, 0.1, 0.3, 1.0),
}

USUAL = (
    "learning_rate",
    "d_model",
    "n_layers",
    "context_length",
    "batch_size",
    "weight_decay",
    "ema_decay",
)
"""What is searched unless something else is asked for, as far as the class has it."""


def choose(kind: type, wanted: Iterable[str] | None, fixed: Iterable[str]) -> list[str]:
    """Chooses what to search.

    Args:
        kind: Class of the system.
        wanted: Hyper-parameters that were asked for; None: the usual ones.
        fixed: Those that have a value already.

    Raises:
        ValueError: The class has no such hyper-parameter, it cannot be drawn, or it is fixed.
    """
    fixed = set(fixed)
    if wanted is None:
        return [name for name in USUAL if name in names(kind) and name not in fixed]
    chosen = list(dict.fromkeys(wanted))
    check_names(kind, dict.fromkeys(chosen))
    for name in chosen:
        if name not in SPACE:
            raise ValueError(f"--search {name}: it cannot be drawn; can be: {', '.join(SPACE)}")
        if name in fixed:
            raise ValueError(f"--search {name}: --hyperparams gives it a value; leave out one")
    return chosen


def draw(trial: BaseTrial, chosen: Iterable[str]) -> dict[str, Any]:
    """Draws values, or reads them where the trial has them already."""
    return {name: SPACE[name](trial) for name in chosen}
