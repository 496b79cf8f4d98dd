"""What fast scans share: autograd's side of them, and operators that torch.compile keeps whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from decision_policies.ops.tracing import compiling_to_train

Scan: TypeAlias = Callable[..., tuple[Tensor, Tensor]]
Inputs: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""u, delta (B, L, E), A (E, N), B, C (B, L, N) and D (E,)."""

FORWARD = (
    "(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor D, Tensor? state)"
    " -> (Tensor, Tensor, Tensor)"
)
BACKWARD = "(Tensor[] saved, Tensor grad_y, Tensor grad_last) -> Tensor[]"
"""The operators' signatures, spelt out: not every torch that we claim reads them off a function."""


class Kernel(Protocol):
    """A scan that keeps some states on its way, and its gradients, which need them."""

    def room(self, u: Tensor, A: Tensor) -> Tensor:
        """Make room for the states that are kept; nothing is in it yet."""

    def scan(
        self, inputs: Inputs, state: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Give y and the last state; fill `kept`, if it is given."""

    def gradients(self, inputs: Inputs, kept: Tensor, grad_y: Tensor, carry: Tensor) -> Inputs:
        """Give the gradients of the inputs.

        Args:
            inputs: As they were for `scan`.
            kept: What `scan` put there.
            grad_y: (B, L, E).
            carry: The last state's gradient, (B, N, E); it becomes the first state's.
        """


def differentiable(name: str, kernel: Kernel) -> Scan:
    """Make the function of a kernel that `decision_policies.ops.selective_scan` calls.

    Args:
        name: Of the kernel, for its operators in torch.
        kernel: What scans.
    """
    whole = _operator(name, kernel)

    class _Scan(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            *inputs, state = tensors
            kept = kernel.room(inputs[0], inputs[2])
            ctx.save_for_backward(*inputs, kept)
            return kernel.scan(tuple(inputs), state, kept)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *gradients: Any) -> Any:
            *found, carry = _backward(kernel, ctx.saved_tensors, *gradients)
            return *found, carry if ctx.needs_input_grad[6] else None

    def scan(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        tensors = (u, delta, A, B, C, D, state)
        if compiling_to_train():  # frozen weights or not: torch is to see no kernel
            y, last, _ = whole(*tensors)
        elif torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
            y, last = _Scan.apply(*tensors)  # type: ignore[no-untyped-call]
        else:
            y, last = kernel.scan((u, delta, A, B, C, D), state, None)
        return y, last

    return scan


def _backward(
    kernel: Kernel, saved: Sequence[Tensor], grad_y: Tensor, grad_last: Tensor
) -> tuple[Tensor, ...]:
    u, delta, A, B, C, D, kept = saved
    carry = grad_last.clone(memory_format=torch.contiguous_format)
    found = kernel.gradients((u, delta, A, B, C, D), kept, grad_y.contiguous(), carry)
    return *found, carry


def _operator(name: str, kernel: Kernel) -> Callable[..., Any]:
    """Register both directions with torch, whose compiler cannot look into a kernel.

    Not compiled, the function for autograd above does the same and costs less to call.
    """

    def forward(
        u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        kept = kernel.room(u, A)
        return *kernel.scan((u, delta, A, B, C, D), state, kept), kept

    def forward_shapes(u: Tensor, delta: Tensor, A: Tensor, *others: Tensor | None) -> Any:
        return u.new_empty(u.shape), u.new_empty(len(u), *A.t().shape), kernel.room(u, A)

    def backward(saved: list[Tensor], grad_y: Tensor, grad_last: Tensor) -> list[Tensor]:
        return [x.contiguous() for x in _backward(kernel, saved, grad_y, grad_last)]

    def backward_shapes(saved: list[Tensor], grad_y: Tensor, grad_last: Tensor) -> list[Tensor]:
        return [x.new_empty(x.shape) for x in (*saved[:6], grad_last)]

    there, back = (
        torch.library.custom_op(f"decision_policies::{op}", run, mutates_args=(), schema=schema)
        for op, run, schema in (
            (f"scan_{name}", forward, FORWARD),
            (f"scan_{name}_backward", backward, BACKWARD),
        )
    )
    there.register_fake(forward_shapes)
    back.register_fake(backward_shapes)

    def save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:6], output[2])

    def gradients(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        *found, carry = back(list(ctx.saved_tensors), *given[:2])
        return *found, carry if ctx.needs_input_grad[6] else None

    there.register_autograd(gradients, setup_context=save)
    return there
