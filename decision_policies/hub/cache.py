"""What was fetched from hubs, kept apart by hub, repository and commit; whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from urllib.parse import quote, urlsplit

from decision_policies import atomic
from decision_policies.checkpoint import WEIGHTS, open_checkpoint
from decision_policies.errors import CheckpointError, CheckpointVersionError
from decision_policies.hub.names import COMMIT

STALE = 86_400.0
"""Seconds after which what a process left that was cut off is removed."""


def root(cache_dir: str | PathLike[str] | None) -> Path:
    """Name the folder that holds everything fetched.

    It is `hub` in `$DECISION_POLICIES_CACHE`, or in `decision_policies` in the user's cache.
    """
    if cache_dir is not None:
        return Path(cache_dir).expanduser().absolute()
    ours = os.environ.get("DECISION_POLICIES_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return (Path(ours) if ours else Path(home) / "decision_policies").absolute() / "hub"


@dataclass(frozen=True)
class Shelf:
    """The place of one repository of one hub in the cache.

    Attributes:
        folder: `<root>/<hub>/<owner>--<name>`: two hubs' repositories of one name never meet.
    """

    folder: Path

    @classmethod
    def of(cls, root: Path, endpoint: str, name: str) -> Shelf:
        """Name the place."""
        host = re.sub(r"[^A-Za-z0-9.-]", "_", urlsplit(endpoint).netloc)[:64]
        key = hashlib.sha256(endpoint.encode()).hexdigest()[:12]
        return cls(root / f"{host}-{key}" / name.replace("/", "--"))

    def commit_of(self, revision: str) -> str | None:
        """Say which commit a branch or tag was when it was last asked for; None if never."""
        with suppress(OSError, UnicodeDecodeError):
            found = self._reference(revision).read_text(encoding="utf-8").strip()
            return found if COMMIT.fullmatch(found) else None
        return None

    def note(self, revision: str, commit: str) -> None:
        """Remember which commit a branch or tag is, where the cache can be written to."""
        if revision == commit or self.commit_of(revision) == commit:
            return
        path = self._reference(revision)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{uuid.uuid4().hex}")
            temporary.write_text(commit + "\n", encoding="utf-8")
            temporary.replace(path)

    def find(self, commit: str, subfolder: str) -> Path | None:
        """Find a checkpoint that is whole; one that is damaged is dropped, to be fetched again.

        Raises:
            CheckpointVersionError: A newer version of the package wrote it; it is kept.
        """
        place = self._place(commit, subfolder)
        if not place.is_dir():
            return None
        try:
            check_whole(place)
        except CheckpointVersionError:  # whole, for the newer installation that shares this cache
            raise
        except (CheckpointError, OSError):
            shutil.rmtree(place, ignore_errors=True)
            return None
        return place

    def keep(self, commit: str, subfolder: str, files: Mapping[str, bytes]) -> Path:
        """Keep a checkpoint's files, once they have proved to be a whole checkpoint.

        Raises:
            CheckpointError: They are none; nothing is kept.
            OSError: They cannot be written; nothing is kept.
        """
        place = self._place(commit, subfolder)
        place.parent.mkdir(parents=True, exist_ok=True)
        self._sweep()
        staged = place.with_name(f".incoming-{uuid.uuid4().hex}")
        try:
            atomic.write_folder(staged, files)
            check_whole(staged)
            try:
                staged.rename(place)
            except OSError:
                if not place.is_dir():  # else another process was faster
                    raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return place

    def _place(self, commit: str, subfolder: str) -> Path:
        inside = f"+{quote(subfolder, safe='')}" if subfolder else ""
        return self.folder / (commit + _short(inside))

    def _reference(self, revision: str) -> Path:
        return self.folder / "refs" / _short(quote(revision, safe=""))

    def _sweep(self) -> None:
        for path in self.folder.glob(".*incoming-*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE:
                    shutil.rmtree(path, ignore_errors=True)


def check_whole(folder: Path) -> str:
    """Compare a checkpoint's files with its manifest; return the manifest's SHA-256.

    Raises:
        CheckpointError: It is not whole, or altered.
        FileNotFoundError: It is not there.
    """
    opened = open_checkpoint(folder)
    size, digest = opened.files[WEIGHTS]
    with (folder / WEIGHTS).open("rb") as file:
        there = os.fstat(file.fileno()).st_size
        if there != size:
            raise CheckpointError(f"{folder / WEIGHTS} has {there} bytes, expected {size}")
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise CheckpointError(
            f"{folder / WEIGHTS} was altered: sha256 {found[:16]}…, expected {digest[:16]}…"
        )
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def _short(name: str) -> str:
    """Keep a file's name within what file systems allow."""
    return name if len(name) <= 180 else hashlib.sha256(name.encode()).hexdigest()
