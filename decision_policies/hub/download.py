"""From a repository on a hub to a folder in the cache: checked before, while and after it comes."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote

from decision_policies.checkpoint import CONFIG, MANIFEST, WEIGHTS
from decision_policies.errors import (
    CheckpointError,
    HubAuth,
    HubError,
    HubNotFound,
    HubOffline,
)
from decision_policies.hub import cache
from decision_policies.hub.client import Client, Refusal, Unreachable
from decision_policies.hub.names import COMMIT, Repository
from decision_policies.strict_json import MAX_JSON

NEEDED = (MANIFEST, CONFIG, WEIGHTS)
MAX_BYTES = 4 << 30
"""Bytes of the largest policy that is fetched."""
MAX_PAGES = 10
"""Pages of the longest list of files that is read; a page has about a thousand files."""


@dataclass(frozen=True)
class Listed:
    """A file as the hub lists it.

    Attributes:
        path: Inside the repository.
        size: Bytes.
        digest: SHA-256 of a file in LFS, else Git's SHA-1; lower-case hex.
    """

    path: str
    size: int
    digest: str

    def check(self, content: bytes, where: str) -> None:
        """Compare a file with what is listed.

        Raises:
            CheckpointError: They differ.
        """
        if len(self.digest) == 64:
            kind, found = "sha256", hashlib.sha256(content).hexdigest()
        else:
            header = b"blob %d\0" % len(content)
            kind, found = "Git's sha1", hashlib.sha1(header + content).hexdigest()
        if found != self.digest:
            raise CheckpointError(
                f"{self.path} {kind} {found[:16]}…, expected {self.digest[:16]}…: it was altered "
                f"on the way from {where}; nothing was kept, so the next load fetches it again"
            )


def fetch(
    repository: Repository,
    endpoint: str,
    *,
    token: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Fetch a policy, or find it in the cache; return its folder.

    Its revision is resolved once, and every file is of that commit. A commit that is in the cache
    costs no request, a branch or tag one.

    Args:
        repository: What to fetch.
        endpoint: The hub's URL.
        token: Of an account that may read it.
        cache_dir: The cache; see `cache.root`.
        local_files_only: Ask nothing of the hub.
        max_bytes: A policy with more is refused before a byte of it is fetched.

    Raises:
        HubNotFound: There is no such repository, revision or folder, for this token at least.
        HubAuth: The hub does not let this token read it.
        HubOffline: The hub cannot be reached, and the cache does not hold it.
        CheckpointError: What is there is no whole checkpoint.
        HubError: Anything else that went wrong with the hub.
    """
    root = cache.root(cache_dir)
    shelf = cache.Shelf.of(root, endpoint, repository.name)
    known = repository.asked if COMMIT.fullmatch(repository.asked) else None
    found = known and shelf.find(known, repository.subfolder)
    if found:
        return found
    if local_files_only or _must_be_offline():
        reason = "local_files_only=True" if local_files_only else "HF_HUB_OFFLINE is set"
        return _cached(shelf, repository, endpoint, root, reason)
    client = Client.of(endpoint, token)
    try:
        commit = known or _resolve(client, repository)
        found = shelf.find(commit, repository.subfolder)
        if found is None:
            files = _download(client, repository, commit, max_bytes)
            found = _keep(shelf, repository, endpoint, commit, files)
        shelf.note(repository.asked, commit)
        return found
    except Unreachable as error:
        reason = f"{endpoint} cannot be reached ({error})"
        try:
            found = _cached(shelf, repository, endpoint, root, reason)
        except HubOffline as offline:
            raise offline from error
        warnings.warn(f"{reason}; using {found.name[:12]}, fetched before", UserWarning, 4)
        return found
    except Refusal as refusal:
        raise _explained(refusal, client, repository) from refusal


def _must_be_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _cached(
    shelf: cache.Shelf, repository: Repository, endpoint: str, root: Path, reason: str
) -> Path:
    """Find what was fetched before, without asking the hub."""
    asked = repository.asked
    commit = asked if COMMIT.fullmatch(asked) else shelf.commit_of(asked)
    found = commit and shelf.find(commit, repository.subfolder)
    if not found:
        raise HubOffline(
            f"{repository} of {endpoint} is not in the cache {root}, and {reason}; load it once "
            f"where the hub can be reached{repository.tried}"
        )
    return found


def _resolve(client: Client, repository: Repository) -> str:
    """Ask which commit a revision is."""
    path = f"/api/models/{repository.name}/revision/{quote(repository.asked, safe='')}?expand=sha"
    info = client.json(path)
    commit = info.get("sha") if isinstance(info, dict) else None
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise HubError(f"refused {str(commit)[:50]!r} from {client.endpoint}: it is no commit")
    return commit


