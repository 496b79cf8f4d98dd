"""Features extractors, as Stable-Baselines3 defines them, in the place of observation encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.errors import UnsupportedSpaceError
from decision_policies.models.encoders import ENCODERS
from decision_policies.spaces import is_image, leaf_size, leaves, model_shape, parts


class ExtractorEncoder(nn.Module):
    """What an extractor makes of an observation, and one linear map from there.

    Observations are prepared as Stable-Baselines3 prepares them: images (of 36 x 36 pixels or more)
    have their channels first and are divided by 255, choices are one-hots, and a Dict is a mapping
    of tensors. Nothing is standardised.

    Args:
        d_model: Width D of the code.
        space: The observation space; a Dict may hold anything but further parts.
        extractor: Called as `extractor(space, **options)`, which makes a module with an integer
            attribute `features_dim`, from (n, ...) to (n, features_dim).
        options: Its further arguments.

    Raises:
        UnsupportedSpaceError: The space is a Tuple, or a Dict with further parts inside.
    """

    def __init__(
        self, d_model: int, space: spaces.Space[Any], extractor: type, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        inner = parts(space)
        nested = any(parts(part) is not None for _, part in inner or ())
        if isinstance(space, spaces.Tuple) or nested:
            raise UnsupportedSpaceError(
                f"features extractors take a Dict without further parts, or no parts; got {space}"
            )
        self.space = space
        # Found here as plain integers: torch.compile takes NumPy's for what it cannot know.
        self.shape = model_shape(space)
        self.start, self.count = (
            (int(space.start), int(space.n)) if isinstance(space, spaces.Discrete) else (0, 0)
        )
        self.leaves = [(*leaf, leaf_size(leaf[1])) for leaf in leaves(space)]
        self.extractor = extractor(_prepared_space(space), **options)
        self.linear = nn.Linear(int(self.extractor.features_dim), d_model)

    def forward(self, observations: Tensor) -> Tensor:
        """Encode (..., *observation), as models see them, as (..., D)."""
        batch = observations.shape[: observations.dim() - len(self.shape)]
        features = self.extractor(self._prepared(observations.reshape(-1, *self.shape)))
        return cast(Tensor, self.linear(features)).view(*batch, -1)

    def _prepared(self, observations: Tensor) -> Tensor | dict[str, Tensor]:
        """Prepare observations (n, ...) for the extractor."""
        dtype = self.linear.weight.dtype
        if isinstance(self.space, spaces.Discrete):
            return F.one_hot(observations.long() - self.start, self.count).to(dtype)
        if not isinstance(self.space, spaces.Dict):
            return _shaped(observations.to(dtype), self.space)
        pieces = torch.split(observations, [size for *_, size in self.leaves], -1)
        return {
            key: _shaped(piece.to(dtype), leaf)
            for (key, leaf, _), piece in zip(self.leaves, pieces, strict=True)
        }


def install(
    model: nn.Module, space: spaces.Space[Any], extractor: type, options: Mapping[str, Any]
) -> int:
    """Put an extractor in the place of each observation encoder of a model that is trained.

    Returns:
        How many there are.
    """
    count = 0
    for name, child in list(model.named_children()):
        if not isinstance(child, ENCODERS):
            count += install(child, space, extractor, options)
        elif any(parameter.requires_grad for parameter in child.parameters()):
            setattr(model, name, ExtractorEncoder(child.d_model, space, extractor, options))
            count += 1
    return count


def _shaped(values: Tensor, leaf: spaces.Space[Any]) -> Tensor:
    """Give flat or shaped values (n, ...) the shape that the extractor is told of."""
    if isinstance(leaf, spaces.MultiDiscrete | spaces.Discrete):
        return values
    if is_image(leaf):
        return values.reshape(-1, *model_shape(leaf)) / 255
    return values.reshape(-1, *(leaf.shape or ()))


def _prepared_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Put the channels of the images of a space first."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _prepared_space(part) for key, part in space.spaces.items()})
    if not is_image(space):
        return space
    return spaces.Box(0, 255, model_shape(space), np.uint8)
