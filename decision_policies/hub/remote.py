"""The writing side of a hub that is a server: one commit by its client, read back and compared."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from decision_policies.errors import HubAuth, HubConflict, HubError, HubNotFound, HubOffline
from decision_policies.hub.client import Client
from decision_policies.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DAMAGED = (AttributeError, LookupError, TypeError, json.JSONDecodeError)
"""What the client raises on answers of another form."""
Fingerprint = tuple[int, str]
"""Size of a file, and its SHA-256 or, where the hub keeps no such, git's name of it."""


def connect(endpoint: str | None, token: str | None) -> tuple[HfApi, Client]:
    """Make a writer and a reader of a hub; no hub but its own gets the machine's token.

    Args:
        endpoint: The hub's URL; None is the client's own.
        token: Of the account; None is the one that `hf auth login` keeps.
    """
    from huggingface_hub import HfApi, constants

    reader = Client.of(endpoint or constants.ENDPOINT.rstrip("/"), token)
    api = HfApi(
        endpoint=reader.endpoint,
        token=reader.token or False,
        library_name="decision_policies",
        library_version=__version__,
    )
    return api, reader


def open_head(api: HfApi, repo_id: str, branch: str, *, private: bool) -> str:
    """Find the commit that a branch is at; repository and branch are made if they are not there.

    Args:
        api: The client.
        repo_id: `owner/name`.
        branch: Its name.
        private: Let a repository that is made be seen by its owner only.

    Raises:
        HubError: The repository is public, and this push should be private.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = api.model_info(repo_id)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        info = api.model_info(repo_id)
    if private and not info.private:
        raise HubError(
            f"{repo_id} is there already and is public, so that this push would not be private: "
            "make it private in its settings first, or push without private"
        )
    if branch != "main":
        try:
            info = api.model_info(repo_id, revision=branch)
        except RevisionNotFoundError:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
            info = api.model_info(repo_id, revision=branch)
    return str(info.sha)


def listed(api: HfApi, repo_id: str, commit: str) -> dict[str, Fingerprint]:
    """List the files of a commit."""
    from huggingface_hub.hf_api import RepoFile

    return {
        entry.path: (entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in api.list_repo_tree(repo_id, recursive=True, revision=commit)
        if isinstance(entry, RepoFile)
    }


def differing(files: Mapping[str, bytes], there: Mapping[str, Fingerprint]) -> set[str]:
    """Name the files that are not the same on both sides."""
    same = {
        name
        for name, content in files.items()
        if name in there and there[name] in ((len(content), d) for d in _digests(content))
    }
    return (files.keys() | there.keys()) - same


def _digests(content: bytes) -> tuple[str, str]:
    blob = b"blob %d\0" % len(content) + content
    return (
        hashlib.sha256(content).hexdigest(),
        hashlib.sha1(blob, usedforsecurity=False).hexdigest(),  # git's name of a file
    )


def send(
    api: HfApi,
    repo_id: str,
    branch: str,
    files: Mapping[str, bytes],
    removed: Set[str],
    *,
    parent: str,
    message: str,
) -> str:
    """Send files as one commit upon a parent, and return the commit.

    The client uploads through xet wherever hf_xet is installed, whether or not the hub speaks it;
    where it does not, everything is uploaded again by plain LFS.

    Raises:
        HubConflict: The branch is no longer at the parent.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    def attempt(wrap: Callable[[bytes], Any]) -> str:
        made = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, wrap(files[name])) for name in sorted(files)),
                *(CommitOperationDelete(name) for name in sorted(removed)),
            ],
            commit_message=message,
            revision=branch,
            parent_commit=parent,
        )
        return str(made.oid)

    try:
        try:
            return attempt(bytes)
        except ConnectionError as error:
            if not _is_of_xet(error):
                raise
            return attempt(io.BytesIO)  # which xet cannot take, so that the client does without it
    except HfHubHTTPError as error:
        if error.response.status_code != 412:
            raise
        now = api.model_info(repo_id, revision=branch).sha
        raise HubConflict(
            f"{repo_id}: {branch} is at {now}, and no longer at {parent}, which this push was made "
            "upon: somebody else pushed. Nothing was changed; look at what they did, and push again"
        ) from error


@contextmanager
def explained(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turn what the client raises into a HubError that says what to do; the cause is kept.

    Raises:
        HubAuth: The token is none, or may not write.
        HubNotFound: The hub does not know the repository.
        HubOffline: The hub cannot be reached.
        HubError: Anything else.
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        kind, words = _worded(error, repo_id)
        raise kind(f"pushing to {repo_id} on {endpoint}: {words}") from error


def _worded(error: Exception, repo_id: str) -> tuple[type[HubError], str]:
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        return HubAuth, "it wants a valid token: run `hf auth login`, or pass token=..."
    if status == 403:
        owner = repo_id.split("/")[0]
        return HubAuth, f"the token needs write access to {owner!r}; nothing was changed"
    if status == 404:
        return HubNotFound, f"it does not know that, or not for this token ({error})"
    if isinstance(error, OfflineModeIsEnabled):
        return HubOffline, "HF_HUB_OFFLINE is set; unset it to push"
    if _is_of_xet(error):
        return HubError, (
            "it does not speak xet, which the installed hf_xet insists on: set "
            "HF_HUB_DISABLE_XET=1 before huggingface_hub is imported; nothing was committed"
        )
    if any(cls.__name__ in ("ConnectError", "ConnectTimeout") for cls in type(error).__mro__):
        return HubOffline, f"it cannot be reached ({error}); nothing was committed"
    if isinstance(error, DAMAGED):
        return HubError, (
            f"it answers with something else than a hub's answer ({error!r}); is this a hub's "
            "address? What has arrived is not committed twice"
        )
    return HubError, (
        f"{type(error).__name__}: {error}. Push again: what has arrived is not committed twice"
    )


def _is_of_xet(error: Exception) -> bool:
    """Whether hf_xet raised it, whose errors are Python's own kinds."""
    return type(error) is ConnectionError and "/xet-" in str(error)
