"""Numerical kernels that the networks stand on."""

from decision_policies.ops.backends import backends
from decision_policies.ops.selective_scan import Backend, selective_scan, selective_scan_reference

__all__ = ["Backend", "backends", "selective_scan", "selective_scan_reference"]
