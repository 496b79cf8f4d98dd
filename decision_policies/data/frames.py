"""Frame stacks by index: the last n frames as one observation, each frame held and read once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.errors import DatasetError
from decision_policies.spaces import is_image


def stacked_space(space: spaces.Space[Any], n: int) -> spaces.Box:
    """Make the space (n, H, W) of stacks of n single frames.

    Args:
        space: Space of single uint8 frames: (H, W, 1), (1, H, W), or (H, W) of 36 x 36 or more.
        n: Frames in a stack, at least 1.

    Raises:
        DatasetError: The space holds no single frames.
        ValueError: n is no whole number of at least 1.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"stack_frames needs a whole number of at least 1, got {n!r}")
    shape = [size for size in space.shape or () if size != 1]
    if not isinstance(space, spaces.Box) or not is_image(space) or len(shape) != 2:
        raise DatasetError(
            f"the observations, {space}, are no single frames to stack: those are uint8, "
            "(H, W) of at least 36 x 36 pixels, (H, W, 1) or (1, H, W)"
        )
    low, high = (np.broadcast_to(x.reshape(shape), (n, *shape)) for x in (space.low, space.high))
    return spaces.Box(low, high, dtype=np.uint8)


def all_stacks(frames: NDArray[np.uint8], offsets: NDArray[np.int64], n: int) -> NDArray[np.uint8]:
    """Copy the stack of every step, (N, n, H, W).

    Args:
        frames: (N, H, W).
        offsets: (E + 1,), the first frame of each of the E episodes, and N.
        n: Frames in a stack.
    """
    first = np.repeat(offsets[:-1], np.diff(offsets))[:, None]
    index = np.maximum(np.arange(len(frames))[:, None] + np.arange(1 - n, 1), first)
    stacks: NDArray[np.uint8] = frames[index]
    return stacks


def stacked_views(frames: Tensor, n: int) -> Tensor:
    """See frames (B, n - 1 + K, H, W) as the overlapping stacks (B, K, n, H, W), without a copy."""
    return frames.unfold(1, n, 1).movedim(-1, 2)


def shifted(images: Tensor, pixels: int, rng: np.random.Generator) -> Tensor:
    """Move the images of each window at random, all in the same way; borders are repeated.

    Args:
        images: (B, T, ..., H, W).
        pixels: Moved by at most so many, in both directions.
        rng: Draws the moves.
    """
    moves = rng.integers(-pixels, pixels + 1, (2, len(images), 1))
    rows, columns = (
        torch.from_numpy(np.clip(np.arange(size) + move, 0, size - 1)).to(images.device)
        for size, move in zip(images.shape[-2:], moves, strict=True)
    )
    moved = [
        window.index_select(-2, row).index_select(-1, column)
        for window, row, column in zip(images, rows, columns, strict=True)
    ]
    return torch.stack(moved)
