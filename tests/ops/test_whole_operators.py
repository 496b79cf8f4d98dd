"""The operators that torch.compile keeps whole: what torch asks of one, and equal gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from decision_policies.ops import linear, scan_native, scan_torch

ASKED = ("test_schema", "test_autograd_registration", "test_faketensor")


def scan_arguments(state: bool) -> tuple[Tensor | None, ...]:
    """Draw the inputs and perhaps a state; B and C are parts of one, as in a model."""
    draw = torch.Generator().manual_seed(0)
    u, delta = (torch.randn(2, 17, 6, generator=draw) for _ in range(2))
    a = -torch.randn(6, 3, generator=draw).exp()
    both = torch.randn(2, 17, 7, generator=draw)
    first = torch.randn(2, 3, 6, generator=draw)
    given = [u, delta.exp(), a, both[..., :3], both[..., 4:], torch.randn(6, generator=draw)]
    return tuple(x.requires_grad_() for x in (*given, first)) if state else (*given, None)


@pytest.mark.parametrize("state", [True, False], ids=["from a state", "afresh"])
@pytest.mark.parametrize("name", ["torch", "native"])
def test_a_scan_is_an_operator_as_torch_wants_it(name: str, state: bool) -> None:
    if name == "native" and scan_native.problem():
        pytest.skip(scan_native.problem())
    operator = getattr(torch.ops.decision_policies, f"scan_{name}").default
    torch.library.opcheck(operator, scan_arguments(state), test_utils=ASKED)


@pytest.mark.parametrize("name", ["torch", "native"])
def test_a_scan_s_operator_equals_the_scan_in_values_and_gradients(name: str) -> None:
    if name == "native" and scan_native.problem():
        pytest.skip(scan_native.problem())
    kernels = {"torch": scan_torch, "native": scan_native}[name]
    operator = getattr(torch.ops.decision_policies, f"scan_{name}")
    found = []
    for scan in (kernels.selective_scan, operator):
        leaves = [x for x in scan_arguments(state=True) if x is not None]
        y, last = scan(*leaves)[:2]
        found.append([y, last, *torch.autograd.grad(y.sin().sum() + last.sum(), leaves)])
    assert all(map(torch.equal, *found))


def test_a_product_is_an_operator_as_torch_wants_it() -> None:
    if not linear.onednn():
        pytest.skip("oneDNN is not used here")
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=draw) for s in ((130, 40), (48, 40), (48,)))
    given = tuple(t.requires_grad_() for t in (x, weight, bias))
    torch.library.opcheck(torch.ops.decision_policies.linear.default, given, test_utils=ASKED)
