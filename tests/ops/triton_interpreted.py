"""The Triton kernels in Triton's interpreter; `test_scan_triton` runs this file in a process."""

from __future__ import annotations

import pytest
import torch

from decision_policies.ops import scan_triton, selective_scan
from decision_policies.ops.scan_triton import CHANNELS, CHUNK
from tests.ops.test_selective_scan import error, make_arguments, values_and_gradients

EXACT = [1e-6] * 2 + [5e-6] * 7


def assert_equal_to_the_reference(arguments: list[torch.Tensor], entry: str = "both") -> None:
    ours = values_and_gradients("triton", arguments, entry)
    exact = values_and_gradients("reference", [x.double() for x in arguments], entry)
    for left, right, tolerance in zip(ours, exact, EXACT, strict=False):
        assert left.shape == right.shape and torch.isfinite(left).all()
        assert error(left.double(), right) <= tolerance


def test_the_check_before_the_first_use_is_passed() -> None:
    assert scan_triton.problem() == ""


@pytest.mark.parametrize("given", [6, 7], ids=["zeros", "state"])
@pytest.mark.parametrize(
    "size",
    [(1, 1, 1, 1), (2, 2, 6, 1), (1, 3, CHANNELS + 1, 5), (1, CHUNK + 1, 7, 16)],
    ids=str,
)
def test_values_and_gradients_are_the_reference_s(
    size: tuple[int, int, int, int], given: int
) -> None:
    assert_equal_to_the_reference(make_arguments(*size, dtype=torch.float32)[:given])


@pytest.mark.parametrize("size", [(1, 20, 5, 33), (1, 60, 2, 3), (1, 129, 3, 17)], ids=str)
def test_so_are_those_of_many_chunks(size: tuple[int, int, int, int]) -> None:
    assert_equal_to_the_reference(make_arguments(*size, dtype=torch.float32))


@pytest.mark.parametrize("entry", ["y", "state"])
def test_gradients_may_enter_by_one_result_alone(entry: str) -> None:
    assert_equal_to_the_reference(make_arguments(1, 5, 3, 2, dtype=torch.float32), entry)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e3, 1e12])
def test_tiny_and_huge_steps_are_as_accurate(scale: float) -> None:
    u, delta, *others = make_arguments(1, 9, 5, 3, dtype=torch.float32)
    ours = values_and_gradients("triton", [u / scale, delta * scale, *others], "both")
    exact = [x.double() for x in (u / scale, delta * scale, *others)]
    for left, right in zip(ours, values_and_gradients("reference", exact, "both"), strict=True):
        assert torch.isfinite(left).all()
        assert error(left.double(), right) <= 5e-6


def test_strides_may_be_any() -> None:
    plain = make_arguments(2, 3, 6, 5, dtype=torch.float32)
    strided = [x.repeat_interleave(2, dim=-1)[..., ::2] for x in plain]
    for i in (0, 2, 3):
        strided[i] = plain[i].transpose(0, 1).contiguous().transpose(0, 1)
    strided[4] = torch.cat((plain[4], plain[3]), -1)[..., :5]
    strided[6] = plain[6].transpose(1, 2).contiguous().transpose(1, 2)
    assert not any(x.is_contiguous() for x in strided)
    leaves = [x.detach().requires_grad_() for x in strided]
    y, last = selective_scan(*leaves, backend="triton")
    expanded = torch.ones(()).expand_as(y)
    ours = [y, last, *torch.autograd.grad((y, last), leaves, (expanded, 2 * last.detach()))]
    leaves = [x.clone().requires_grad_() for x in plain]
    y, last = selective_scan(*leaves, backend="triton")
    again = [y, last, *torch.autograd.grad(y.sum() + last.square().sum(), leaves)]
    for left, right in zip(ours, again, strict=True):
        assert torch.equal(left, right)


def test_acting_equals_training_and_a_row_its_scan_alone_bit_for_bit() -> None:
    u, delta, A, B, C, D, state = arguments = make_arguments(2, 3, 5, 4, dtype=torch.float32)
    before = [x.clone() for x in arguments]
    y, last = selective_scan(*arguments, backend="triton")
    trained, trained_last, *_ = values_and_gradients("triton", arguments, "both")
    assert torch.equal(y, trained) and torch.equal(last, trained_last)
    h, one = state[1:], slice(1, 2)
    for t in range(3):
        at = (one, slice(t, t + 1))
        step, h = selective_scan(u[at], delta[at], A, B[at], C[at], D, h, backend="triton")
        assert torch.equal(step, y[at])
    assert torch.equal(h, last[one])
    assert all(map(torch.equal, arguments, before))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_goes_in_and_out_while_the_state_stays_float32(dtype: torch.dtype) -> None:
    u, delta, A, B, C, D, state = make_arguments(1, 4, 5, 4, dtype=torch.float32)
    low = [u.to(dtype).requires_grad_(), delta, A, B.to(dtype), C.to(dtype), D, state]
    y, last = selective_scan(*low, backend="triton")
    full, full_last = selective_scan(*(x.float() for x in low), backend="reference")
    assert y.dtype == dtype and last.dtype == torch.float32
    assert error(y.float().detach(), full.detach()) <= 1e-2
    assert error(last.detach(), full_last.detach()) <= 1e-6
    y.sum().backward()
    assert low[0].grad is not None and low[0].grad.dtype == dtype


def test_batch_without_rows_gives_results_without_rows() -> None:
    arguments = [x.requires_grad_() for x in make_arguments(1, 3, 4, 5, dtype=torch.float32)]
    u, delta, A, B, C, D, state = arguments
    y, last = selective_scan(u[:0], delta[:0], A, B[:0], C[:0], D, state[:0], backend="triton")
    assert y.shape == (0, 3, 4) and last.shape == (0, 5, 4)
    (y.sum() + last.sum()).backward()
    assert A.grad is not None and not A.grad.any()


def test_by_itself_it_is_never_taken_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_triton, "selective_scan", None)
    selective_scan(*make_arguments(1, 2, 3, 4, dtype=torch.float32))
