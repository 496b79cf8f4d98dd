"""`python -m zoo ship` puts a policy into the package; `push --all` publishes what is there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import decision_policies
from decision_policies import DeMa, hub
from decision_policies.hub import registry
from tests.fixtures import tiny_algorithm

from .logs_support import zoo


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships nothing yet."""
    folder = tmp_path / "policies"
    folder.mkdir()
    registry.write([], folder)
    monkeypatch.setattr(registry, "POLICIES", folder)
    monkeypatch.chdir(tmp_path)
    policy = tiny_algorithm(return_scale=100.0, target_return=300.0)
    policy.learn("cartpole/mixed-v0", 5).save(tmp_path / "balancer")
    return folder


def ship(alias: str = "cartpole") -> int:
    return zoo(f"ship balancer --env CartPole-v1 --alias {alias} --episodes 3 --quiet")


def test_what_is_shipped_is_loaded_by_its_alias_and_listed_honestly(root: Path) -> None:
    assert ship() == 0
    (entry,) = registry.read()
    manifest = (entry.folder() / "manifest.json").read_bytes()
    assert entry.sha256 == hashlib.sha256(manifest).hexdigest()
    assert (entry.environment, entry.dataset) == ("CartPole-v1", "cartpole/mixed-v0")
    assert (entry.repository, entry.commit, entry.target_return) == (None, None, 300.0)
    assert entry.score is not None and 8 <= entry.score <= 500
    observation = np.zeros(4, np.float32)
    there, here = DeMa.load("hub/cartpole"), DeMa.load("balancer")
    assert there.predict(observation)[0] == here.predict(observation)[0]
    assert type(decision_policies.load("hub/cartpole")) is DeMa
    assert 'DeMa.load("hub/cartpole"' in (entry.folder() / "README.md").read_text()


def test_what_a_team_publishes_for_itself_is_not_named_to_everybody(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ship() == 0
    assert zoo("push --all --namespace team --endpoint shelf") == 0
    assert "the default hub's repositories only" in capsys.readouterr().out
    (entry,) = registry.read()
    assert (entry.repository, entry.commit) == (None, None)
    assert DeMa.load("team/dema-cartpole", endpoint="shelf").policy is not None


def test_what_is_shipped_is_published_and_the_registry_says_where(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def push(*given: Any, **named: Any) -> hub.PushResult:
        return real(*given, **{**named, "endpoint": "shelf"})  # it stands in for the default hub

    real = hub.push
    monkeypatch.setattr(hub, "push", push)
    assert ship() == 0 and ship("again") == 0
    assert zoo("push --all --namespace team") == 0
    entries = registry.read()
    assert [e.repository for e in entries] == ["team/dema-cartpole", "team/dema-again"]
    for entry in entries:
        assert entry.repository is not None
        loaded = DeMa.load(entry.repository, revision=entry.commit, endpoint="shelf")
        assert loaded.predict(np.zeros(4, np.float32))[0] in (0, 1)
        card = root.parent / "shelf" / entry.repository / str(entry.commit) / "README.md"
        assert f'DeMa.load("{entry.repository}"' in card.read_text()
        assert f"hub/{entry.alias}" not in card.read_text()
    capsys.readouterr()
    assert zoo("push --all --namespace team") == 0
    assert capsys.readouterr().out.count("there already") == 2
    assert ship() == 0  # another policy than the published one
    assert registry.find("cartpole").commit is None
    assert registry.find("again").commit is not None
    assert [e.alias for e in registry.read()] == ["cartpole", "again"]  # in its old place


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("ship balancer --env CartPole-v1 --alias ../x --episodes 2", "alias of '../x'"),
        ("ship balancer --env CartPole-v1 --alias x --episodes 0", "nothing is shipped without"),
        ("push --all", "--all goes with --namespace OWNER"),
        ("push --all --namespace team --endpoint shelf --revision dev", "--all pushes to main"),
        ("push --all --namespace team --endpoint shelf -m title", "--all pushes to main"),
        ("push --all --namespace team --endpoint shelf", "ships no policy"),
        ("push balancer", "name the repository, OWNER/NAME"),
    ],
)
def test_what_cannot_be_shipped_is_refused_and_nothing_is_written(
    root: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    assert zoo(command) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in root.iterdir()] == ["registry.json"]
    assert registry.read() == ()
