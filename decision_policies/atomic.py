"""Replace a folder or file at once: after a crash at any moment, the old or the new is there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

R = TypeVar("R")

PATIENCE = 10.0
"""Seconds for which a folder may change hands again and again before it is given up."""

_writing: set[str] = set()
"""Tokens of the writers at work in this process, so that threads spare each other's folders."""


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new folder beside the target, then put it in the target's place.

    Args:
        target: The folder to write; one that is already there is replaced.
        files: Contents by relative path.

    Raises:
        OSError: The target is untouched then; for a full disk the message says how much was needed
            and how much was free.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clean(target)
    token = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = target.parent / f".{target.name}.new-{token}"
    _writing.add(token)
    try:
        for name, content in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)
        for folder in {(temporary / name).parent for name in files}:
            _sync(folder)
        _swap(temporary, target, target.parent / f".{target.name}.old-{token}")
    except OSError as error:
        raise _explained(error, target, sum(map(len, files.values()))) from error
    finally:
        _writing.discard(token)
        shutil.rmtree(temporary, ignore_errors=True)


def write_file(target: Path, content: bytes) -> None:
    """Write a new file beside the target, then put it in the target's place.

    Raises:
        OSError: The target is untouched then; the message is that of `write_folder`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clean(target)
    token = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary = target.parent / f".{target.name}.new-{token}"
    _writing.add(token)
    try:
        _write(temporary, content)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise _explained(error, target, len(content)) from error
    finally:
        _writing.discard(token)
        temporary.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _explained(error: OSError, target: Path, needed: int) -> OSError:
    """Say of a full disk how much was needed and how much was free."""
    if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return error
    free = shutil.disk_usage(target.parent).free
    return OSError(
        error.errno,
        f"no room to save {target}: {needed} bytes needed, {free} free on the disk "
        "(or a file size limit); what was saved there before is untouched",
    )


def recover(target: Path) -> None:
    """Undo an exchange that a crash cut in two: the old folder goes back to its place.

    A writer that is alive may be between its two renames just now, and is given a moment.
    """
    for old in [] if target.exists() else _strays(target, "old"):
        patience = time.monotonic() + 1.0
        while _alive(old.name) and old.exists() and time.monotonic() < patience:
            time.sleep(0.001)
        if not target.exists() and old.exists():
            old.rename(target)
        return


def steadily(target: Path, read: Callable[[], R]) -> R:
    """Read a folder that another process may replace meanwhile; then it is read again.

    Args:
        target: The folder.
        read: Reads it; what it returns or raises counts only if the folder stayed the same.
    """
    patience = time.monotonic() + PATIENCE
    while True:
        before = _identity(target)
        try:
            result = read()
        except (OSError, ValueError):
            if before == _identity(target) or time.monotonic() > patience:
                raise
        else:
            if before == _identity(target) or time.monotonic() > patience:
                return result
        time.sleep(0.001)


def clean(target: Path) -> None:
    """Remove what crashed writers left beside the target."""
    recover(target)
    for stray in _strays(target, "new") + _strays(target, "old"):
        if not _alive(stray.name):
            with contextlib.suppress(OSError):
                stray.unlink() if stray.is_file() else shutil.rmtree(stray, ignore_errors=True)


def _strays(target: Path, kind: str) -> list[Path]:
    """List temporary folders of a target, by exact name: a glob would read "[1]" as a class."""
    name = re.compile(re.escape(f".{target.name}.{kind}-") + r"\d+-[0-9a-f]{8}")
    try:
        return sorted(path for path in target.parent.iterdir() if name.fullmatch(path.name))
    except OSError:
        return []


def _identity(target: Path) -> tuple[int, ...] | None:
    """Tell one folder of a name from the next; None while there is none."""
    try:
        found = target.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _swap(new: Path, target: Path, old: Path) -> None:
    """Put the new folder in the target's place, again if another writer comes in between."""
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            _exchange(new, target, old)
            return
        except OSError as error:
            raced = error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)
            if not raced or not new.exists() or time.monotonic() > patience:
                raise
        if old.exists():  # the other writer's stands in its place
            spent = old.with_name(f"{new.name[:-8]}{uuid.uuid4().hex[:8]}")
            with contextlib.suppress(OSError):
                old.rename(spent)
            shutil.rmtree(spent, ignore_errors=True)
        time.sleep(0.001)


def _exchange(new: Path, target: Path, old: Path) -> None:
    """Put the new folder in the target's place; a replaced one ends up under the new one's name."""
    replaces = target.exists()
    if replaces:
        target.rename(old)
    try:
        new.rename(target)
        _sync(target.parent)  # before the old folder goes, since a power cut may reorder the two
    except BaseException:
        with contextlib.suppress(OSError):  # it has not come so far, or another writer was faster
            target.rename(new)
        if replaces:
            with contextlib.suppress(OSError):
                old.rename(target)
        raise
    if replaces:
        try:
            old.rename(new)  # so that no crash while it is deleted can bring half of it back
        except OSError:
            shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Make renames in a folder durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network disks refuse folders
            raise
    finally:
        os.close(descriptor)


def _alive(name: str) -> bool:
    """Whether the process that made a temporary folder may still be writing it."""
    pid, token = name.rsplit("-", 2)[1:]
    if int(pid) == os.getpid():
        return f"{pid}-{token}" in _writing
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
