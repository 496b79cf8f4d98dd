"""One training in several processes: each runs its part of a batch, and gradients are added up.

Every process draws the same batches with the same weights, so only gradients have to travel, and
a process that ends early takes the others with it at the same update.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def count() -> int:
    """Say how many processes train together; 1 outside of such a group."""
    return distributed.get_world_size() if _joined() else 1


def rank() -> int:
    """Say which of them this one is, from 0."""
    return distributed.get_rank() if _joined() else 0


def join(on_cpu: bool) -> None:
    """Join the processes that `accelerate launch` or `torchrun` has started along with this one.

    Args:
        on_cpu: Whether the training is on the CPU although there is a GPU.

    Raises:
        ImportError: There are others, and accelerate is not installed.
    """
    if _joined() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ImportError(
            f"this is one of {os.environ['WORLD_SIZE']} processes, which train together by "
            "accelerate: pip install 'decision-policies[distributed]', or start only one"
        ) from error
    PartialState(cpu=on_cpu)


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their sums over all processes, as one message."""
    if count() == 1:
        return
    flat = torch.cat([x.reshape(-1) for x in tensors])
    distributed.all_reduce(flat)
    for x, summed in zip(tensors, torch.split(flat, [x.numel() for x in tensors]), strict=True):
        x.copy_(summed.view_as(x))


def any_of(flags: tuple[bool, ...], device: torch.device) -> tuple[bool, ...]:
    """Say of each flag whether a process has set it."""
    if count() == 1:
        return flags
    found = torch.tensor(flags, dtype=torch.int32, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return tuple(map(bool, found.tolist()))


def check(batch_size: int, seed: int | None, carries_state: bool) -> None:
    """Check that a training can be shared out over the processes that there are.

    Raises:
        ValueError: It cannot.
    """
    if count() == 1:
        return
    if seed is None:
        raise ValueError("several processes draw the same batches by the same seed: give seed=...")
    if carries_state:
        raise ValueError("a training that carries its state along trajectories is one process's")
    if batch_size < count():
        raise ValueError(f"batch_size={batch_size} has no window for each of {count()} processes")


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
