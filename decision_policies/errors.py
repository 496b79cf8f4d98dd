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


class ExportError(ValueError):
    """A policy whose acting step cannot be written as a file for other programs."""


class UnsupportedSpaceError(TypeError):
    """An observation or action space that the package cannot handle yet."""


class TrainingDivergedError(RuntimeError):
    """The loss or its gradient is no longer finite; the weights are the last finite ones."""


class HubError(OSError):
    """A model hub could not be read from or written to; nothing was half accepted."""


class HubNotFound(HubError):
    """The hub has no such repository, revision or file, or does not show it to this token."""


class HubAuth(HubError):
    """The hub refuses this token: it is invalid, may not read, or may not write."""


class HubConflict(HubError):
    """Somebody else pushed in between; neither side has lost anything."""


class HubOffline(HubError):
    """The hub cannot be reached, or must not be, and the cache does not hold what is needed."""
