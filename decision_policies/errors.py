"""The package's own exceptions, each with one clear message: the mistake, the value, the cure."""

from __future__ import annotations


class DatasetError(ValueError):
    """Logged data that cannot be learnt from; names the first bad episode, step and field."""


class CheckpointError(ValueError):
    """A folder that is no whole, unaltered checkpoint of this package."""


class CheckpointVersionError(CheckpointError):
    """A checkpoint written by a newer version of the package than this one."""


class ConversionError(ValueError):
    """Weights from elsewhere that are not in the expected layout, or do not fit their task."""


class UnsupportedSpaceError(TypeError):
    """An observation or action space that the package cannot handle yet."""


class TrainingDivergedError(RuntimeError):
    """The loss or its gradient is no longer finite; the weights are the last finite ones."""
