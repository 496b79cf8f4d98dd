"""Compare the selective scan with mambapy's and with a plain loop: `python -m benchmarks.scan`."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

from collections.abc import Callable  # noqa: E402

from mambapy.pscan import pscan  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.ledger import Row, note  # noqa: E402
from benchmarks.timing import paired  # noqa: E402
from decision_policies.ops import Backend, backends, scan_native, selective_scan  # noqa: E402

SHAPES = [(64, 60, 256, 16), (64, 60, 128, 16), (8, 1000, 256, 16)]
REPEATS = 9
WANTED = {("native", "mambapy"): 40.0, ("torch", "mambapy"): 7.0, ("native", "a loop"): 200.0}
"""How many times as fast as the peer forward and backward are to be, at the first shape."""
LOOP = "Hugging Face's slow path, written out"

Scan = Callable[..., Tensor]


def ours(backend: Backend) -> Scan:
    """Scan with one of this package's implementations."""

    def scan(*arguments: Tensor) -> Tensor:
        return selective_scan(*arguments, backend=backend)[0]

    return scan


def parallel(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Scan as mambapy's ``MambaBlock.selective_scan`` does, with its parallel scan at the core."""
    decay = torch.exp(delta.unsqueeze(-1) * A)
    written = (delta.unsqueeze(-1) * B.unsqueeze(2)) * u.unsqueeze(-1)
    states: Tensor = pscan(decay, written)
    return (states @ C.unsqueeze(-1)).squeeze(3) + D * u


def step_by_step(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Scan one step after the other, as the slow path of Hugging Face's ``MambaMixer`` does."""
    decay = torch.exp(delta.unsqueeze(-1) * A)
    written = delta.unsqueeze(-1) * B.unsqueeze(2) * u.unsqueeze(-1)
    state, outputs = torch.zeros_like(written[:, 0]), []
    for t in range(u.shape[1]):
        state = decay[:, t] * state + written[:, t]
        outputs.append((state @ C[:, t].unsqueeze(-1)).squeeze(-1))
    return torch.stack(outputs, 1) + u * D


def make_arguments(rows: int, length: int, width: int, n: int) -> list[Tensor]:
    """Draw inputs as Mamba's initialisation makes them: A = -(1..N), delta in [0.001, 0.1]."""
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(rows, length, width, generator=generator),
        10 ** (2 * torch.rand(rows, length, width, generator=generator) - 3),
        -torch.arange(1.0, n + 1).repeat(width, 1),
        torch.randn(rows, length, n, generator=generator),
        torch.randn(rows, length, n, generator=generator),
        torch.ones(width),
    ]
    return [tensor.requires_grad_() for tensor in tensors]


def forward(scan: Scan, arguments: list[Tensor]) -> Callable[[], object]:
    """Make a call that scans without gradients."""

    def call() -> Tensor:
        with torch.no_grad():
            return scan(*arguments)

    return call


def forward_backward(scan: Scan, arguments: list[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """Make a call that scans and takes the gradients to all six arguments."""
    upstream = torch.ones_like(arguments[0])

    def call() -> tuple[Tensor, ...]:
        return torch.autograd.grad(scan(*arguments), arguments, upstream)

    return call


def largest_difference(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> float:
    """Give the largest difference of two lists of tensors, each relative to its largest value."""
    pairs = zip(left, right, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def main(repeats: int = REPEATS) -> None:
    """Print and note one line per shape, implementation and pass."""
    print(f"selective scan, float32, one thread, CPU time, medians of {repeats} alternating calls")
    print(f"by itself the package would take: {backends()['scan']}")
    print(f"{'(B, L, E, N)':20} {'pass':18} {'ours':>27} {'the peer':>11} {'ratio':>7}")
    implementations: list[Backend] = ["torch"] if scan_native.problem() else ["native", "torch"]
    for shape in SHAPES:
        for backend in implementations:
            compare(shape, backend, "mambapy", repeats)
    compare(SHAPES[0], implementations[0], "a loop", min(repeats, 3))


def compare(shape: tuple[int, int, int, int], backend: Backend, peer: str, repeats: int) -> None:
    """Print and note the lines of one shape, one of our implementations and one peer."""
    theirs, name_of_peer = {"mambapy": (parallel, peer), "a loop": (step_by_step, LOOP)}[peer]
    arguments = make_arguments(*shape)
    elements = shape[0] * shape[1] * shape[2] * shape[3]
    scan = ours(backend)
    our_pass, their_pass = (forward_backward(side, arguments) for side in (scan, theirs))
    difference = largest_difference(our_pass(), their_pass())
    for name, left, right in (
        ("forward", forward(scan, arguments), forward(theirs, arguments)),
        ("forward+backward", our_pass, their_pass),
    ):
        timing = paired(left, right, repeats)
        per_element = f"({timing.left / elements * 1e9:.2f} ns/el)"
        print(
            f"{shape!s:20} {name:18} {backend:6} {timing.left * 1e3:6.1f} ms {per_element:>11}"
            f" {timing.right * 1e3:8.1f} ms {timing.ratio:6.1f}x {peer}",
            flush=True,
        )
        first = shape == SHAPES[0] and left is our_pass
        wanted = WANTED.get((backend, peer)) if first else None
        what = f"{backend} scan, {name}, (B, L, E, N) = {shape}"
        note(Row(what, timing.left, name_of_peer, timing.right, timing.spread, wanted))
    print(f"{'':20} gradients of the two agree to {difference:.0e} of the largest")


if __name__ == "__main__":
    main()
