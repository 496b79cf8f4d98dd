"""From a policy's name to its folder: local, shipped, fetched, or in a folder that is a hub."""

from __future__ import annotations

import difflib
import warnings
from dataclasses import replace
from os import PathLike
from pathlib import Path

from decision_policies.errors import CheckpointError, HubNotFound
from decision_policies.hub import cache, folder, names, registry
from decision_policies.hub.download import fetch
from decision_policies.hub.names import COMMIT, Alias, Repository, Shadow


def resolve(
    name: str | PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    endpoint: str | PathLike[str] | None = None,
    token: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
    algorithm: str | None = None,
) -> Path:
    """Find the folder of a policy; fetch it if it is on a hub and not in the cache.

    Names, in the order in which they are tried; the first that fits is meant:

    - a path object, or text that can only be a path (`./x`, `/x`, `~/x`, `a/b/c`): that folder, or
      that zip, with or without its ".zip";
    - `hf://owner/name[@revision][/subfolder]`, or a repository's page: a hub's repository;
    - `file:///srv/hub/owner/name[@revision][/subfolder]`: a repository in a folder that is a hub;
    - `owner/name[@revision][/subfolder]`: the folder of that name if there is one, else a hub's
      repository, in the folder `$DECISION_POLICIES_HUB` if that is set;
    - of those, `hub/<alias>[@revision]`: a policy that the package ships, or knows;
    - a word: the folder of that name.

    Args:
        name: The name.
        revision: A branch, a tag or a commit of 40 hex digits; "main" if there is none.
        subfolder: The policy's folder inside the repository.
        endpoint: A hub's URL, or a folder that serves as one; None is Hugging Face's, or
            `$HF_ENDPOINT`.
        token: Of an account that may read it; None is the one that `hf auth login` keeps, which
            goes to no hub but the default one.
        cache_dir: Where to keep what is fetched; None is `hub` in `$DECISION_POLICIES_CACHE` or in
            `~/.cache/decision_policies`.
        local_files_only: Ask nothing of a hub.
        algorithm: The class that a shipped policy must be of; None is the first that is listed.

    Returns:
        A folder or zip for `checkpoint.open_checkpoint`; a local one has not been looked into.

    Raises:
        FileNotFoundError: It is a path, and nothing is there.
        ValueError: It is no name, or says something that an argument says too.
        CheckpointError: What is found is not whole, is altered, or of another class.
        HubNotFound: No hub has it, or shows it to this token.
        HubAuth: The hub does not let this token read it.
        HubOffline: The hub cannot be reached, and the cache does not hold it.
        HubError: Anything else that went wrong with a hub.
    """
    found = names.parse(name, revision=revision, subfolder=subfolder, endpoint=endpoint)
    if isinstance(found, Shadow):
        warnings.warn(
            f"using the local folder {str(found.path)!r}; write hf://{found.path} for the one on "
            "the Hub",
            UserWarning,
            stacklevel=3,  # the caller of load
        )
        return found.path
    if isinstance(found, Path):
        return found
    pinned = None
    if isinstance(found, Alias):
        entry = registry.find(found.alias, algorithm)
        pinned = entry if _is_pinned(entry, found.revision) else None
        shipped = entry.folder()
        if pinned and shipped.is_dir():
            return _checked(shipped, pinned)
        found = _published(entry, found, endpoint)
    place = found.endpoint or _default_endpoint()
    if isinstance(place, Path):
        path = _in_folder(place, found)
    else:
        path = fetch(
            found, place, token=token, cache_dir=cache_dir, local_files_only=local_files_only
        )
    return path if pinned is None else _checked(path, pinned)


def _default_endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT.rstrip("/")


def _is_pinned(entry: registry.Entry, revision: str | None) -> bool:
    commit = entry.commit or ""
    return revision is None or (len(revision) >= 7 and commit.startswith(revision))


def _published(
    entry: registry.Entry, alias: Alias, endpoint: str | PathLike[str] | None
) -> Repository:
    """Say which repository an alias means."""
    if entry.repository is None:
        raise HubNotFound(
            f"'hub/{entry.alias}' is not published on a hub, so there is no revision "
            f"{alias.revision!r} of it"
            if alias.revision
            else f"'hub/{entry.alias}' is neither published nor in this installation; install the "
            "package anew"
        )
    hub = None if endpoint is None else names.place_of(endpoint)
    revision = entry.commit if _is_pinned(entry, alias.revision) else alias.revision
    return Repository(entry.repository, revision, "", hub)


def _checked(path: Path, entry: registry.Entry) -> Path:
    """Compare a policy with what the registry says of it."""
    found = cache.check_whole(path)
    if found != entry.sha256:
        raise CheckpointError(
            f"'hub/{entry.alias}' is not what the registry lists: sha256 of its manifest is "
            f"{found[:16]}…, expected {entry.sha256[:16]}…"
        )
    return path


def _in_folder(root: Path, repository: Repository) -> Path:
    """Find a repository's commit in a folder that is a hub; nothing is copied."""
    home = root / repository.name
    if not (home / folder.REFS).is_dir():
        owner = repository.name.split("/")[0]
        there = sorted(f"{owner}/{p.name}" for p in (root / owner).glob("*") if p.is_dir())
        close = difflib.get_close_matches(repository.name, there, 3) or there[:3]
        hint = f"; there are {', '.join(close)}" if close else ""
        if not root.is_dir():
            hint = (
                f": there is no such folder; a folder becomes a hub by the first push to it{hint}"
            )
        raise HubNotFound(
            f"no repository {repository.name} in the hub {root}{hint}{repository.tried}"
        )
    asked = repository.asked
    commit = folder.head_of(home, asked)
    if commit is None and COMMIT.fullmatch(asked) and (home / asked).is_dir():
        commit = asked
    if commit is None:
        refs = sorted(p.name for p in (home / folder.REFS).iterdir() if p.name[0] != ".")
        raise HubNotFound(
            f"{home} has no revision {asked!r}; there are {', '.join(refs) or 'none'}"
        )
    path = home / commit / repository.subfolder
    if not path.is_dir():
        raise HubNotFound(f"{replace(repository, revision=commit)} is not in the hub {root}")
    return path
