"""Push a checkpoint to a hub: one commit with everything, or nothing at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from decision_policies.checkpoint import MANIFEST, PLAIN, TRAINING, open_checkpoint
from decision_policies.errors import HubError
from decision_policies.hub import folder as folders
from decision_policies.hub import names, remote
from decision_policies.strict_json import MAX_JSON
from decision_policies.version import __version__

CARD, RESULTS, VIDEO = "README.md", "results.json", "replay.mp4"
OURS = PLAIN | TRAINING | {MANIFEST, CARD, RESULTS, VIDEO}
"""What a push may replace or remove; other files of the repository stay as they are."""


@dataclass(frozen=True)
class PushResult:
    """Where a push ended.

    Attributes:
        repo_id: The repository, `owner/name`.
        commit: The commit that holds what was pushed, 40 hex digits: a revision to load by.
        url: Where to look at it.
        changed: Whether the push made that commit; False where the same files were there already.
    """

    repo_id: str
    commit: str
    url: str
    changed: bool


def push(  # noqa: PLR0913 - what a push is made of, each by its name
    folder: str | PathLike[str],
    repo_id: str,
    *,
    card: str,
    results: Mapping[str, Any] | None = None,
    video: str | PathLike[str] | None = None,
    private: bool = False,
    revision: str = "main",
    commit_message: str | None = None,
    token: str | None = None,
    endpoint: str | PathLike[str] | None = None,
) -> PushResult:
    """Push a checkpoint with its card, as one commit upon the branch's present one.

    The training state stays behind. Repository and branch are made where they are not there. After
    the commit the hub is asked what it holds, and that is compared with what was sent. The same
    files again make no commit.

    Args:
        folder: The checkpoint.
        repo_id: `owner/name`.
        card: Text of README.md; see `model_card`.
        results: Content of results.json; see `results_of`. None: the commit holds none.
        video: An MP4 of the policy at work.
        private: Let a repository that is made now be seen by its owner only.
        revision: The branch.
        commit_message: The commit's title.
        token: Of the account; None is the one that `hf auth login` keeps, for its own hub only.
        endpoint: Another hub: its URL, or a folder (a path, or `file:///path`). None is
            $DECISION_POLICIES_HUB if it is set, else the client's own.

    Returns:
        Where it is now.

    Raises:
        CheckpointError: The folder holds no whole, unaltered checkpoint.
        ValueError: The repository's or the branch's name is none.
        HubAuth: The token may not write there; nothing was uploaded.
        HubConflict: Somebody else pushed meanwhile; nothing was changed.
        HubError: Anything else that went wrong with the hub.
    """
    check_names(repo_id, revision)
    files = gather(folder, card, results, video)
    chosen = endpoint or os.environ.get("DECISION_POLICIES_HUB")
    hub = names.place_of(chosen) if chosen else None
    if isinstance(hub, Path):
        return _push_to_folder(hub, repo_id, revision, files)
    api, reader = remote.connect(hub, token)
    message = commit_message or f"Push by decision_policies {__version__}"
    with remote.explained(repo_id, api.endpoint):
        parent = remote.open_head(api, repo_id, revision, private=private)
        there = {k: v for k, v in remote.listed(api, repo_id, parent).items() if k in OURS}
        url = f"{api.endpoint}/{repo_id}/tree/"
        differing = remote.differing(files, there)

        def held() -> bytes:
            path = f"/{repo_id}/resolve/{parent}/{RESULTS}"
            return reader.content(path, MAX_JSON) if RESULTS in there else b""

        if _is_old(differing, files, held):
            return PushResult(repo_id, parent, url + parent, changed=False)
        stale = there.keys() - files.keys()
        commit = remote.send(api, repo_id, revision, files, stale, parent=parent, message=message)
        _compare(files, remote.listed(api, repo_id, commit), f"{repo_id} at {commit}")
    return PushResult(repo_id, commit, url + commit, changed=True)


def check_names(repo_id: str, branch: str) -> None:
    """Refuse what is no name of a repository or a branch.

    Raises:
        ValueError: Says what such a name looks like.
    """
    if not names.NAME.fullmatch(repo_id) or "--" in repo_id or ".." in repo_id:
        raise ValueError(
            f"{repo_id!r} is no name of a repository: write 'owner/name', such as "
            "'me/dema-cartpole', of letters, digits and single - . _"
        )
    if repo_id.split("/")[0] == names.SHIPPED:
        raise ValueError(
            f"{repo_id!r} cannot be pushed to: names with {names.SHIPPED!r} in front mean policies "
            "that the package knows; write your own account's name there"
        )
    if names.COMMIT.fullmatch(branch) or "/" in names.check_revision(branch):
        raise ValueError(f"cannot push to the revision {branch!r}: name a branch, such as 'main'")


def gather(
    folder: str | PathLike[str],
    card: str,
    results: Mapping[str, Any] | None = None,
    video: str | PathLike[str] | None = None,
) -> dict[str, bytes]:
    """Read what is pushed of a checkpoint, and lay the rest beside it.

    Args:
        folder: The checkpoint.
        card: Text of README.md.
        results: Content of results.json.
        video: An MP4.

    Returns:
        Contents by relative path; the manifest lists config and weights only.

    Raises:
        CheckpointError: The folder holds no whole, unaltered checkpoint.
    """
    saved = open_checkpoint(folder)
    files = {name: saved.read(name) for name in sorted(PLAIN)}
    header = {key: saved.config[key] for key in ("format_version", "library_version")}
    entries = {
        name: dict(zip(("size", "sha256"), saved.files[name], strict=True)) for name in files
    }
    files[MANIFEST] = _dump({**header, "files": entries})
    files[CARD] = card.encode()
    if results is not None:
        files[RESULTS] = _dump(results)
    if video is not None:
        files[VIDEO] = Path(video).read_bytes()
    return files


def _dump(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, allow_nan=False) + "\n").encode()


def _push_to_folder(
    root: Path, repo_id: str, branch: str, files: Mapping[str, bytes]
) -> PushResult:
    repository = root / repo_id
    parent = folders.head_of(repository, branch)
    if parent is not None:
        held = {name: p.read_bytes() for name, p in folders.files_of(repository, parent).items()}
        differing = {name for name in {*files, *held} if files.get(name) != held.get(name)}
        if _is_old(differing, files, lambda: held.get(RESULTS, b"")):
            return PushResult(repo_id, parent, (repository / parent).as_uri(), changed=False)
    commit = folders.commit_files(repository, branch, parent, files)
    return PushResult(repo_id, commit, (repository / commit).as_uri(), changed=True)


def _is_old(differing: Set[str], files: Mapping[str, bytes], held: Callable[[], bytes]) -> bool:
    """Whether the hub has all this: figures measured again may differ in their date alone."""
    if differing != {RESULTS} or RESULTS not in files:
        return not differing
    try:
        there, here = json.loads(held() or b"null"), json.loads(files[RESULTS])
    except ValueError:
        return False
    if not isinstance(there, dict):
        return False
    when = "eval_datetime"
    return {**there, when: None} == {**here, when: None}


def _compare(
    files: Mapping[str, bytes], there: Mapping[str, remote.Fingerprint], place: str
) -> None:
    wrong = remote.differing(files, {k: v for k, v in there.items() if k in OURS})
    if wrong:
        raise HubError(
            f"the hub took the commit and now holds other bytes than were sent: {place}, "
            f"{', '.join(sorted(wrong))}. Do not use that commit; the folder here is whole"
        )
