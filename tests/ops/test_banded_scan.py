"""The banded scan equals the band of the scan's matrix, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from decision_policies.ops.banded_scan import banded_scan, banded_scan_reference
from decision_policies.ops.selective_scan import selective_scan_reference


def arguments(length: int, width: int, states: int, window: int, scale: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    full = length + window - 1

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    values = [
        draw(2, full, width),
        draw(2, full, width).exp() * scale,
        -draw(width, states).exp(),
        draw(2, full, states),
        draw(2, full, states),
        draw(width),
    ]
    return [v.requires_grad_() for v in values]


@pytest.mark.parametrize("window", [1, 2, 6, 17])
@pytest.mark.parametrize("length", [1, 5, 24])
@pytest.mark.parametrize(("width", "states"), [(1, 1), (7, 3), (16, 16)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_the_banded_scan_is_its_reference(
    length: int, width: int, states: int, window: int, scale: float
) -> None:
    given = arguments(length, width, states, window, scale)
    u, delta, a, b, c, d = given
    ours = banded_scan(u, delta, a, b, c, d, window)
    reference = banded_scan_reference(u, delta, a, b, c, d, window)
    assert torch.allclose(ours, reference, rtol=1e-9, atol=1e-9)
    for one, other in zip(
        torch.autograd.grad(ours.sin().sum(), given),
        torch.autograd.grad(reference.sin().sum(), given),
        strict=True,
    ):
        assert torch.allclose(one, other, rtol=1e-7, atol=1e-9)


def test_a_band_as_wide_as_the_sequence_is_the_whole_scan() -> None:
    length = 12
    u, delta, a, b, c, d = arguments(length, 5, 3, length, 1.0)
    with torch.no_grad():
        u[:, : length - 1] = 0  # no past
    now = slice(length - 1, None)
    whole, _ = selective_scan_reference(u[:, now], delta[:, now], a, b[:, now], c[:, now], d)
    assert torch.allclose(banded_scan(u, delta, a, b, c, d, length), whole)
