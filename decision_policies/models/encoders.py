"""Observation encoders: from one observation, in the environment's units, to a vector."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from decision_policies.errors import UnsupportedSpaceError


class VectorEncoder(nn.Module):
    """Standardises a Box observation by the data's mean and deviation, then one linear map.

    Args:
        d_model: Width D of the code.
        space: A Box of any shape; it is flattened.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, d_model: int, space: spaces.Box) -> None:
        super().__init__()
        self.rank = len(space.shape)
        size = int(np.prod(space.shape))
        self.linear = nn.Linear(size, d_model)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take over the mean and deviation of the data, each of the observation's shape.

        A dimension that never varies is only centred: dividing by a tiny deviation would blow up
        the first value that differs.
        """
        self.mean.copy_(mean.flatten())
        self.std.copy_(torch.where(std > 1e-6, std, 1.0).flatten())

    def forward(self, observations: Tensor) -> Tensor:
        """Encode (..., *observation) as (..., D)."""
        flat = self._flatten(observations)
        return cast(Tensor, self.linear((flat.to(self.mean.dtype) - self.mean) / self.std))

    def _flatten(self, observations: Tensor) -> Tensor:
        if self.rank == 1:
            return observations
        return observations.flatten(-self.rank) if self.rank else observations.unsqueeze(-1)


class IndexEncoder(nn.Module):
    """A learnt vector for each value of a Discrete observation.

    Args:
        d_model: Width D of the code.
        space: The Discrete space.
    """

    def __init__(self, d_model: int, space: spaces.Discrete) -> None:
        super().__init__()
        self.start = int(space.start)
        self.table = nn.Embedding(int(space.n), d_model)

    def forward(self, observations: Tensor) -> Tensor:
        """Encode indices (...) as (..., D)."""
        return cast(Tensor, self.table(observations.long() - self.start))


class ImageEncoder(nn.Module):
    """The three convolutions of the Atari Decision Transformer, for uint8 frames (C, H, W).

    Args:
        d_model: Width D of the code.
        space: A uint8 Box of shape (C, H, W) with H and W of at least 36.

    Raises:
        UnsupportedSpaceError: The frames are too small for the convolutions.

    References:
        Chen et al., "Decision Transformer", arXiv 2106.01345, appendix A (after Mnih et al. 2015).
    """

    def __init__(self, d_model: int, space: spaces.Box) -> None:
        super().__init__()
        channels, height, width = space.shape
        if min(height, width) < 36:
            raise UnsupportedSpaceError(
                f"images need at least 36 x 36 pixels, got {height} x {width} in {space}; "
                "are the channels first, (C, H, W)?"
            )
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 8, 4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        for kernel, stride in ((8, 4), (4, 2), (3, 1)):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.linear = nn.Linear(64 * height * width, d_model)

    def forward(self, observations: Tensor) -> Tensor:
        """Encode frames (..., C, H, W), 0 to 255, as (..., D)."""
        batch = observations.shape[:-3]
        frames = observations.flatten(0, -4) if len(batch) != 1 else observations
        code = self.linear(self.convolutions(frames.to(self.linear.weight.dtype) / 255))
        return cast(Tensor, code.view(*batch, -1))


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether a space holds uint8 images, (C, H, W)."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def make_encoder(d_model: int, space: spaces.Space[Any]) -> nn.Module:
    """Choose the encoder that fits an observation space.

    Args:
        d_model: Width D of the code.
        space: A Box (vectors, any rank; uint8 images) or Discrete observation space.
    """
    if isinstance(space, spaces.Discrete):
        return IndexEncoder(d_model, space)
    assert isinstance(space, spaces.Box), "SequenceSpec refuses every other space"
    return ImageEncoder(d_model, space) if is_image(space) else VectorEncoder(d_model, space)
