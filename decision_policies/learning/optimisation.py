"""The parts of an update: learning-rate schedules, weight decay, the guard against divergence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from decision_policies.errors import TrainingDivergedError

Schedule: TypeAlias = Callable[[float], float]
"""Learning rate as a function of the remaining progress, which falls from 1 to 0 (as in SB3)."""

NAMED = re.compile(r"(lin|cos)_([0-9.eE+-]+)")


def make_schedule(learning_rate: float | str | Schedule) -> Schedule:
    """Make a schedule of a number, a name, or a function.

    Args:
        learning_rate: A constant; "lin_1e-3", which falls from 1e-3 to 0 in a straight line;
            "cos_1e-3", which falls from 1e-3 to a tenth of it along a cosine; or a function of the
            remaining progress, from 1 to 0.

    Raises:
        ValueError: An unknown name or a rate that is not positive.
    """
    if callable(learning_rate):
        return learning_rate
    shape, rate = "constant", learning_rate
    if isinstance(learning_rate, str):
        match = NAMED.fullmatch(learning_rate)
        try:
            shape, rate = (match[1], float(match[2])) if match else ("", 0.0)
        except ValueError:
            rate = 0.0
    if not (isinstance(rate, (int, float)) and math.isfinite(rate) and rate > 0):
        raise ValueError(
            "learning_rate must be a positive number, 'lin_<rate>', 'cos_<rate>' or a function of "
            f"the remaining progress; got {learning_rate!r}"
        )
    start = float(rate)
    if shape == "lin":
        return lambda remaining: start * remaining
    if shape == "cos":
        return lambda remaining: start * (0.55 - 0.45 * math.cos(math.pi * remaining))
    return lambda remaining: start


def make_optimizer(
    model: nn.Module, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """Make AdamW with weight decay on the matrices of linear and convolution layers only.

    Biases, norms, embeddings, and Mamba's A_log and D shrink nothing that weight decay is meant
    to shrink.
    """
    decay: list[Tensor] = []
    rest: list[Tensor] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            matrix = isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and name == "weight"
            (decay if matrix else rest).append(parameter)
    groups = [
        {"params": decay, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in decay + rest)
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=fused)
    if fused:  # torch's fused step does not count as a change, and a policy in action must see it
        optimizer.register_step_post_hook(lambda *_: _changed(decay + rest))
    return optimizer


def _changed(weights: list[Tensor]) -> None:
    for weight in weights:
        torch.autograd.graph.increment_version(weight)


class DivergenceGuard:
    """Keeps the weights of the last update whose loss and gradient were finite.

    Args:
        model: The model that is trained.
    """

    def __init__(self, model: nn.Module) -> None:
        self._live: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._good = [p.detach().clone() for p in self._live]

    @torch.no_grad()
    def check(self, values: Mapping[str, Tensor | float], step: int) -> None:
        """Remember the present weights if all values are finite; else restore the last good ones.

        Args:
            values: Loss, gradient norm and what else describes the update about to be made.
            step: Its number.

        Raises:
            TrainingDivergedError: A value is not finite.
        """
        bad = {name: float(v) for name, v in values.items() if not math.isfinite(float(v))}
        if not bad:
            torch._foreach_copy_(self._good, self._live)
            return
        torch._foreach_copy_(self._live, self._good)
        described = ", ".join(f"{name} = {float(v):g}" for name, v in values.items())
        raise TrainingDivergedError(
            f"training diverged at update {step}: {', '.join(bad)} not finite ({described}); the "
            "weights are those of the last finite update. Lower learning_rate, or look for extreme "
            "values in the data"
        )

    @torch.no_grad()
    def check_weights(self, step: int) -> None:
        """Check the weights after the last update, which no later loss has judged.

        Raises:
            TrainingDivergedError: One is not finite; the last good ones are back.
        """
        if all(bool(p.isfinite().all()) for p in self._live):
            return
        torch._foreach_copy_(self._live, self._good)
        raise TrainingDivergedError(
            f"training diverged at update {step}: weights are not finite; those of the update "
            "before are back. Lower learning_rate"
        )


class WeightAverage:
    """Gives a model that acts the exponential moving average of the weights that are trained.

    Early on the decay is smaller, (1 + n) / (10 + n) at update n, so that the first weights are
    soon forgotten.

    Args:
        acting: The model that acts; its weights become the average.
        trained: A copy of it, which is trained.
        decay: What remains of the average at an update, from 0 (the trained weights) to 1.

    References:
        Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    """

    def __init__(self, acting: nn.Module, trained: nn.Module, decay: float) -> None:
        self.trained: list[Tensor] = [p for p in trained.parameters() if p.requires_grad]
        self.buffers: list[Tensor] = list(trained.buffers())
        self.decay = decay
        self._averages: list[Tensor] = [p for p in acting.parameters() if p.requires_grad]
        self._acting_buffers: list[Tensor] = list(acting.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the trained weights into the average, after `step` updates of them.

        Buffers, such as the statistics of a batch norm, are taken over as they are.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self.trained, 1 - decay)
        for held, now in zip(self._acting_buffers, self.buffers, strict=True):
            held.copy_(now)
