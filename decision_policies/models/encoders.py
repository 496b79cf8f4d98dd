"""Observation encoders: from one observation, in the environment's units, to a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.errors import UnsupportedSpaceError
from decision_policies.spaces import (
    LEAST,
    is_flat,
    is_frame,
    is_image,
    leaf_size,
    leaves,
    model_shape,
)


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
        self.d_model = d_model
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

    def is_plain(self) -> bool:
        """Whether no statistics have been taken over yet."""
        return not bool(self.mean.any()) and bool((self.std == 1).all())

    def forward(self, observations: Tensor) -> Tensor:
        """Encode (..., *observation) as (..., D)."""
        flat = self._flatten(observations)
        return cast(Tensor, self.linear((flat.to(self.mean.dtype) - self.mean) / self.std))

    def _flatten(self, observations: Tensor) -> Tensor:
        if self.rank == 1:
            return observations
        return observations.flatten(-self.rank) if self.rank else observations.unsqueeze(-1)


class FlatEncoder(VectorEncoder):
    """One linear map of the flat vector of several parts; choices are not standardised.

    Divided by its deviation, the one of a rare value would be larger than all else.

    Args:
        d_model: Width D of the code.
        parts: Spaces of the parts, in the vector's order; observations come as (..., S).
    """

    def __init__(self, d_model: int, parts: Sequence[spaces.Space[Any]]) -> None:
        sizes = [leaf_size(part) for part in parts]
        super().__init__(d_model, spaces.Box(-np.inf, np.inf, (sum(sizes),)))
        choices = [not isinstance(part, spaces.Box) for part in parts]
        self.choices = torch.from_numpy(np.repeat(choices, sizes))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take over the mean and deviation, (S,), of the parts that are of a Box."""
        super().set_statistics(mean.masked_fill(self.choices, 0), std.masked_fill(self.choices, 1))


def make_table(rows: int, width: int) -> nn.Embedding:
    """Make a table of vectors drawn from N(0, 1), as `nn.Embedding` does by itself.

    On the meta device it is left as it is: to draw there, torch would import its compiler, which
    takes a second, and every checkpoint is compared with a model of that device.
    """
    weight = torch.empty(rows, width)
    if not weight.is_meta:
        nn.init.normal_(weight)
    return nn.Embedding(rows, width, _weight=weight)


class IndexEncoder(nn.Module):
    """A learnt vector for each value of a Discrete observation.

    Args:
        d_model: Width D of the code.
        space: The Discrete space.
    """

    def __init__(self, d_model: int, space: spaces.Discrete) -> None:
        super().__init__()
        self.d_model = d_model
        self.start = int(space.start)
        self.table = make_table(int(space.n), d_model)

    def forward(self, observations: Tensor) -> Tensor:
        """Encode indices (...) as (..., D)."""
        return cast(Tensor, self.table(observations.long() - self.start))


class ImageEncoder(nn.Module):
    """The three convolutions of the Atari Decision Transformer, for uint8 images (C, H, W).

    The channels may be colours, or the last C frames (`Trajectories.stack_frames`). The three
    convolutions make one number of 36 pixels: 36 -> 8 -> 3 -> 1.

    Args:
        d_model: Width D of the code.
        space: A uint8 Box of shape (C, H, W) or (H, W, C) with H and W of at least 36.

    Raises:
        UnsupportedSpaceError: The images are too small for the convolutions, or single frames
            without a channel axis.

    References:
        Chen et al., "Decision Transformer", arXiv 2106.01345, appendix A (after Mnih et al. 2015).
    """

    def __init__(self, d_model: int, space: spaces.Box) -> None:
        super().__init__()
        if is_frame(space):
            raise UnsupportedSpaceError(
                f"the observations are single frames of shape {space.shape}, which show no motion: "
                "learn from trajectories.stack_frames(4), and act in an environment wrapped in "
                "gymnasium.wrappers.FrameStackObservation(env, 4)"
            )
        if not is_image(space):
            raise UnsupportedSpaceError(
                f"images are uint8 and have at least {LEAST} x {LEAST} pixels, unlike {space}"
            )
        self.d_model = d_model
        channels, height, width = model_shape(space)
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 8, 4),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 4, 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 64, 3, 1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        for kernel, stride in ((8, 4), (4, 2), (3, 1)):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.linear = nn.Linear(64 * height * width, d_model)

    def forward(self, observations: Tensor) -> Tensor:
        """Encode images (..., C, H, W), 0 to 255, as (..., D)."""
        batch = observations.shape[:-3]
        # Channels last in memory: a CPU then trains these convolutions twice as fast.
        pixels = observations.movedim(-3, -1)
        pixels = pixels.reshape(-1, *pixels.shape[-3:])
        pixels = pixels.to(self.linear.weight.dtype, memory_format=torch.contiguous_format)
        first = self.convolutions[0]
        assert isinstance(first, nn.Conv2d)
        # Dividing the few weights by 255 is dividing the many pixels.
        x = F.conv2d(pixels.movedim(-1, -3), first.weight / 255, first.bias, first.stride)
        return cast(Tensor, self.linear(self.convolutions[1:](x)).view(*batch, -1))


