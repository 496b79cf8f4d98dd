"""The scan of mamba_ssm, played by a module of its signature: taken where right, or passed over."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from decision_policies import backends
from decision_policies.nets import mamba
from decision_policies.ops import (
    scan_mamba_ssm,
    scan_triton,
    selective_scan,
    selective_scan_reference,
)
from tests.ops.test_scan_triton import SCAN, asked_again, stand_in
from tests.ops.test_selective_scan import error, make_arguments, values_and_gradients

__all__ = ["asked_again"]

Fake = Callable[..., Any]


def published(  # its signature; shapes and types are those that its documentation names
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Any:
    rows, width, length = u.shape
    assert delta.shape == u.shape and A.shape[0] == width
    assert B.shape == C.shape == (rows, A.shape[1], length)
    assert D is not None and D.shape == (width,) and A.dtype == D.dtype == torch.float32
    assert all(x.is_contiguous() for x in (u, delta, A, B, C))
    assert z is None and delta_bias is None and not delta_softplus
    u, delta, B, C = (x.transpose(1, 2) for x in (u, delta, B, C))
    y, last = selective_scan_reference(u, delta, A, B, C, D)
    y, last = y.transpose(1, 2), last.transpose(1, 2).detach()  # it has no gradient of the state
    return (y, last) if return_last_state else y


def wrong(*given: Any, **more: Any) -> Any:
    y, last = published(*given, **more)
    return 0.99 * y, last


def broken(*given: Any, **more: Any) -> Any:
    raise RuntimeError("CUDA error: no kernel image is available")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, asked_again: None) -> Iterator[Callable[[Fake], None]]:
    """Put a module in the package's place, on a CPU that is taken for a GPU."""

    def put(function: Fake) -> None:
        scan_mamba_ssm.problem.cache_clear()
        scan_mamba_ssm._kernel.cache_clear()
        interface = ModuleType("mamba_ssm.ops.selective_scan_interface")
        interface.selective_scan_fn = function  # type: ignore[attr-defined]
        for name in ("mamba_ssm", "mamba_ssm.ops"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, interface.__name__, interface)

    monkeypatch.setattr(scan_triton, "_kernels", lambda: None)
    monkeypatch.setattr(scan_triton, "selective_scan", stand_in)
    monkeypatch.setattr(scan_mamba_ssm, "KIND", "cpu")
    monkeypatch.setattr(SCAN, "automatic", lambda kind: ("mamba_ssm",))
    yield put
    scan_mamba_ssm._kernel.cache_clear()


@pytest.mark.parametrize("entry", ["y", "state", "both"])
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (3, 17, 7, 5)], ids=str)
def test_values_and_gradients_are_the_reference_s(
    size: tuple[int, int, int, int], entry: str, install: Callable[[Fake], None]
) -> None:
    install(published)
    assert scan_mamba_ssm.problem() == ""
    arguments = make_arguments(*size, dtype=torch.float32)[:6]
    strided = [*arguments[:3], *(torch.cat((x, x), -1)[..., : size[3]] for x in arguments[3:5])]
    ours = values_and_gradients("mamba_ssm", [*strided, arguments[5]], entry)
    exact = values_and_gradients("reference", [x.double() for x in arguments], entry)
    for left, right in zip(ours, exact, strict=True):
        assert left.shape == right.shape
        assert error(left.double(), right) <= 5e-6


def test_low_precision_goes_in_and_out(install: Callable[[Fake], None]) -> None:
    install(published)
    low = [x.bfloat16() for x in make_arguments(2, 5, 4, 3)[:6]]
    y, last = selective_scan(*low, backend="mamba_ssm")
    full, full_last = selective_scan(*(x.float() for x in low), backend="reference")
    assert y.dtype == torch.bfloat16 and error(y.float(), full) <= 1e-2
    assert last.dtype == torch.float32 and error(last, full_last) <= 1e-6


def test_it_is_taken_for_a_fresh_start_and_left_where_a_state_is_given(
    install: Callable[[Fake], None],
) -> None:
    calls = []

    def counted(*given: Any, **more: Any) -> Any:
        calls.append(given)
        return published(*given, **more)

    install(counted)
    scan_mamba_ssm.problem()
    calls.clear()
    block, x = mamba.Mamba(8), torch.randn(2, 5, 8)
    y, state = block(x)
    assert len(calls) == 1
    again, _ = block(x, block.initial_state(2))
    assert len(calls) == 1 and error(y.detach(), again.detach()) <= 1e-5
    block(x, state)
    wide = make_arguments(1, 2, 2, scan_mamba_ssm.LARGEST_STATE + 1, torch.float32)
    selective_scan(*wide[:6])
    assert len(calls) == 1
    with pytest.raises(ValueError, match="no initial state, and N up to 256"):
        selective_scan(*wide, backend="mamba_ssm")


@pytest.mark.parametrize(
    ("function", "why"), [(wrong, "relative errors"), (broken, "RuntimeError: CUDA error")]
)
def test_one_that_fails_its_check_is_passed_over(
    function: Fake,
    why: str,
    install: Callable[[Fake], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    install(function)
    arguments = make_arguments(2, 3, 4, 5, torch.float32)[:6]
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            y, _ = selective_scan(*arguments)
            assert torch.equal(y, selective_scan(*arguments, backend="torch")[0])
    (line,) = caplog.messages
    assert line.startswith("mamba_ssm kernels are not used: it failed its check") and why in line


def test_one_that_cannot_be_imported_is_passed_over(
    install: Callable[[Fake], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    install(published)
    monkeypatch.delattr(sys.modules["mamba_ssm.ops.selective_scan_interface"], "selective_scan_fn")
    with caplog.at_level(logging.INFO):
        line = backends()["scan_gpu"]
        selective_scan(*make_arguments(2, 3, 4, 5, torch.float32)[:6])
    assert line.startswith("triton (mamba_ssm: mamba_ssm cannot be imported (AttributeError: ")
    assert len(caplog.messages) == 1
    with pytest.raises(ValueError, match=r"backend='mamba_ssm' cannot be used: .* imported \(Attr"):
        selective_scan(*make_arguments(2, 3, 4, 5, torch.float32)[:6], backend="mamba_ssm")


def test_the_first_choice_is_named_first(install: Callable[[Fake], None]) -> None:
    install(published)
    assert backends()["scan_gpu"] == "mamba_ssm, else triton"
