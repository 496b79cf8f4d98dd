"""What a hub knows: users, repositories, commits, branches, tags and blobs by their content."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

COMMIT = re.compile(r"[0-9a-f]{40}")
LFS_PATTERNS = ("*.safetensors", "*.bin", "*.zip", "*.npz", "*.mp4")
LFS_SIZE = 10 << 20


class Refused(Exception):
    """An answer that is an error: its status, the Hub's error code, and what to say."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body


@dataclass(frozen=True)
class User:
    """Whom a token belongs to.

    Attributes:
        name: The user's name, and the namespace they own.
        role: "read" or "write".
        organisations: Further namespaces they own.
    """

    name: str
    role: str = "write"
    organisations: tuple[str, ...] = ()

    def owns(self, repository: str) -> bool:
        return repository.split("/")[0] in (self.name, *self.organisations)


@dataclass(frozen=True)
class Entry:
    """A file of a commit.

    Attributes:
        oid: Git's id of the blob: of the content, or of its LFS pointer.
        size: Bytes of the content.
        sha256: Of the content, where it is in LFS; else None.
        pointer: Bytes of the LFS pointer.
    """

    oid: str
    size: int
    sha256: str | None = None
    pointer: int = 0

    @property
    def key(self) -> str:
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    files: Mapping[str, Entry]
    title: str
    message: str
    author: str
    date: str


@dataclass
class Repository:
    id: str
    private: bool
    author: str
    gated: bool = False
    created: str = ""
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.created = now()
        self.branches["main"] = self.add(None, {}, "initial commit", "", self.author)

    def add(
        self, parent: str | None, files: Mapping[str, Entry], title: str, message: str, author: str
    ) -> str:
        """Add a commit to none of the branches; return its id."""
        content = [self.id, parent, sorted((p, e.key) for p, e in files.items()), title, message]
        oid = hashlib.sha1(json.dumps([*content, time.time_ns()]).encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, dict(files), title, message, author, now())
        return oid

    def commit_of(self, revision: str | None) -> str:
        """Resolve a branch, a tag or a commit.

        Raises:
            Refused: There is none of that name.
        """
        name = revision or "main"
        found = self.branches.get(name) or self.tags.get(name)
        if found is None and COMMIT.fullmatch(name) and name in self.commits:
            found = name
        if found is None:
            raise Refused(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return found

    def files(self, revision: str | None) -> Mapping[str, Entry]:
        return self.commits[self.commit_of(revision)].files


@dataclass
class Store:
    """Everything a hub holds.

    Attributes:
        users: By their tokens.
        regular: Answer that all files travel inside the commit, none through LFS.
    """

    users: dict[str, User] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    regular: bool = False

    def is_lfs(self, path: str, size: int) -> bool:
        named = any(fnmatch.fnmatch(path, pattern) for pattern in LFS_PATTERNS)
        return not self.regular and size > 0 and (size > LFS_SIZE or named)

    def put(self, path: str, content: bytes) -> Entry:
        """Store a file as a commit would, through LFS where its name asks for it."""
        if self.is_lfs(path, len(content)):
            return self.put_lfs(content)
        return self.put_regular(content)

    def put_regular(self, content: bytes) -> Entry:
        oid = git_oid(content)
        self.blobs[oid] = content
        return Entry(oid, len(content))

    def put_lfs(self, content: bytes) -> Entry:
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return self.lfs_entry(digest)

    def lfs_entry(self, digest: str) -> Entry:
        size = len(self.blobs[digest])
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
        return Entry(git_oid(pointer.encode()), size, digest, len(pointer))

    def card(self, repository: Repository, revision: str | None) -> dict[str, Any]:
        """Parse the front matter of README.md."""
        entry = repository.files(revision).get("README.md")
        text = "" if entry is None else self.blobs[entry.key].decode()
        return front_matter(text) or {}

    def info(self, repository: Repository, revision: str | None, blobs: bool) -> dict[str, Any]:
        """Describe a repository as the Hub's API does."""
        commit = repository.commit_of(revision)
        card = self.card(repository, commit)
        named = {key: card[key] for key in ("library_name", "pipeline_tag") if card.get(key)}
        tags = dict.fromkeys([*(card.get("tags") or []), *named.values()])
        return {
            "_id": hashlib.md5(repository.id.encode()).hexdigest()[:24],
            "id": repository.id,
            "modelId": repository.id,
            "sha": commit,
            "author": repository.id.split("/")[0],
            "private": repository.private,
            "gated": "auto" if repository.gated else False,
            "disabled": False,
            "createdAt": repository.created,
            "lastModified": repository.commits[commit].date,
            "tags": list(tags),
            "downloads": 0,
            "likes": 0,
            "cardData": card or None,
            "siblings": [
                sibling(path, entry, blobs)
                for path, entry in sorted(repository.files(commit).items())
            ],
            **named,
        }


def sibling(path: str, entry: Entry, blobs: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": path}
    if blobs:
        found |= {"size": entry.size, "blobId": entry.oid}
        if entry.sha256:
            lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer}
            found["lfs"] = lfs
    return found


def front_matter(text: str) -> dict[str, Any] | None:
    """Parse the YAML between two lines of three dashes at the top of a card."""
    match = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    parsed = yaml.safe_load(match[1]) if match else None
    return parsed if isinstance(parsed, dict) else None


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