def _download(
    client: Client, repository: Repository, commit: str, max_bytes: int
) -> dict[str, bytes]:
    """Read the needed files at a commit; nothing is written yet."""
    listed = _list(client, repository, commit)
    where = f"{repository.name}@{commit[:12]} at {client.endpoint}"
    missing = [name for name in (CONFIG, MANIFEST, WEIGHTS) if name not in listed]
    if missing:
        there = ", ".join(sorted(listed)[:8]) or "nothing"
        inside = f"/{repository.subfolder}" if repository.subfolder else ""
        raise CheckpointError(
            f"{where}{inside} is no whole checkpoint: {missing[0]} is missing ({there} there)"
        )
    total = sum(listed[name].size for name in NEEDED)
    largest = max(listed[name].size for name in (CONFIG, MANIFEST))
    if total > max_bytes or largest > MAX_JSON:
        raise HubError(
            f"{where} has {total} bytes, {largest} of them in one JSON file, more than the "
            f"{max_bytes} and {MAX_JSON} that are fetched; nothing was"
        )
    files = {}
    for name in NEEDED:
        file = listed[name]
        path = f"/{repository.name}/resolve/{commit}/{quote(file.path)}"
        content = client.content(path, file.size, file.size)
        file.check(content, where)
        files[name] = content
    return files


def _list(client: Client, repository: Repository, commit: str) -> dict[str, Listed]:
    """List a folder's files at a commit; every name, size and id is checked."""
    inside = f"/{quote(repository.subfolder)}" if repository.subfolder else ""
    path = f"/api/models/{repository.name}/tree/{commit}{inside}?recursive=false&expand=false"
    prefix = f"{repository.subfolder}/" if repository.subfolder else ""
    listed = {}
    for page in client.pages(path, MAX_PAGES):
        if not isinstance(page, list) or not all(isinstance(item, dict) for item in page):
            raise HubError(f"{client.endpoint}{path} answers with something else than a list")
        for item in page:
            name = _safe_name(item.get("path"), prefix, client.endpoint)
            if item.get("type") == "file":
                listed[name] = _listed(item, client.endpoint)
    return listed


def _safe_name(path: object, prefix: str, endpoint: str) -> str:
    """Refuse a name that is not plain, whatever file it is of."""
    name = path.removeprefix(prefix) if isinstance(path, str) and path.startswith(prefix) else ""
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]|^[A-Za-z]:", name) or len(name) > 255:
        raise HubError(f"refused unsafe name from hub {endpoint}: {str(path)[:100]!r}")
    return name


def _listed(item: dict[str, Any], endpoint: str) -> Listed:
    lfs = item.get("lfs")
    size, digest = item.get("size"), item.get("oid")
    if lfs is not None:
        digest = lfs.get("oid") if isinstance(lfs, dict) else None
    wanted = r"[0-9a-f]{64}" if lfs is not None else r"[0-9a-f]{40}|[0-9a-f]{64}"
    if not isinstance(digest, str) or not re.fullmatch(wanted, digest):
        raise HubError(
            f"refused unsafe id from hub {endpoint}: {item['path']} has {str(digest)[:80]!r}"
        )
    if type(size) is not int or size < 0:
        raise HubError(f"refused size from hub {endpoint}: {item['path']} has {str(size)[:40]!r}")
    return Listed(item["path"], size, digest)


def _keep(
    shelf: cache.Shelf,
    repository: Repository,
    endpoint: str,
    commit: str,
    files: dict[str, bytes],
) -> Path:
    try:
        return shelf.keep(commit, repository.subfolder, files)
    except CheckpointError as error:
        error.add_note(
            f"It came from {repository.name}@{commit} at {endpoint}; nothing of it was kept."
        )
        raise


def _explained(refusal: Refusal, client: Client, repository: Repository) -> HubError:
    """Say what a hub's refusal means, and what to do."""
    page, said = f"{client.endpoint}/{repository.name}", f"the hub says: {refusal}"
    if refusal.code == "GatedRepo":
        return HubAuth(
            f"{page} is gated: open that page, accept the terms, and log in by `hf auth login` or "
            f"pass token= ({said})"
        )
    if refusal.code == "RevisionNotFound":
        return HubNotFound(
            f"{page} has no revision {repository.asked!r}; {_revisions(client, repository)}"
        )
    if refusal.code == "EntryNotFound":
        return HubNotFound(f"{page} has no folder {repository.subfolder!r} at {repository.asked!r}")
    if refusal.status == 401 and refusal.message.startswith("Invalid credentials"):
        return HubAuth(
            f"{client.endpoint} does not know this token; log in anew by `hf auth login`"
        )
    if refusal.code == "RepoNotFound" or refusal.status in (401, 404):
        return HubNotFound(
            f"no repository {repository.name} at {client.endpoint}{repository.tried}; if it is "
            f"private, log in by `hf auth login` or pass token= ({said})"
        )
    if refusal.status == 403:
        return HubAuth(f"{page} may not be read with this token ({said})")
    return HubError(f"{page} cannot be read ({said})")


def _revisions(client: Client, repository: Repository) -> str:
    """List the branches and tags that there are, as well as can be."""
    try:
        tables = client.json(f"/api/models/{repository.name}/refs")
        names = [str(r["name"])[:50] for kind in ("branches", "tags") for r in tables[kind]]
    except (Refusal, Unreachable, HubError, KeyError, TypeError):
        return "nor can its branches be listed"
    return f"there are {', '.join(names[:20]) or 'none'}"
