"""The shipped registry: aliases, classes, what the package holds, and what is published."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import decision_policies
from decision_policies import DM, DeMa, DMHybrid
from decision_policies.algorithms import BY_NAME
from decision_policies.errors import CheckpointError, HubNotFound
from decision_policies.hub import cache, registry
from tests.hub.cases import digest
from tests.hub.server import Hub

REPO = "alice/tiny"


@pytest.fixture
def entry(original: Path) -> registry.Entry:
    return registry.Entry(
        alias="tiny",
        algorithm="DeMa",
        repository=None,
        commit=None,
        sha256=digest(original / "manifest.json"),
        environment="Tiny-v0",
        dataset=None,
        target_return=3.5,
        score=None,
    )


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an empty registry in the place of the package's."""
    root = tmp_path / "policies"
    root.mkdir()
    registry.write([], root)
    monkeypatch.setattr(registry, "POLICIES", root)
    return root


def line(error: type[Exception], name: str, **options: Any) -> str:
    with pytest.raises(error) as raised:
        DeMa.load(name, **options)
    assert type(raised.value) is error
    return str(raised.value).splitlines()[0]


def test_packages_registry_is_whole() -> None:
    for entry in registry.read():
        assert entry.algorithm in BY_NAME
        if entry.folder().is_dir():
            assert cache.check_whole(entry.folder()) == entry.sha256
        else:
            assert entry.repository is not None


def test_shipped_policy_loads_without_asking_anybody(
    policies: Path, entry: registry.Entry, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it raises
    shutil.copytree(original, policies / "tiny" / "DeMa")
    registry.write([entry], policies)
    assert registry.read(policies) == (entry,)
    for load in (DeMa.load, decision_policies.load):
        assert type(load("hub/tiny", endpoint="http://127.0.0.1:9")) is DeMa
    assert line(HubNotFound, "hub/tiny@v1") == (
        "'hub/tiny' is not published on a hub, so there is no revision 'v1' of it"
    )


def test_nothing_published_is_said_so(policies: Path) -> None:
    assert line(HubNotFound, "hub/hopper") == (
        "'hub/hopper' is not published: this version of decision_policies ships no trained policy "
        "and knows of none on a hub; train one by learn(...) and load it from where you saved it, "
        "or name a repository as hf://owner/name"
    )


def test_unknown_alias_lists_close_ones(policies: Path, entry: registry.Entry) -> None:
    registry.write([entry, replace(entry, alias="other")], policies)
    assert line(HubNotFound, "hub/tinny") == (
        "there is no shipped policy 'hub/tinny'; did you mean hub/tiny? There are other, tiny; a "
        "repository of an account named hub is written https://huggingface.co/hub/tinny"
    )


def test_other_class_is_named(policies: Path, entry: registry.Entry, original: Path) -> None:
    registry.write([entry, replace(entry, algorithm="DM")], policies)
    with pytest.raises(CheckpointError) as raised:
        DMHybrid.load("hub/tiny")
    assert str(raised.value) == (
        "'hub/tiny' holds a 'DeMa' policy, not a DMHybrid; use DeMa.load(...) or DM.load(...) or "
        "decision_policies.load(...)"
    )
    shutil.copytree(original, policies / "tiny" / "DM")  # a DeMa where a DM should be
    with pytest.raises(CheckpointError, match=r"^'hub/tiny' holds a 'DeMa' policy, not a DM;"):
        DM.load("hub/tiny")


def test_missing_policy_is_named(policies: Path, entry: registry.Entry) -> None:
    registry.write([entry], policies)
    assert line(HubNotFound, "hub/tiny") == (
        "'hub/tiny' is neither published nor in this installation; install the package anew"
    )


def test_published_policy_is_fetched_at_its_pinned_commit(
    plain_hub: Hub, policies: Path, entry: registry.Entry, original: Path, saved: Path
) -> None:
    commit = plain_hub.publish(REPO, original)
    published = replace(entry, repository=REPO, commit=commit)
    registry.write([published], policies)
    DeMa.load(saved).save(saved, training_state=False)
    plain_hub.publish(REPO, saved)
    for name in ("hub/tiny", f"hub/tiny@{commit}", f"hub/tiny@{commit[:9]}"):
        assert DeMa.load(name, endpoint=plain_hub.url).policy
    assert [seen.kind for seen in plain_hub.log] == ["tree", "GET", "GET", "GET"]
    assert DeMa.load("hub/tiny@main", endpoint=plain_hub.url).policy, "not pinned, and not checked"
    registry.write([replace(published, sha256="0" * 64)], policies)
    assert line(CheckpointError, "hub/tiny", endpoint=plain_hub.url) == (
        f"'hub/tiny' is not what the registry lists: sha256 of its manifest is "
        f"{entry.sha256[:16]}…, expected {'0' * 16}…"
    )


def test_altered_shipped_policy_is_refused(
    policies: Path, entry: registry.Entry, saved: Path
) -> None:
    shutil.copytree(saved, policies / "tiny" / "DeMa")
    registry.write([entry], policies)
    weights = policies / "tiny" / "DeMa" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert line(CheckpointError, "hub/tiny").startswith(f"{weights} was altered: sha256 ")


@pytest.mark.parametrize(
    "change",
    [
        {"alias": "../x"},
        {"class": "os.system"},
        {"repository": "alice"},
        {"repository": REPO},
        {"commit": "main"},
        {"sha256": "0"},
        {"environment": None},
        {"target_return": "much"},
        {"score": True},
        {"more": 1},
    ],
    ids=str,
)
def test_damaged_registry_is_refused(
    change: dict[str, Any], policies: Path, entry: registry.Entry
) -> None:
    registry.write([entry], policies)
    path = policies / "registry.json"
    item = json.loads(path.read_text())["policies"][0]
    path.write_text(json.dumps({"policies": [{**item, **change}]}))
    assert line(CheckpointError, "hub/tiny").startswith(str(path))


def test_registry_that_lists_a_policy_twice_or_nothing_is_refused(
    policies: Path, entry: registry.Entry
) -> None:
    registry.write([entry, entry], policies)
    assert line(CheckpointError, "hub/tiny") == f"{policies / 'registry.json'} lists a policy twice"
    (policies / "registry.json").write_text("[]")
    assert line(CheckpointError, "hub/tiny").endswith("expected a JSON object, got list")
    (policies / "registry.json").unlink()
    assert line(CheckpointError, "hub/tiny").endswith("; install the package anew")
    with pytest.raises(CheckpointError, match="alias of '/' is '/'"):
        registry.write([replace(entry, alias="/")], policies)


def test_digest_of_the_manifest_is_that_of_everything(original: Path) -> None:
    content = (original / "manifest.json").read_bytes()
    assert cache.check_whole(original) == hashlib.sha256(content).hexdigest()
