"""The selective scan: equal to its reference, exact in its laws, accurate and flat in memory."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from decision_policies.ops import selective_scan, selective_scan_reference
from decision_policies.ops.scan_torch import CHUNK, SHORT

SIZES = [
    (2, 1, 8, 16),
    (3, 2, 6, 1),
    (1, 3, 4, 5),
    (5, SHORT, 3, 2),
    (3, CHUNK, 6, 4),
    (3, CHUNK + 1, 6, 4),
    (4, 17, 7, 5),
    (2, 60, 8, 16),
    (2, 300, 3, 5),
    (2, 300, 4, 1),
    (1, 17, 1, 1),
]
ENTRIES = ["y", "state", "both"]


def make_arguments(
    rows: int, length: int, width: int, n: int, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Draw u, delta, A, B, C, D and state as a trained block would see them."""
    generator = torch.Generator().manual_seed(rows + 10 * length + 100 * width + 1000 * n)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    delta = 10 ** (
        torch.rand(rows, length, width, generator=generator, dtype=torch.float64) * 2 - 3
    )
    A = -torch.arange(1, n + 1, dtype=torch.float64) * (1 + 0.1 * normal(width, n).abs())
    arguments = [
        normal(rows, length, width),
        delta,
        A,
        normal(rows, length, n),
        normal(rows, length, n),
        normal(width),
        normal(rows, n, width),
    ]
    return [argument.to(dtype) for argument in arguments]


def loss_of(y: Tensor, last: Tensor, entry: str) -> Tensor:
    """Let a gradient that differs from element to element in through y, the state or both."""
    loss = y.new_zeros(())
    if entry != "state":
        loss = (
            loss
            + (
                y * torch.cos(torch.arange(y.numel(), dtype=y.dtype, device=y.device).view_as(y))
            ).sum()
        )
    if entry != "y":
        loss = loss + last.square().sum()
    return loss


def values_and_gradients(backend: Any, arguments: list[Tensor], entry: str) -> list[Tensor]:
    """Give y, the last state and the gradient to every argument; unused ones count as zero."""
    leaves = [argument.detach().clone().requires_grad_() for argument in arguments]
    y, last = selective_scan(*leaves, backend=backend)
    gradients = torch.autograd.grad(
        loss_of(y, last, entry), leaves, allow_unused=True, materialize_grads=True
    )
    return [y.detach(), last.detach(), *gradients]


def error(left: Tensor, right: Tensor) -> float:
    """Give the largest difference as a share of the largest value."""
    scale = right.abs().max().clamp_min(torch.finfo(right.dtype).tiny)
    return float((left - right).abs().max() / scale)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "zeros"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_torch_backend_equals_the_reference(
    size: tuple[int, int, int, int],
    with_state: bool,
    entry: str,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    arguments = make_arguments(*size, dtype=dtype)[: 7 if with_state else 6]
    fast = values_and_gradients("torch", arguments, entry)
    plain = values_and_gradients("reference", arguments, entry)
    for left, right in zip(fast, plain, strict=True):
        assert left.shape == right.shape
        assert error(left, right) <= tolerance


def test_torch_backend_equals_the_reference_when_the_batch_is_cut_into_blocks() -> None:
    arguments = make_arguments(70, 5, 128, 16)
    fast = values_and_gradients("torch", arguments, "both")
    plain = values_and_gradients("reference", arguments, "both")
    for left, right in zip(fast, plain, strict=True):
        assert error(left, right) <= 1e-10


def test_gradients_equal_finite_differences() -> None:
    leaves = [argument.requires_grad_() for argument in make_arguments(2, 3, 2, 3)]
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, backend="torch"), leaves)


@pytest.mark.parametrize("wanted", range(7))
def test_gradient_to_one_argument_alone_equals_its_share_of_all(wanted: int) -> None:
    arguments = make_arguments(3, 17, 4, 5)
    everything = values_and_gradients("torch", arguments, "both")
    arguments[wanted].requires_grad_()
    y, last = selective_scan(*arguments)
    (alone,) = torch.autograd.grad(loss_of(y, last, "both"), arguments[wanted])
    torch.testing.assert_close(alone, everything[2 + wanted], rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False], ids=["training", "acting"])
@pytest.mark.parametrize("cuts", [(1,), (59,), (12,), (2, 5, 6, 30), tuple(range(3, 60, 3))])
def test_sequence_cut_anywhere_gives_the_same_values(cuts: tuple[int, ...], training: bool) -> None:
    *sequences, state = make_arguments(3, 60, 8, 16, dtype=torch.float32)
    u, delta, A, B, C, D = sequences
    whole_y, whole_last = selective_scan(u, delta, A, B, C, D, state)
    pieces, carried = [], state.clone().requires_grad_(training)
    for start, stop in itertools.pairwise((0, *cuts, 60)):
        cut = slice(start, stop)
        y, carried = selective_scan(u[:, cut], delta[:, cut], A, B[:, cut], C[:, cut], D, carried)
        pieces.append(y)
    assert error(torch.cat(pieces, dim=1).detach(), whole_y) <= 1e-5
    assert error(carried.detach(), whole_last) <= 1e-5


