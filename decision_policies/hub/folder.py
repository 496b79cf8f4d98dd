"""A folder as a hub, for teams without one: `owner/name/<commit>/` and `owner/name/refs/<branch>`.

A commit is named by the SHA-256 of its parent and its files, appears whole, and never changes. A
branch is a text file that holds a commit, and moves only if it is where the writer last saw it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from decision_policies import atomic
from decision_policies.errors import HubConflict, HubError
from decision_policies.hub.names import COMMIT

REFS = "refs"
PATIENCE = 5.0
"""Seconds to wait for another writer, who holds the lock for the moment of a rename."""
STALE = 86_400.0
"""Seconds after which a folder that a push left behind when it was cut off is removed."""


def head_of(repository: Path, branch: str) -> str | None:
    """Read where a branch is.

    Args:
        repository: `<root>/owner/name`.
        branch: Its name.

    Returns:
        The commit; None where there is no such branch.

    Raises:
        HubError: Its file holds something else.
    """
    path = repository / REFS / branch
    try:
        commit = path.read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not COMMIT.fullmatch(commit):
        raise HubError(f"{path} holds {commit[:50]!r}, which is no commit")
    return commit


def commit_files(
    repository: Path, branch: str, parent: str | None, files: Mapping[str, bytes]
) -> str:
    """Write files as a commit, and move a branch to it.

    Args:
        repository: `<root>/owner/name`; made where it is not there.
        branch: The branch to move; made where it is not there.
        parent: Where the caller saw the branch; None where it was not there.
        files: Contents by relative path; the whole of the commit.

    Returns:
        The commit.

    Raises:
        HubConflict: The branch has moved since; nothing has changed.
        HubError: Another writer holds the branch, or what was written reads back otherwise.
        OSError: It cannot be written; nothing has changed.
    """
    commit = name_of(parent, files)
    _sweep(repository)
    staged = repository / f".push-{uuid.uuid4().hex}"
    try:
        atomic.write_folder(staged, files)
        _read_back(staged, files)
        with _lock(repository / REFS, branch):
            there = head_of(repository, branch)
            if there not in (parent, commit):
                raise HubConflict(
                    f"{repository}: {branch} is at {there}, and no longer at {parent}, which this "
                    "push was made upon: somebody else pushed. Nothing was changed; look at what "
                    "they did, and push again"
                )
            place = repository / commit
            if place.exists() and not _holds(place, files):  # damaged since it was written
                shutil.rmtree(place)
            if not place.exists():
                staged.rename(place)
            _point(repository / REFS / branch, commit)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return commit


def files_of(repository: Path, commit: str) -> dict[str, Path]:
    """List the files of a commit by relative path."""
    folder = repository / commit
    return {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }


def name_of(parent: str | None, files: Mapping[str, bytes]) -> str:
    """Name a commit: 40 hex digits of the SHA-256 of its parent and its files."""
    listed = [f"{hashlib.sha256(files[name]).hexdigest()} {name}\n" for name in sorted(files)]
    return hashlib.sha256(f"parent {parent}\n{''.join(listed)}".encode()).hexdigest()[:40]


def _read_back(folder: Path, files: Mapping[str, bytes]) -> None:
    if not _holds(folder, files):
        raise HubError(f"{folder} reads back otherwise than it was written: the disk?")


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether a folder has these files, with this content."""
    places = {name: folder / name for name in files}
    return all(p.is_file() and p.read_bytes() == files[name] for name, p in places.items())


def _point(path: Path, commit: str) -> None:
    """Move a branch, durably and at once."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(commit + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _lock(refs: Path, branch: str) -> Iterator[None]:
    """Keep other writers, on other machines too, from moving a branch meanwhile."""
    refs.mkdir(parents=True, exist_ok=True)
    lock, end = refs / f".{branch}.lock", time.monotonic() + PATIENCE
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            if time.monotonic() > end:
                raise HubError(
                    f"{lock} is there: another push is at work, or was cut off. If none is, delete "
                    "that file and push again; nothing was changed"
                ) from None
            time.sleep(0.01)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _sweep(repository: Path) -> None:
    """Remove what pushes that were cut off have left; while it is written it has one more dot."""
    for path in repository.glob(".*push-*"):
        try:
            if time.time() - path.stat().st_mtime > STALE:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # somebody else was faster
            continue
