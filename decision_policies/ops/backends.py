"""Which kernels are used here, and why."""

from __future__ import annotations

import torch

from decision_policies.ops import linear, scan_native
from decision_policies.ops.native.library import native
from decision_policies.ops.selective_scan import KERNELS, automatic


def backends() -> dict[str, str]:
    """Tell which kernels are used on this machine, and why, a line each.

    Returns:
        "scan": what runs the selective scan of float32 tensors on the CPU. "scan_gpu": the same on
        a GPU. "linear": what multiplies large float32 matrices on the CPU; a GPU has torch's.
        "step": what acts on the CPU, if the model is among those that can be written down as a
        list of operations; torch does so for all others.

    Example:
        >>> from decision_policies import backends
        >>> sorted(backends())
        ['linear', 'scan', 'scan_gpu', 'step']
    """
    problem, found = scan_native.problem(), native()
    few = f"numpy for a few rows, torch for many and for windows ({found.reason})"
    return {
        "scan": f"torch ({problem})" if problem else f"native ({found.reason})",
        "scan_gpu": _on_a_gpu(),
        "linear": "onednn" if linear.onednn() else "torch",
        "step": few if found.library is None else f"native ({found.reason})",
    }


def _on_a_gpu() -> str:
    """Name what scans on a GPU, the first choice first, and say why others do not."""
    if not torch.cuda.is_available():
        return "torch (torch can use no GPU)"
    problems = {name: KERNELS[name].problem() for name in automatic("cuda")}
    used = [name for name, why in problems.items() if not why] or ["torch"]
    why_not = [f"{name}: {why}" for name, why in problems.items() if why]
    return ", else ".join(used) + (f" ({'; '.join(why_not)})" if why_not else "")