@pytest.mark.parametrize("length", [1, 3, 4, 5, 30])
def test_path_without_gradients_equals_the_training_path(length: int) -> None:
    arguments = make_arguments(5, length, 8, 16)
    for given in (arguments, arguments[:6]):
        acting = selective_scan(*given)
        training = selective_scan(*[argument.clone().requires_grad_() for argument in given])
        for left, right in zip(acting, training, strict=True):
            assert not left.requires_grad
            assert right.requires_grad
            assert error(left, right.detach()) <= 1e-12


@pytest.mark.parametrize("length", [3, 20])
def test_row_does_not_depend_on_the_other_rows(length: int) -> None:
    u, delta, A, B, C, D, state = make_arguments(6, length, 8, 16)
    y, last = selective_scan(u, delta, A, B, C, D, state)
    one = slice(4, 5)
    y_one, last_one = selective_scan(u[one], delta[one], A, B[one], C[one], D, state[one])
    torch.testing.assert_close(y[one], y_one, rtol=0, atol=1e-13)
    torch.testing.assert_close(last[one], last_one, rtol=0, atol=1e-13)


@pytest.mark.parametrize("length", [1000, 3000])
def test_float32_stays_close_to_float64_over_long_sequences(length: int) -> None:
    arguments = make_arguments(1, length, 16, 16, dtype=torch.float32)
    single = values_and_gradients("torch", arguments, "both")
    double = values_and_gradients("torch", [x.double() for x in arguments], "both")
    tolerances = [1e-6] * 2 + [5e-6] * 7
    for left, right, tolerance in zip(single, double, tolerances, strict=True):
        assert error(left.double(), right) <= tolerance


@pytest.mark.parametrize("length", [2, 17])
@pytest.mark.parametrize("training", [True, False], ids=["training", "acting"])
def test_inputs_are_left_as_they_were(length: int, training: bool) -> None:
    arguments = make_arguments(3, length, 4, 5)
    before = [argument.clone() for argument in arguments]
    leaves = [argument.requires_grad_(training) for argument in arguments]
    y, last = selective_scan(*leaves)
    if training:
        (y.sum() + last.sum()).backward()
    for argument, copy in zip(arguments, before, strict=True):
        assert torch.equal(argument, copy)


def test_state_returned_shares_no_memory_with_the_state_given() -> None:
    u, delta, A, B, C, D, state = make_arguments(3, 1, 4, 5)
    _, last = selective_scan(u, delta, A, B, C, D, state)
    before = state.clone()
    last.zero_()
    assert torch.equal(state, before)


def test_buffers_kept_between_calls_leave_earlier_results_alone() -> None:
    first = values_and_gradients("torch", make_arguments(3, 30, 4, 5), "both")
    before = [x.clone() for x in first]
    values_and_gradients("torch", make_arguments(5, 40, 6, 7), "both")
    with torch.inference_mode():
        selective_scan(*make_arguments(70, 30, 64, 16, dtype=torch.float32))
    again = values_and_gradients("torch", make_arguments(3, 30, 4, 5), "both")
    for kept, copy, repeated in zip(first, before, again, strict=True):
        assert torch.equal(kept, copy)
        assert torch.equal(kept, repeated)


