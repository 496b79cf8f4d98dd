"""The shipped registry: which policies the package holds or knows, by alias and class."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from decision_policies.errors import CheckpointError, HubNotFound
from decision_policies.hub.names import COMMIT, NAME
from decision_policies.strict_json import parse_json

POLICIES = Path(__file__).parent.parent / "policies"
"""Where the package keeps `registry.json`, and policies as `<alias>/<class>/`."""
REGISTRY = "registry.json"
ALIAS = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")


@dataclass(frozen=True)
class Entry:
    """A policy that can be loaded as `hub/<alias>`.

    Attributes:
        alias: The name.
        algorithm: The class that it is of.
        repository: `owner/name` where it is published; None where it is not.
        commit: The commit that the alias means there; None where it is not published.
        sha256: Of its manifest.json, hence of all of it.
        environment: The environment that it acts in.
        dataset: What it was trained on; None for data that has no name.
        target_return: The return that it asks for.
        score: Mean return over fresh episodes, as its card says; None where it was not measured.
    """

    alias: str
    algorithm: str
    repository: str | None
    commit: str | None
    sha256: str
    environment: str
    dataset: str | None
    target_return: float
    score: float | None

    def folder(self, root: Path | None = None) -> Path:
        """Name the folder where the package ships it, if it does."""
        return (root or POLICIES) / self.alias / self.algorithm


def read(root: Path | None = None) -> tuple[Entry, ...]:
    """Read the registry.

    Args:
        root: A folder with a `registry.json`; None is the package's own.

    Raises:
        CheckpointError: It is damaged.
    """
    path = (root or POLICIES) / REGISTRY
    try:
        data = parse_json(path, path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}; install the package anew"
        ) from error
    listed = data.get("policies")
    if set(data) != {"policies"} or not isinstance(listed, list):
        raise CheckpointError(f"{path} does not list policies; install the package anew")
    entries = tuple(_entry(path, item) for item in listed)
    names = [(entry.alias, entry.algorithm) for entry in entries]
    if len(set(names)) != len(names):
        raise CheckpointError(f"{path} lists a policy twice")
    return entries


def write(entries: Sequence[Entry], root: Path) -> None:
    """Write a registry; of several classes of an alias, the first is the one `load` chooses.

    Args:
        entries: What it shall list.
        root: The folder with its `registry.json`.

    Raises:
        CheckpointError: An entry could not be read back.
    """
    check(entries, root)
    path = root / REGISTRY
    listed = [_as_json(entry) for entry in entries]
    text = json.dumps({"policies": listed}, indent=2, allow_nan=False) + "\n"
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def check(entries: Sequence[Entry], root: Path) -> None:
    """Check that entries can be read back.

    Raises:
        CheckpointError: One could not; the message names it.
    """
    for entry in entries:
        _entry(root / REGISTRY, _as_json(entry))


def find(alias: str, algorithm: str | None = None, root: Path | None = None) -> Entry:
    """Find a policy.

    Args:
        alias: Its name, without `hub/`.
        algorithm: The class it must be of; None is the first that is listed.
        root: As in `read`.

    Raises:
        HubNotFound: There is no such alias; names close ones.
        CheckpointError: There is, but not of that class; names those that there are.
    """
    entries = read(root)
    known = [entry for entry in entries if entry.alias == alias]
    if not known:
        raise HubNotFound(_unknown(alias, entries))
    found = next((e for e in known if algorithm in (None, e.algorithm)), None)
    if found is None:
        classes = [entry.algorithm for entry in known]
        raise CheckpointError(
            f"'hub/{alias}' holds a {classes[0]!r} policy, not a {algorithm}; use "
            f"{' or '.join(f'{name}.load(...)' for name in classes)} or decision_policies.load(...)"
        )
    return found


def _unknown(alias: str, entries: Sequence[Entry]) -> str:
    if not entries:
        return (
            f"'hub/{alias}' is not published: this version of decision_policies ships no trained "
            "policy and knows of none on a hub; train one by learn(...) and load it from where you "
            "saved it, or name a repository as hf://owner/name"
        )
    names = sorted({entry.alias for entry in entries})
    close = difflib.get_close_matches(alias, names, 3)
    hint = f"did you mean {' or '.join(f'hub/{name}' for name in close)}? " if close else ""
    return (
        f"there is no shipped policy 'hub/{alias}'; {hint}There are {', '.join(names)}; a "
        f"repository of an account named hub is written https://huggingface.co/hub/{alias}"
    )


def _as_json(entry: Entry) -> dict[str, Any]:
    return {"class" if k == "algorithm" else k: v for k, v in asdict(entry).items()}


def _entry(path: Path, item: object) -> Entry:
    names = {"class" if f.name == "algorithm" else f.name for f in fields(Entry)}
    if not isinstance(item, dict) or set(item) != names:
        raise CheckpointError(f"{path}: an entry needs exactly {', '.join(sorted(names))}")
    for name, pattern, optional in (
        ("alias", ALIAS, False),
        ("class", re.compile(r"[A-Za-z]\w{0,99}"), False),
        ("repository", NAME, True),
        ("commit", COMMIT, True),
        ("sha256", re.compile(r"[0-9a-f]{64}"), False),
        ("environment", re.compile(r".+"), False),
        ("dataset", re.compile(r".+"), True),
    ):
        value = item[name]
        if not (value is None and optional) and not (
            isinstance(value, str) and pattern.fullmatch(value)
        ):
            raise CheckpointError(f"{path}: {name} of {item['alias']!r} is {value!r}")
    for name, optional in (("target_return", False), ("score", True)):
        value = item[name]
        if not (value is None and optional) and type(value) not in (int, float):
            raise CheckpointError(f"{path}: {name} of {item['alias']!r} is {value!r}, no number")
    if (item["repository"] is None) != (item["commit"] is None):
        raise CheckpointError(
            f"{path}: {item['alias']!r} needs both repository and commit, or none"
        )
    return Entry(**{"algorithm" if k == "class" else k: v for k, v in item.items()})
