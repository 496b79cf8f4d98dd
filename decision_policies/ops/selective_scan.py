"""The selective state-space scan: one entry point, one readable reference, several backends."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Literal, Protocol

import torch
from torch import Tensor

from decision_policies.ops import scan_mamba_ssm, scan_native, scan_torch, scan_triton

Backend = Literal["auto", "reference", "torch", "native", "triton", "mamba_ssm"]

SWITCH = "DECISION_POLICIES_GPU_SCAN"
"""Environment variable: "mamba_ssm", "triton" or "torch" is the only choice on a GPU."""


class _Kernels(Protocol):
    """What a module with a fast scan has."""

    TAKES: str

    def fits(self, tensors: tuple[Tensor | None, ...], /) -> bool: ...
    def problem(self) -> str: ...
    @property
    def selective_scan(self) -> Callable[..., tuple[Tensor, Tensor]]: ...


KERNELS: dict[str, _Kernels] = {
    "native": scan_native,
    "triton": scan_triton,
    "mamba_ssm": scan_mamba_ssm,
}
"""The fast scans beside torch's own, by the name of their backend."""


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Run the selective state-space recurrence (S6) over a sequence.

    For every row, channel e and state n, starting from ``state``::

        h_t = exp(delta_t * A) * h_{t-1} + delta_t * B_t * u_t
        y_t = sum_n C_t * h_t + D * u_t

    This is algorithm 2 of "Mamba: Linear-Time Sequence Modeling with Selective State Spaces"
    (Gu and Dao, 2023), with their simplified (Euler) discretisation of ``B``.

    Args:
        u: input, shape (B, L, E).
        delta: step size of each token and channel, positive, shape (B, L, E).
        A: decay rates, negative, shape (E, N). If ``A.t()`` is contiguous no copy of it is made.
        B: what each token writes into the state, shape (B, L, N).
        C: what each token reads from the state, shape (B, L, N).
        D: weight of the skip connection, shape (E,).
        state: state before the first token, shape (B, N, E); ``None`` stands for zeros. It is
            read, never written.
        backend: ``"native"`` is the compiled implementation for the CPU, ``"triton"`` the one for
            GPUs, ``"mamba_ssm"`` that package's, which takes no ``state``; ``"torch"`` the fast one
            that works everywhere, ``"reference"`` the plain loop they are tested against.
            ``"auto"`` takes the fastest one at hand.

    Returns:
        The output ``y``, shape (B, L, E), and the state after the last token, shape (B, N, E).
        Both carry gradients to every argument.

    Raises:
        ValueError: if the sequence is empty, the shapes disagree, or the backend is unknown or
            cannot be used.
    """
    rows, length, width = u.shape
    if length == 0:
        raise ValueError("the sequence is empty (L = 0): give the scan at least one token.")
    size = (rows, length, A.shape[1])
    if (
        delta.shape != u.shape
        or B.shape != size
        or C.shape != size
        or A.shape[0] != width
        or (state is not None and state.shape != (rows, size[2], width))
    ):
        raise ValueError(_shape_error(u, delta, A, B, C, state))
    if backend == "reference":
        return selective_scan_reference(u, delta, A, B, C, D, state)
    given = (u, delta, A, B, C, D, state)
    if any(x is not None and x.dtype in (torch.bfloat16, torch.float16) for x in given):
        wide = (None if x is None else x.float() for x in given)
        y, last = selective_scan(*wide, backend=backend)  # type: ignore[arg-type]
        return y.to(u.dtype), last if state is None else last.to(state.dtype)
    return _implementation(backend, given, u.device.type)(*given)


_COMPILED: dict[str, list[str]] = {}
"""Kernels that compiled models may call, by kind of device: compiling leaves no way to check."""


def choose_for_compiled(kind: str) -> None:
    """Check the kernels that models compiled on a kind of device are to call."""
    made = [name for name in automatic(kind) if name != "mamba_ssm"]  # which is no operator
    _COMPILED[kind] = [name for name in made if not KERNELS[name].problem()]


@cache
def automatic(kind: str) -> tuple[str, ...]:
    """Name the kernels that `backend="auto"` asks in turn on a kind of device, before torch's scan.

    Raises:
        ValueError: If the environment variable names nothing that scans on a GPU.
    """
    if kind != "cuda":
        return ("native",) if kind == "cpu" else ()
    names = ("mamba_ssm", "triton")
    choice = os.environ.get(SWITCH, "")
    if choice not in ("", "torch", *names):
        raise ValueError(f"{SWITCH} must be 'torch' or one of {names}, got {choice!r}")
    return tuple(name for name in names if choice in ("", name))


def _implementation(
    backend: Backend, given: tuple[Tensor | None, ...], kind: str
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Choose what scans the arguments, which are on that kind of device."""
    if backend == "auto":
        compiling = torch.compiler.is_compiling()
        for name in _COMPILED.get(kind, ()) if compiling else automatic(kind):
            kernels = KERNELS[name]
            if kernels.fits(given) and (compiling or not kernels.problem()):
                return kernels.selective_scan
        return scan_torch.selective_scan
    if backend == "torch":
        return scan_torch.selective_scan
    if backend not in KERNELS:
        known = ", ".join(map(repr, sorted(["auto", "reference", "torch", *KERNELS])))
        raise ValueError(f"backend={backend!r} is unknown: use one of {known}.")
    kernels = KERNELS[backend]
    if kernels.problem() or not kernels.fits(given):
        why = kernels.problem() or kernels.TAKES
        raise ValueError(f"backend={backend!r} cannot be used: {why}.")
    return kernels.selective_scan


def selective_scan_reference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute ``selective_scan`` one token at a time, to be read and to test the others against.

    Arguments and results are those of ``selective_scan``; gradients come from autograd, which
    keeps the state of every token, so memory grows with B * L * E * N.
    """
    h = u.new_zeros(u.shape[0], A.shape[1], u.shape[2]) if state is None else state
    outputs = []
    for u_t, delta_t, B_t, C_t in zip(
        u.unbind(1), delta.unbind(1), B.unbind(1), C.unbind(1), strict=True
    ):
        decay = torch.exp(delta_t.unsqueeze(1) * A.t())
        h = decay * h + (delta_t * u_t).unsqueeze(1) * B_t.unsqueeze(2)
        outputs.append((C_t.unsqueeze(2) * h).sum(1) + D * u_t)
    return torch.stack(outputs, dim=1), h


def _shape_error(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None
) -> str:
    """Say which shapes the scan was given and which it wants."""
    names = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "state": state}
    given = ", ".join(f"{name} {tuple(x.shape)}" for name, x in names.items() if x is not None)
    return (
        f"the scan was given {given}: make them u and delta (B, L, E), A (E, N), B and C "
        "(B, L, N), state (B, N, E)."
    )
