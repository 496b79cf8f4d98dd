"""Training state: optimiser, sampler, carried hidden state and random stream, saved and resumed."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from operator import itemgetter
from typing import Any, Literal, Self, TypeAlias

import torch
from torch import Tensor, nn

from decision_policies import tree
from decision_policies.batch import Losses, Window
from decision_policies.data.windows import Sampler
from decision_policies.errors import TrainingDivergedError
from decision_policies.learning import processes
from decision_policies.learning.optimisation import (
    DivergenceGuard,
    WeightAverage,
    make_optimizer,
)
from decision_policies.models.model import SequenceModel
from decision_policies.ops.compiling import compiled
from decision_policies.tree import State

Precision: TypeAlias = Literal["float32", "bfloat16"]
LossesAndState: TypeAlias = tuple[Losses, State]


def knows_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; where torch does not say, it is assumed to."""
    told = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return told is None or bool(told())


class Training:
    """What one update after another changes, apart from the weights.

    Restoring it (and the weights) makes the next update the same, bit for bit on the CPU, as if
    there had been no interruption.

    Args:
        model: The model that acts. It is the one that is trained, too, unless its weights are
            averages of the trained ones.
        sampler: Draws the batches.
        weight_decay: Weight decay of AdamW.
        seed: Seeds torch's random stream inside `learn` (dropout); None draws one.
        ema_decay: Decay of the average; None: none is made.
    """

    def __init__(
        self,
        model: SequenceModel,
        sampler: Sampler,
        weight_decay: float,
        seed: int | None,
        ema_decay: float | None = None,
    ) -> None:
        self.model = model if ema_decay is None else copy.deepcopy(model)
        self.average = None if ema_decay is None else WeightAverage(model, self.model, ema_decay)
        self.change_data(sampler)
        self.optimizer = make_optimizer(self.model, weight_decay)
        self.guard = DivergenceGuard(self.model)
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        self._random_state = generator.get_state()
        self._streaming = False

    def __getstate__(self) -> dict[str, Any]:
        """Give all but the compiled function, which a copy makes for itself."""
        return {k: v for k, v in self.__dict__.items() if k != "_compiled_losses"}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    def checked(self, torch_compile: bool, precision: Precision = "float32") -> Self:
        """Check that the model can be trained so, and say it where it would be slow.

        Raises:
            ValueError: It is to be compiled, and cannot be.
        """
        if precision == "bfloat16" and self.device.type == "cpu" and not knows_bfloat16():
            logging.getLogger(__name__).warning(
                "precision='bfloat16': this processor has no instructions for it, so an update "
                "will take several times as long as with precision='float32'"
            )
        if torch_compile and not self.model.fixed_shapes:
            name = type(self.model).__name__
            raise ValueError(
                f"torch_compile=True: the shapes in a {name} follow the data, so it cannot be "
                "compiled; leave torch_compile out"
            )
        return self

    @cached_property
    def _compiled_losses(self) -> Callable[[SequenceModel, Window, State | None], LossesAndState]:
        """`losses_of`, compiled, once for this training."""
        return compiled(losses_of, self.device.type)

    def change_data(self, sampler: Sampler) -> None:
        """Go on with other data: the same optimiser, a new sampler, no hidden state."""
        self.sampler = sampler
        if self.device.type != "cpu":  # a memory map stays on the disk
            sampler.keep_on(self.device)
        self.carried: State | None = None

    @contextmanager
    def random_stream(self) -> Iterator[None]:
        """Use this training's own random stream, and give the user's back afterwards."""
        device = self.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.set_rng_state(self._random_state)
            if device.type == "cuda":
                torch.cuda.manual_seed(torch.initial_seed())
            self._streaming = True
            try:
                yield
            finally:
                self._streaming = False
                self._random_state = torch.get_rng_state()

    def backward(
        self,
        window: Window,
        carries_state: bool = False,
        *,
        parts: int = 1,
        precision: Precision = "float32",
        torch_compile: bool = False,
    ) -> Losses:
        """Run the model over a batch, and take the gradient of its loss.

        Args:
            window: The batch, on the model's device.
            carries_state: Whether rows continue where the last batch left off (RNN-like training);
                rows that start anew are cleared, and no gradient flows into earlier batches.
            parts: Parts that the batch is run in, one after the other, to spare memory. Each counts
                as much as it has real steps, so the gradient is that of the whole batch's mean.
                Where several processes train together, they share the parts out.
            precision: Number type of the matrix products; weights and states stay float32.
            torch_compile: Whether the model is compiled first; the losses are equal to rounding
                where nothing is dropped out.

        Returns:
            The losses, without a graph.
        """
        self.optimizer.zero_grad(set_to_none=True)
        state = None
        if carries_state and self.carried is not None:
            state = tree.clear(self.carried, window.starts)
        run = self._compiled_losses if torch_compile else losses_of
        total: Losses = {}
        states: list[State] = []
        count, steps = len(window.mask), window.mask.sum()
        parts = min(count, max(parts, processes.count()))
        for number in range(processes.rank(), parts, processes.count()):
            rows = slice(count * number // parts, count * (number + 1) // parts)
            part = window.rows(rows)
            known = None if state is None else tree.map_state(itemgetter(rows), state)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                losses, known = run(self.model, part, known)
                losses = self.model.with_reward_error(losses, part)
            share = part.mask.sum() / steps
            (losses["loss"] * share).backward()  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                total[name] = total.get(name, 0) + loss.detach() * share
            states.append(known)
        if carries_state:
            self.carried = tree.detach(tree.map_state(lambda *x: torch.cat(x), *states))
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        processes.add_up([*gradients, *total.values()])
        return total

    def update(self, losses: Losses, learning_rate: float, max_norm: float, step: int) -> Tensor:
        """Make one update of the weights along the gradient.

        Args:
            losses: What `backward` returned.
            learning_rate: Rate of this update.
            max_norm: The gradient is scaled down to this norm.
            step: Number of the update, for messages.

        Returns:
            The norm of the gradient before clipping.

        Raises:
            TrainingDivergedError: The loss or the gradient is not finite; no update is made, and
                the weights are those of the last finite one.
        """
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
        values = {"loss": losses["loss"], "gradient norm": norm}
        try:
            self.guard.check({**values, "learning rate": learning_rate}, step)
        except TrainingDivergedError:
            self.carried = None  # it came out of the weights that are rolled back
            raise
        if self.average is not None:  # before the step: no loss has judged the weights after it
            self.average.update(self._updates())
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        return norm

    def _updates(self) -> int:
        """Updates of these weights so far, over all calls of `learn`."""
        first = next(iter(self.optimizer.state.values()), None)
        return 0 if first is None else int(first["step"])

    @property
    def ema_decay(self) -> float | None:
        """Decay of the average; None where none is made."""
        return None if self.average is None else self.average.decay

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Take everything down as named tensors and JSON-able values."""
        tensors = {"random": torch.get_rng_state() if self._streaming else self._random_state}
        moments = self.optimizer.state_dict()["state"]
        for index, entries in moments.items():
            for name, value in entries.items():
                tensors[f"optimizer.{index}.{name}"] = value
        carried = [] if self.carried is None else tree.leaves(self.carried)
        tensors.update({f"carried.{i}": leaf for i, leaf in enumerate(carried)})
        tensors.update({f"trained.{i}": weight for i, weight in enumerate(self.trained())})
        return tensors, {"sampler": self.sampler.state_dict()}

    def trained(self) -> list[Tensor]:
        """The trained weights and buffers where they do not act; nothing otherwise."""
        return [] if self.average is None else [*self.average.trained, *self.average.buffers]

    @torch.no_grad()
    def load_state_dict(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Restore what `state_dict` took down."""
        self._random_state = tensors["random"]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = tensor.clone()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        carried = [
            tensors[f"carried.{i}"] for i in range(len(tensors)) if f"carried.{i}" in tensors
        ]
        if carried:
            like = self.model.initial_state(self.sampler.batch_size)
            self.carried = tree.unflatten(like, [leaf.to(self.device) for leaf in carried])
        for place, weight in enumerate(self.trained()):
            weight.copy_(tensors[f"trained.{place}"])
        self.sampler.load_state_dict(values["sampler"])


def losses_of(model: SequenceModel, window: Window, state: State | None) -> LossesAndState:
    """Run a model over a batch to learn from it: what is compiled."""
    return model.losses(window, state)
