"""Compare float32 scans with float64 at every length: `python -m benchmarks.accuracy`."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

from torch import Tensor  # noqa: E402

from benchmarks import scan  # noqa: E402
from benchmarks.ledger import Row, note  # noqa: E402
from decision_policies.ops import scan_native  # noqa: E402
from decision_policies.ops.selective_scan import Backend, selective_scan  # noqa: E402

LONGEST = 3000
SIZE = {"rows": 2, "width": 9, "n": 5}
"""Odd sizes, of which no instruction set has a multiple."""
BOUNDS = {"values": 1e-6, "gradients": 5e-6}
"""Largest errors that are wanted, relative to the largest value of a tensor."""


def values_and_gradients(arguments: list[Tensor], backend: Backend) -> dict[str, list[Tensor]]:
    """Scan and go back from a sum of the outputs and of the last state with drawn weights."""
    y, last = selective_scan(*arguments, backend=backend)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=generator).to(x) for x in (y, last)]
    loss = (y * weights[0]).sum() + (last * weights[1]).sum()
    return {
        "values": [y.detach(), last.detach()],
        "gradients": list(torch.autograd.grad(loss, arguments)),
    }


def worst(lengths: range, backend: Backend) -> dict[str, tuple[float, int]]:
    """Find the largest errors of values and of gradients, and the lengths at which they are."""
    found = {kind: (0.0, 0) for kind in BOUNDS}
    for length in lengths:
        arguments = scan.make_arguments(length=length, **SIZE)
        exact = [x.detach().double().requires_grad_() for x in arguments]
        ours, theirs = (
            values_and_gradients(given, name)
            for given, name in ((arguments, backend), (exact, "torch"))
        )
        for kind in BOUNDS:
            pairs = zip(ours[kind], theirs[kind], strict=True)
            error = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
            found[kind] = max(found[kind], (error, length))
    return found


def main(stride: int = 1) -> None:
    """Print and note a line for each of our scans, for values and for gradients.

    Args:
        stride: From one length to the next; 1 measures every one.
    """
    lengths = range(1, LONGEST + 1, stride)
    every = "each" if stride == 1 else f"every {stride}th"
    print(f"{every} length from 1 to {LONGEST}, float32 against float64, {SIZE}, largest errors")
    backends: list[Backend] = ["torch"] if scan_native.problem() else ["native", "torch"]
    for backend in backends:
        for kind, (error, length) in worst(lengths, backend).items():
            bound = BOUNDS[kind]
            print(f"{backend:7} {kind:10} {error:.1e} at length {length}, wanted {bound:.0e}")
            what = f"{backend} scan, error of its {kind} at {every} length from 1 to {LONGEST}"
            note(Row(what, error, "what is wanted", bound, None, 1.0, unit="of the largest"))


if __name__ == "__main__":
    main()
