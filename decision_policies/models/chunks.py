"""Chunks: which steps of a window make a chunk, where every episode begins a chunk of its own.

Letters: B batch, T environment steps, M chunks of the row that has most, c steps in a chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from decision_policies.batch import Window


class Chunks(NamedTuple):
    """Places of a window's real steps in chunks, both right-padded.

    Attributes:
        steps: (B, M, c), int64, step of the window at each place; of padding, any.
        real: (B, M, c), bool, whether there is a step at the place.
        begins: (B, M), bool, whether the chunk begins an episode.
        counts: (B,), int64, chunks of each row.
    """

    steps: Tensor
    real: Tensor
    begins: Tensor
    counts: Tensor

    def take(self, values: Tensor) -> Tensor:
        """Put values of steps, (B, T, ...), in their chunks, (B, M, c, ...)."""
        rows = torch.arange(len(values), device=values.device)
        return values[rows[:, None, None], self.steps]

    def give_back(self, values: Tensor, like: Tensor) -> Tensor:
        """Put values in chunks, (B, M, c, F), back to their steps, (B, T, F); padding becomes 0.

        Args:
            values: The values.
            like: A tensor (B, T), for its shape.
        """
        out = values.new_zeros(*like.shape, values.shape[-1])
        rows, chunks, places = self.real.nonzero(as_tuple=True)
        out[rows, self.steps[rows, chunks, places]] = values[rows, chunks, places]
        return out

    def last(self, values: Tensor) -> Tensor:
        """Take each row's last chunk out of (B, M, ...); its first, if it has none."""
        rows = torch.arange(len(values), device=values.device)
        return values[rows, (self.counts - 1).clamp(min=0)]


def lay_out(window: Window, length: int) -> Chunks:
    """Divide the real steps of each row into chunks of c steps; the last of an episode may be less.

    Args:
        window: (B, T) steps; each row begins with a new chunk.
        length: Steps c of a chunk.
    """
    real, steps = window.mask, window.mask.shape[1]
    time = torch.arange(steps, device=real.device)
    borders = (window.timesteps == 0) & real
    since = time - torch.where(borders, time, 0).cummax(1).values
    starts = (since % length == 0) & real
    counts = starts.sum(1)
    chunk = starts.cumsum(1) - 1
    rows, at = starts.nonzero(as_tuple=True)
    first = real.new_zeros(len(real), max(1, int(counts.max())), dtype=torch.int64)
    first[rows, chunk[rows, at]] = at
    number = torch.arange(first.shape[1], device=real.device)
    after = torch.where(number + 1 < counts[:, None], first.roll(-1, 1), real.sum(1)[:, None])
    index = first.unsqueeze(-1) + time.new_tensor(range(length))
    taken = (index < after.unsqueeze(-1)) & (number < counts[:, None]).unsqueeze(-1)
    return Chunks(index.clamp(max=steps - 1), taken, borders.gather(1, first), counts)
