"""What a policy may be called: a folder, a shipped policy's alias, a repository on a hub."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from urllib.parse import unquote, urlsplit

from decision_policies import archive
from decision_policies.errors import HubNotFound

HUB = "https://huggingface.co"
SHIPPED = "hub"
"""The namespace of the policies that the package ships, or knows the repositories of."""
WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
NAME = re.compile(rf"{WORD}/{WORD}")
SPELLED = re.compile(
    rf"(?P<name>{WORD}/{WORD})(?:@(?P<revision>refs/pr/\d+|[^/]+))?(?:/(?P<sub>.+))?"
)
REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,199}")
HOST = re.compile(r"(?:www\.)?huggingface\.co/?|hf\.co/?|[\w.-]{2,}:\d+/?")
LOCAL_ONLY = re.compile(r"\.{0,2}/|\.{1,2}$|~|[A-Za-z]:[\\/]|.*\\")
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Repository:
    """A folder of a repository, at a revision.

    Attributes:
        name: `owner/name`.
        revision: A branch, a tag or a commit; None is the branch "main".
        subfolder: The folder inside; "" is the repository itself.
        endpoint: The hub's URL, or the root of a folder that serves as one; None is the default.
        tried: What else the name could have been, for messages.
    """

    name: str
    revision: str | None = None
    subfolder: str = ""
    endpoint: str | Path | None = None
    tried: str = ""

    @property
    def asked(self) -> str:
        """The revision that is asked for."""
        return self.revision or "main"

    def __str__(self) -> str:
        inside = f"/{self.subfolder}" if self.subfolder else ""
        return f"{self.name}@{self.asked}{inside}"


@dataclass(frozen=True)
class Alias:
    """A policy of the shipped registry, at its pinned commit or another revision."""

    alias: str
    revision: str | None = None


@dataclass(frozen=True)
class Shadow:
    """A local folder whose name is a name on a hub, too.

    Attributes:
        path: The folder, or zip.
        other: What the name means where there is no such folder.
    """

    path: Path
    other: Alias | Repository


def parse(
    name: str | PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    endpoint: str | PathLike[str] | None = None,
) -> Path | Alias | Repository | Shadow:
    """Say what a name means; nothing is asked of any hub.

    Args:
        name: See `decision_policies.load`.
        revision: A branch, a tag or a commit.
        subfolder: The policy's folder inside the repository.
        endpoint: A hub's URL, or a folder that serves as one.

    Raises:
        FileNotFoundError: It can only be a local folder, and there is none.
        ValueError: It is no name, or says a revision or subfolder that an argument says too.
        HubNotFound: It is a `file://` name, and there is no repository.
        TypeError: It is neither text nor a path.
    """
    if not isinstance(name, (str, PathLike)):
        raise TypeError(f"a name is text or a path, not {type(name).__name__}")
    found = _meant(name, None if endpoint is None else place_of(endpoint))
    if revision is None and subfolder is None:
        return found
    if isinstance(found, Path):
        option = "revision" if subfolder is None else "subfolder"
        raise ValueError(
            f"{option}= belongs to a name on a hub, and {str(name)!r} is a local folder; leave it "
            "out, or write hf://owner/name"
        )
    found = found.other if isinstance(found, Shadow) else found
    if revision is not None:
        if found.revision is not None:
            raise ValueError(f"{str(name)!r} names a revision already; leave revision= out")
        found = replace(found, revision=check_revision(revision))
    return found if subfolder is None else _inside(found, subfolder)


def _inside(found: Alias | Repository, subfolder: str) -> Repository:
    if isinstance(found, Alias):
        raise ValueError(f"hub/{found.alias} is one policy, which has no subfolder {subfolder!r}")
    if found.subfolder:
        raise ValueError(f"{found} names a subfolder already; leave subfolder= out")
    return replace(found, subfolder=check_subfolder(subfolder))


def place_of(endpoint: str | PathLike[str]) -> str | Path:
    """Tell a hub's URL from a folder that serves as a hub.

    Raises:
        ValueError: It is a URL of another kind, a host without https://, or empty.
    """
    if isinstance(endpoint, str):
        if endpoint.startswith("file://"):
            return file_path(endpoint)
        url = urlsplit(endpoint)
        if url.scheme in ("http", "https") and url.netloc:
            if url.username is not None or url.query or url.fragment:
                raise ValueError(f"endpoint is {endpoint!r}: write no more than https://host")
            return endpoint.rstrip("/")
        host = HOST.fullmatch(endpoint) is not None and not Path(endpoint).exists()
        if not endpoint or "://" in endpoint or host:
            raise ValueError(f"endpoint is {endpoint!r}: write https://host, or a folder")
    return Path(endpoint).expanduser().resolve()


def file_path(url: str) -> Path:
    """Turn a `file://` URL into a path.

    Raises:
        ValueError: It names another machine, or climbs with `..`.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise ValueError(f"{url!r} is no folder of this machine: write file:///folder")
    if ".." in path.split("/"):
        raise ValueError(f"{url!r} climbs with '..'; write the folder itself")
    if re.match(r"/[A-Za-z]:/", path):  # file:///C:/folder
        path = path[1:]
    return Path(path).resolve()