class MixedEncoder(nn.Module):
    """Images among other parts: the sum of an encoder for each image and one for all the rest.

    Args:
        d_model: Width D of the code.
        parts: Spaces of the parts, in the vector's order; observations come as (..., S).
    """

    def __init__(self, d_model: int, parts: Sequence[spaces.Space[Any]]) -> None:
        super().__init__()
        self.d_model = d_model
        self.parts = parts
        self.sizes = [leaf_size(part) for part in parts]
        pictures = [_with_channels(part) for part in parts if is_image(part)]
        self.images = nn.ModuleList(ImageEncoder(d_model, picture) for picture in pictures)
        others = [part for part in parts if not is_image(part)]
        self.others = FlatEncoder(d_model, others) if others else None

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take over the mean and deviation, (S,), of the parts that are numbers."""
        if self.others is not None:
            self.others.set_statistics(self._take(mean)[1], self._take(std)[1])

    def is_plain(self) -> bool:
        """Whether no statistics have been taken over yet."""
        return self.others is not None and self.others.is_plain()

    def forward(self, observations: Tensor) -> Tensor:
        """Encode flat vectors (..., S) as (..., D)."""
        pictures, others = self._take(observations)
        codes = [encoder(picture) for encoder, picture in zip(self.images, pictures, strict=True)]
        if self.others is not None:
            codes.append(self.others(others))
        return torch.stack(codes).sum(0)

    def _take(self, vectors: Tensor) -> tuple[list[Tensor], Tensor]:
        """Take images (..., C, H, W), and the other parts as one vector, out of flat vectors."""
        pictures, others = [], [vectors[..., :0]]
        for part, piece in zip(self.parts, torch.split(vectors, self.sizes, -1), strict=True):
            if is_image(part):
                shape = _with_channels(part).shape
                pictures.append(piece.reshape(*piece.shape[:-1], *shape))
            else:
                others.append(piece)
        return pictures, torch.cat(others, -1)


def _with_channels(image: spaces.Space[Any]) -> spaces.Box:
    """Put an image's channels first; a frame among other parts, not to be stacked, has one."""
    shape = model_shape(image)
    return spaces.Box(0, 255, (1, *shape) if is_frame(image) else shape, np.uint8)


ENCODERS = (VectorEncoder, IndexEncoder, ImageEncoder, MixedEncoder)
"""All kinds; each has its width as `d_model`."""


def make_encoder(d_model: int, space: spaces.Space[Any]) -> nn.Module:
    """Choose the encoder that fits an observation space.

    Args:
        d_model: Width D of the code.
        space: A supported observation space.
    """
    if isinstance(space, spaces.Discrete):
        return IndexEncoder(d_model, space)
    if is_flat(space):
        parts = [leaf for _, leaf in leaves(space)]
        return (MixedEncoder if any(map(is_image, parts)) else FlatEncoder)(d_model, parts)
    assert isinstance(space, spaces.Box), "SequenceSpec refuses every other space"
    return ImageEncoder(d_model, space) if is_image(space) else VectorEncoder(d_model, space)


def standardise(encoder: nn.Module, mean: Tensor, std: Tensor) -> None:
    """Have an encoder standardise observations by their mean and deviation, each of their shape.

    One that came with statistics of its own keeps them; one that needs none is left as it is.
    """
    if isinstance(encoder, (VectorEncoder, MixedEncoder)) and encoder.is_plain():
        encoder.set_statistics(mean, std)
