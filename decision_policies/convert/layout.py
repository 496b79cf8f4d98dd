"""Layout: the names and shapes that weights from elsewhere must have, and what is made of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from decision_policies.errors import ConversionError

LISTED = 8
"""How many names of a kind a message lists."""


class Layout:
    """Declares what is made of which published tensors, and makes it if every one of them fits.

    First the sizes are read from the shapes (`size`, `count`), then each tensor is declared
    (`make`, `linear`, `norm`, ...), and at last `load_into` compares all names and shapes at once.
    Nothing is loaded unless everything fits.

    Args:
        title: What the layout is called in messages.
        weights: Name and tensor of each published weight.

    Raises:
        ConversionError: That is no mapping of names to tensors.
    """

    def __init__(self, title: str, weights: Mapping[str, Tensor]) -> None:
        self.title = title
        self.weights = _tensors(weights)
        self._expected: dict[str, tuple[int, ...]] = {}
        self._made: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {}
        self._ignored: set[str] = set()
        self._problems: list[str] = []

    def size(self, *axes: tuple[str, int]) -> int:
        """Read a size off the axes of several tensors; see `vote`.

        Args:
            axes: Name of a tensor, and the axis whose length is the size.
        """
        return self.vote({name: self.axis(name, axis) for name, axis in axes})

    def axis(self, name: str, axis: int) -> int | None:
        """Length of one axis of one tensor; None where there is no such tensor or axis."""
        tensor = self.weights.get(name)
        return None if tensor is None or tensor.ndim <= axis else tensor.shape[axis]

    def vote(self, found: Mapping[str, int | None]) -> int:
        """Take the size that most tensors have, so that a single faulty one is the one blamed.

        Args:
            found: The size by the names of the tensors that say so; None says nothing.

        Raises:
            ConversionError: None of them says anything.
        """
        said = {name: size for name, size in found.items() if size is not None}
        if not said:
            raise self._foreign(*found)
        sizes = Counter(said.values()).most_common()
        if len(sizes) > 1 and sizes[0][1] == sizes[1][1]:
            claims = ", ".join(f"{size} by {name}" for name, size in said.items())
            self.complain(f"a size that should be the same is {claims}")
        return sizes[0][0]

    def count(self, prefix: str) -> int:
        """Count the blocks: how many different numbers follow a prefix.

        Raises:
            ConversionError: There is none.
        """
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        found = {match[1] for name in self.weights if (match := pattern.match(name))}
        if not found:
            raise self._foreign(f"{prefix}.0.*")
        return len(found)

    def has(self, prefix: str) -> bool:
        """Whether some name begins so."""
        return any(name.startswith(prefix) for name in self.weights)

    def make(
        self, ours: str, function: Callable[..., Tensor], *sources: tuple[str, tuple[int, ...]]
    ) -> None:
        """Declare that a tensor of ours is made of published ones.

        Args:
            ours: Its name in the module that `load_into` fills.
            function: Makes it of the sources, in their order.
            sources: Name and expected shape of each published tensor.
        """
        self._expected.update(sources)
        self._made[ours] = function, tuple(name for name, _ in sources)

    def copy(self, ours: str, theirs: str, *shape: int) -> None:
        """Declare that a tensor is taken over as it is."""
        self.make(ours, torch.clone, (theirs, shape))

    def linear(
        self,
        ours: str,
        theirs: str,
        inputs: int,
        outputs: int,
        *,
        transposed: bool = False,
        bias: bool = True,
    ) -> None:
        """Declare a linear map.

        Args:
            ours: Name of our `nn.Linear`.
            theirs: Name of the published one.
            inputs: Its number of inputs.
            outputs: Its number of outputs.
            transposed: Whether the published weight is (inputs, outputs), as in GPT-2's `Conv1D`.
            bias: Whether it has a bias.
        """
        if transposed:
            self.make(f"{ours}.weight", torch.t, (f"{theirs}.weight", (inputs, outputs)))
        else:
            self.copy(f"{ours}.weight", f"{theirs}.weight", outputs, inputs)
        if bias:
            self.copy(f"{ours}.bias", f"{theirs}.bias", outputs)

    def norm(self, ours: str, theirs: str, width: int) -> None:
        """Declare a LayerNorm."""
        self.copy(f"{ours}.weight", f"{theirs}.weight", width)
        self.copy(f"{ours}.bias", f"{theirs}.bias", width)

    def ignore(self, *names: str) -> None:
        """Declare tensors that belong to the layout, may be left out, and act on nothing."""
        self._ignored.update(names)

    def complain(self, problem: str) -> None:
        """Note what is wrong; `check` reports it together with all else."""
        self._problems.append(problem)

    def check(self) -> None:
        """Compare names, shapes and values with what is declared.

        Raises:
            ConversionError: Lists what is missing, what is unexpected and what does not fit.
        """
        problems = list(self._problems)
        missing = [name for name in self._expected if name not in self.weights]
        odd = sorted(self.weights.keys() - self._expected.keys() - self._ignored)
        if missing:
            problems.append(f"missing: {_listed(missing)}")
        if odd:
            problems.append(f"unexpected: {_listed(odd)}")
        faults = [
            fault
            for name, shape in self._expected.items()
            if name in self.weights and (fault := _fault(name, self.weights[name], shape))
        ]
        problems += faults[:LISTED]
        if len(faults) > LISTED:
            problems.append(f"and {len(faults) - LISTED} more that do not fit")
        if problems:
            lines = "".join(f"\n  {problem}" for problem in problems)
            raise ConversionError(f"the weights do not fit the layout of {self.title}:{lines}")

    @torch.no_grad()
    def load_into(self, module: nn.Module) -> None:
        """Fill a module of ours, in its own precision; what is not declared stays as it is.

        Raises:
            ConversionError: The weights do not fit; the module is untouched then.
        """
        self.check()
        made = {
            ours: function(*(self.weights[name].float() for name in names))
            for ours, (function, names) in self._made.items()
        }
        module.load_state_dict({**module.state_dict(), **made})

    def _foreign(self, *looked_for: str) -> ConversionError:
        names = sorted(self.weights)
        there = f"the names are {_listed(names)}" if names else "there are no names at all"
        return ConversionError(
            f"the weights are not in the layout of {self.title}: there is nothing that fits "
            f"{_listed(list(looked_for))}; {there}"
        )


def _tensors(weights: object) -> dict[str, Tensor]:
    """Check that this is a mapping of names to tensors.

    Raises:
        ConversionError: It is something else; says what to pass in its place.
    """
    cure = "pass what the trained module's state_dict() returns"
    if not isinstance(weights, Mapping):
        raise ConversionError(
            f"expected a mapping of names to tensors, got {type(weights).__name__}: {cure}"
        )
    entries: Mapping[Any, Any] = weights
    for name, value in entries.items():
        if isinstance(value, Mapping):
            cure = f"the weights may be what is under {name!r}; pass that"
    for name, value in entries.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ConversionError(
                f"expected a mapping of names to tensors, but {name!r} is a "
                f"{type(value).__name__}: {cure}"
            )
    return dict(entries)


def _fault(name: str, tensor: Tensor, shape: tuple[int, ...]) -> str | None:
    """Say what is wrong with a tensor; None where nothing is."""
    if tensor.shape != shape:
        return f"{name} is {list(tensor.shape)}, expected {list(shape)}"
    if not tensor.is_floating_point():
        return f"{name} is {str(tensor.dtype).removeprefix('torch.')}, expected floating point"
    bad = int((~torch.isfinite(tensor)).sum())
    return f"{name} holds {bad} values that are not finite" if bad else None


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