def check_revision(revision: str) -> str:
    """Check the name of a branch, tag or commit; return it.

    Raises:
        ValueError: It is none.
    """
    bad = not isinstance(revision, str) or not REVISION.fullmatch(revision)
    if bad or any(part in ("", ".", "..") for part in revision.split("/")):
        raise ValueError(
            f"revision is {revision!r}: it is a branch, a tag or a commit, of letters, digits and "
            "._+-/"
        )
    return revision


def check_subfolder(subfolder: str) -> str:
    """Check a folder's path inside a repository; return it.

    Raises:
        ValueError: It leads out, or is not plain.
    """
    parts = subfolder.strip("/").split("/") if isinstance(subfolder, str) else [""]
    if len(parts) > 8 or not all(
        re.fullmatch(r"[\w.+ -]{1,96}", p) and p.strip(".") for p in parts
    ):
        raise ValueError(
            f"subfolder is {subfolder!r}: it is a path inside the repository, without '..', of "
            "letters, digits, blanks and ._+-"
        )
    return "/".join(parts)


def _meant(name: str | PathLike[str], hub: str | Path | None) -> Path | Alias | Repository | Shadow:
    """Say what a name means by its spelling, and by which folders there are."""
    text = str(name)
    if "\0" in text or not text:
        raise ValueError(f"{name!r} is no name")
    if not isinstance(name, str):
        return _local(name)
    if name.startswith("hf://"):
        return _spelled(name.removeprefix("hf://"), name, hub)
    if name.startswith(("http://", "https://")):
        return _web(name, hub)
    if name.startswith("file://"):
        if hub is not None:
            raise ValueError(f"{name!r} names its hub; leave endpoint= out")
        return _in_folder(name)
    if LOCAL_ONLY.match(name) or Path(name).is_absolute():
        return _local(os.path.expanduser(name))
    if "://" in name:
        raise ValueError(f"{name!r} is no name: write hf://owner/name, or a folder")
    return _plain(name, hub)


def _plain(name: str, hub: str | Path | None) -> Path | Alias | Repository | Shadow:
    """Tell a folder from `owner/name`; a folder that is there is meant."""
    there, spelled = archive.find(Path(name)), SPELLED.fullmatch(name)
    if spelled is None or (spelled["sub"] is not None and spelled["revision"] is None):
        if "/" not in name and not there:
            raise ValueError(_bare(name))
        hint = "" if spelled is None else f"; if it is on a hub, write hf://{name}"
        return _local(name, hint)
    default = os.environ.get("DECISION_POLICIES_HUB") if hub is None else None
    tried = "" if there else f"; nor is there a folder {name!r} in {Path.cwd()}"
    other = _spelled(name, name, place_of(default) if default else hub, tried)
    return other if there is None else Shadow(there, other)


