"""Which kernels are used here, and why."""

from __future__ import annotations

from decision_policies.ops import linear, scan_native
from decision_policies.ops.native.library import native


def backends() -> dict[str, str]:
    """Tell which kernels are used on this machine, and why, a line each.

    Returns:
        "scan": what runs the selective scan of float32 tensors on the CPU. "linear": what
        multiplies large float32 matrices there. Elsewhere both are done by torch. "step": what
        carries the state of an acting policy on the CPU, if its model is among those that can be
        written down as a list of operations; torch does so for all others.

    Example:
        >>> from decision_policies import backends
        >>> sorted(backends())
        ['linear', 'scan', 'step']
    """
    problem = scan_native.problem()
    return {
        "scan": f"torch ({problem})" if problem else f"native ({native().reason})",
        "linear": "onednn" if linear.onednn() else "torch",
        "step": "numpy" if native().library is None else "native",
    }
