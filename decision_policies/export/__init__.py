"""The acting step of a policy in one file, for programs that do not know this package."""

from decision_policies.export.exporting import export_step

__all__ = ["export_step"]