def _spelled(text: str, name: str, hub: str | Path | None, tried: str = "") -> Alias | Repository:
    """Parse `owner/name[@revision][/subfolder]`."""
    text = text.removeprefix("models/") if text.count("/") > 1 else text
    match = SPELLED.fullmatch(text)
    owner = text.split("/")[0]
    if match is None or (owner in ("datasets", "spaces", "buckets") and text.count("/") > 1):
        raise ValueError(
            f"{name!r} is no name of a model on a hub: write hf://owner/name, and where you need "
            "it @revision and /subfolder behind; a '/' in a revision is written %2F"
        )
    if "--" in match["name"] or ".." in match["name"]:
        raise ValueError(f"{name!r} is no name on a hub: it holds '--' or '..'")
    revision = None if match["revision"] is None else check_revision(unquote(match["revision"]))
    subfolder = "" if match["sub"] is None else check_subfolder(match["sub"])
    if owner == SHIPPED and not subfolder:
        return Alias(match["name"].split("/")[1], revision)
    return Repository(match["name"], revision, subfolder, hub, tried)


def _web(url: str, hub: str | Path | None) -> Alias | Repository:
    """Parse a repository's page on a hub."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if origin in (HUB, "https://hf.co", "https://www.huggingface.co"):
        origin = HUB
    hosts = [hub, os.environ.get("HF_ENDPOINT", "").rstrip("/")]
    if origin not in (HUB, *hosts) or (hub is not None and origin != hub):
        asked = HUB if hub is None else hub
        raise ValueError(
            f"{url!r} is no page of the hub {asked}; pass endpoint={origin!r} to load from there"
        )
    path = unquote(parts.path).strip("/")
    found = re.fullmatch(rf"({WORD}/{WORD})(?:/(?:tree|blob)/([^/]+)(?:/(.+))?)?", path)
    if found is None:
        raise ValueError(f"{url!r} is no page of a model: write {origin}/owner/name")
    name, revision, sub = found.groups()
    made = f"{name}{f'@{revision}' if revision else ''}{f'/{sub}' if sub else ''}"
    parsed = _spelled(made, url, origin)
    if isinstance(parsed, Alias):  # a page is a page, also of an account named "hub"
        return Repository(name, parsed.revision, "", origin)
    return parsed


def _in_folder(url: str) -> Repository:
    """Find the repository that a `file://` name leads to."""
    path = file_path(url)
    for above in (path, *path.parents):
        bare, _, revision = above.name.partition("@")
        home = above.with_name(bare) if bare else above
        if bare and (home / "refs").is_dir():
            inside = path.relative_to(above).as_posix()
            return Repository(
                f"{home.parent.name}/{home.name}",
                check_revision(unquote(revision)) if revision else None,
                "" if inside == "." else check_subfolder(inside),
                home.parent.parent,
            )
    raise HubNotFound(
        f"{url!r} leads to no repository: a folder as a hub holds owner/name/refs/main and "
        "owner/name/<commit>/; a saved policy's own folder is written without file://"
    )


def _local(name: str | PathLike[str], hint: str = "") -> Path:
    found = archive.find(Path(name))
    if found is None:
        raise FileNotFoundError(
            f"no checkpoint at {str(name)!r} (in the folder {Path.cwd()}){hint}"
        )
    return found


def _bare(name: str) -> str:
    here = [p.name for p in sorted(Path.cwd().iterdir()) if p.is_dir() and p.name[0] != "."]
    close = difflib.get_close_matches(name, here, 3)
    similar = f"; similar here: {', '.join(close)}" if close else ""
    return (
        f"no folder {name!r} in {Path.cwd()}, and on a hub a name has an owner: did you mean "
        f"'hub/{name}' (shipped) or 'owner/{name}'?{similar}"
    )