@pytest.mark.parametrize("swapped", [(0,), (1, 2), (0, 1, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("length", [3, 17])
def test_inputs_need_not_be_contiguous(length: int, swapped: tuple[int, ...]) -> None:
    contiguous = make_arguments(4, length, 6, 5)
    strided = [x.repeat_interleave(2, dim=-1)[..., ::2] for x in contiguous]
    for i in swapped:
        strided[i] = contiguous[i].transpose(0, 1).contiguous().transpose(0, 1)
    strided[6] = contiguous[6].transpose(1, 2).contiguous().transpose(1, 2)
    assert not any(x.is_contiguous() for x in strided)
    for left, right in zip(selective_scan(*strided), selective_scan(*contiguous), strict=True):
        assert error(left, right) <= 1e-12
    fast = values_and_gradients("torch", contiguous, "both")
    leaves = [x.detach().requires_grad_() for x in strided]
    gradients = torch.autograd.grad(loss_of(*selective_scan(*leaves), "both"), leaves)
    for left, right in zip(gradients, fast[2:], strict=True):
        assert error(left, right) <= 1e-12


class LargestTensor(TorchDispatchMode):
    """Remember the size of the largest tensor that any operator gave back."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.elements = max(self.elements, leaf.numel())
        return result


def largest_tensor_and_saved_elements(length: int) -> tuple[int, int]:
    """Measure one forward and backward pass at the given length."""
    arguments = [x.requires_grad_() for x in make_arguments(4, length, 8, 16)]
    saved: list[int] = []

    def pack(x: Tensor) -> Tensor:
        saved.append(x.numel())
        return x

    with LargestTensor() as largest:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            y, last = selective_scan(*arguments)
        torch.autograd.backward([y, last], [torch.ones_like(y), torch.ones_like(last)])
    return largest.elements, sum(saved)


@pytest.mark.parametrize("length", [240, 2400])
def test_training_pass_never_holds_the_state_of_every_token(length: int) -> None:
    largest, saved = largest_tensor_and_saved_elements(length)
    state = 4 * 8 * 16
    inputs = 4 * length * (8 + 8 + 16 + 16) + 8 * 16 + 8
    buffers = (3 * CHUNK + 1) * state + 4 * CHUNK * (3 * 8 + 2 * 16)
    checkpoints = -(-length // CHUNK) * state
    assert largest <= max(buffers, checkpoints, 4 * length * 16)
    assert largest < length * state / 5
    assert saved <= inputs + checkpoints


@pytest.mark.parametrize("length", [3, 30])
def test_results_and_gradients_are_on_the_device_of_the_inputs(length: int) -> None:
    arguments = [x.to("meta") for x in make_arguments(3, length, 4, 5)]
    for result in selective_scan(*arguments):
        assert result.device.type == "meta"
    leaves = [x.requires_grad_() for x in arguments]
    gradients = torch.autograd.grad(loss_of(*selective_scan(*leaves), "both"), leaves)
    for gradient, leaf in zip(gradients, leaves, strict=True):
        assert (gradient.device, gradient.shape) == (leaf.device, leaf.shape)


def test_parameter_may_be_given_directly() -> None:
    u, delta, A, B, C, D = make_arguments(2, 20, 4, 5)[:6]
    y, _ = selective_scan(u, delta, torch.nn.Parameter(A), B, C, torch.nn.Parameter(D))
    plain, _ = selective_scan(u, delta, A, B, C, D)
    torch.testing.assert_close(y.detach(), plain, rtol=0, atol=0)


def test_scan_of_nothing_is_refused() -> None:
    for grad in (False, True):
        u, delta, A, B, C, D = (x.requires_grad_(grad) for x in make_arguments(2, 1, 4, 5)[:6])
        none = slice(0, 0)
        with pytest.raises(ValueError, match="sequence is empty"):
            selective_scan(u[:, none], delta[:, none], A, B[:, none], C[:, none], D)


def test_shapes_that_disagree_are_named() -> None:
    u, delta, A, B, C, D, state = make_arguments(2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"A \(5, 4\)"):
        selective_scan(u, delta, A.t(), B, C, D, state)
    with pytest.raises(ValueError, match=r"delta \(2, 2, 4\)"):
        selective_scan(u, delta[:, :2], A, B, C, D, state)
    with pytest.raises(ValueError, match=r"C \(2, 1, 5\)"):
        selective_scan(u, delta, A, B, C[:, :1], D, state)
    with pytest.raises(ValueError, match="state"):
        selective_scan(u, delta, A, B, C, D, state.transpose(1, 2))


def test_mixed_number_types_are_refused_in_training() -> None:
    u, *others = make_arguments(2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"torch\.float32.*torch\.float64"):
        selective_scan(u.float().requires_grad_(), *others)


@pytest.mark.parametrize("training", [True, False], ids=["training", "acting"])
def test_batch_without_rows_gives_results_without_rows(training: bool) -> None:
    u, delta, A, B, C, D = (x.requires_grad_(training) for x in make_arguments(1, 3, 4, 5)[:6])
    y, last = selective_scan(u[:0], delta[:0], A, B[:0], C[:0], D)
    assert y.shape == (0, 3, 4)
    assert last.shape == (0, 5, 4)


def test_unknown_backend_is_refused() -> None:
    arguments = make_arguments(2, 3, 4, 5)
    with pytest.raises(ValueError, match="'cuda' is unknown"):
        selective_scan(*arguments, backend="cuda")  # type: ignore[arg-type]


def test_reference_equals_the_closed_form_of_a_constant_input() -> None:
    one = torch.ones(1, 50, 1, dtype=torch.float64)
    A = torch.tensor([[-2.0]], dtype=torch.float64)
    y, last = selective_scan_reference(one, 0.1 * one, A, one, 3 * one, torch.zeros(1).double())
    decay = torch.tensor(-0.2, dtype=torch.float64).exp()
    expected = 0.1 * (1 - decay**50) / (1 - decay)
    torch.testing.assert_close(last[0, 0, 0], expected)
    torch.testing.assert_close(y[0, -1, 0], 3 * expected)
