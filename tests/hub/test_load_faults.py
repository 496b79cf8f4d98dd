"""Loading by name when hub, network or name are wrong: one message, and nothing half kept."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

import decision_policies
from decision_policies import DeMa, DMHybrid
from decision_policies.errors import (
    CheckpointError,
    HubAuth,
    HubError,
    HubNotFound,
    HubOffline,
)
from decision_policies.hub import client, resolve
from tests.hub import faults
from tests.hub.cases import REPO, digest, kept, refused
from tests.hub.server import Hub


def test_absent_and_private_repositories_look_the_same(
    plain_hub: Hub, original: Path, cache: Path
) -> None:
    plain_hub.publish("alice/secret", original, private=True)
    for name in ("alice/absent", "alice/secret"):
        for token in (None, "hf_other"):
            found = refused(plain_hub, HubNotFound, name, token=token)
            status = 404 if token else 401
            assert found == (
                f"no repository {name} at {plain_hub.url}; nor is there a folder '{name}' in "
                f"{Path.cwd()}; if it is private, log in by `hf auth login` or pass token= (the "
                f"hub says: {status} RepoNotFound Repository not found)"
            )
    assert kept(cache) == []
    assert DeMa.load("alice/secret", endpoint=plain_hub.url, token="hf_read").policy


def test_gated_repository_names_the_page_and_its_terms(plain_hub: Hub, original: Path) -> None:
    plain_hub.publish(REPO, original, gated=True)
    for token, status in (("hf_other", 403), (None, 401)):
        assert refused(plain_hub, HubAuth, token=token) == (
            f"{plain_hub.url}/{REPO} is gated: open that page, accept the terms, and log in by "
            f"`hf auth login` or pass token= (the hub says: {status} GatedRepo Access to model "
            f"{REPO} is restricted.)"
        )


def test_unknown_token_is_named(served: Hub) -> None:
    assert refused(served, HubAuth, token="hf_nobody") == (
        f"{served.url} does not know this token; log in anew by `hf auth login`"
    )


def test_unknown_revision_lists_those_that_there_are(served: Hub) -> None:
    served.repositories[REPO].tags["v1"] = served.repositories[REPO].branches["main"]
    assert refused(served, HubNotFound, f"{REPO}@v9") == (
        f"{served.url}/{REPO} has no revision 'v9'; there are main, v1"
    )
    served.fail("refs", faults.status(404))
    assert refused(served, HubNotFound, f"{REPO}@{'0' * 40}") == (
        f"{served.url}/{REPO} has no revision '{'0' * 40}'; nor can its branches be listed"
    )


def test_unknown_subfolder_is_named(served: Hub) -> None:
    assert refused(served, HubNotFound, subfolder="dema") == (
        f"{served.url}/{REPO} has no folder 'dema' at 'main'"
    )


def test_offline_uses_the_cache_or_says_what_is_missing(
    served: Hub, original: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = (
        f"{REPO}@main of {served.url} is not in the cache {cache / 'hub'}, and HF_HUB_OFFLINE is "
        f"set; load it once where the hub can be reached; nor is there a folder '{REPO}' in "
        f"{Path.cwd()}"
    )
    assert refused(served, HubOffline) == line
    assert served.log == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert refused(served, HubOffline, local_files_only=True) == line.replace(
        "HF_HUB_OFFLINE is set", "local_files_only=True"
    )
    DeMa.load(REPO, endpoint=served.url)
    served.log.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    DeMa.load(REPO, endpoint=served.url)
    assert refused(served, HubOffline, f"{REPO}@v2").startswith(f"{REPO}@v2 of {served.url} is not")
    assert served.log == []


def test_hub_that_is_down_is_like_being_offline_with_a_warning(served: Hub, original: Path) -> None:
    folder = resolve(REPO, endpoint=served.url)
    served.stop()
    with pytest.warns(UserWarning, match=f"^{served.url} cannot be reached .*fetched before$"):
        assert resolve(REPO, endpoint=served.url) == folder
    assert resolve(REPO, endpoint=served.url, revision=folder.name) == folder
    line = refused(served, HubOffline, "alice/other")
    assert line.startswith(f"alice/other@main of {served.url} is not in the cache ")


@pytest.mark.parametrize("kind", ["info", "tree", "GET"])
@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_is_survived(kind: str, code: int, served: Hub) -> None:
    served.fail(kind, faults.status(code, {"Retry-After": "1"}), times=client.ATTEMPTS - 1)
    DeMa.load(REPO, endpoint=served.url)
    assert [seen.status for seen in served.requests(kind)].count(code) == client.ATTEMPTS - 1


@pytest.mark.parametrize("kind", ["info", "tree", "GET"])
@pytest.mark.parametrize("code", [429, 503])
def test_lasting_trouble_is_reported_and_nothing_kept(
    kind: str, code: int, served: Hub, cache: Path
) -> None:
    served.fail(kind, faults.status(code), times=99)
    with pytest.raises(HubError, match=rf" answers {code}, 4 times; nothing was kept, try again"):
        DeMa.load(REPO, endpoint=served.url)
    assert kept(cache) == []
    served.faults.clear()
    DeMa.load(REPO, endpoint=served.url)


def test_pauses_grow_and_heed_the_hub(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(client, "PAUSE", 0.5)
    monkeypatch.setattr(client, "LONGEST_PAUSE", 20.0)
    monkeypatch.setattr(time, "sleep", pauses.append)
    served.fail("info", faults.status(429, {"Retry-After": "7"}))
    served.fail("tree", faults.status(503), times=3)
    served.fail("GET", faults.status(429, {"Retry-After": "99999"}))
    DeMa.load(REPO, endpoint=served.url)
    assert pauses == [7.0, 0.5, 1.0, 2.0, 20.0]


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "model.safetensors"])
@pytest.mark.parametrize("sent", [0, 1, 100])
def test_cut_body_is_fetched_again(
    name: str, sent: int, hub: Hub, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAUSE", 0.0)
    hub.publish(REPO, original)
    path = f"/_lfs/{digest(original / name)}" if hub.redirects and "model" in name else name
    hub.fail("GET", faults.cut(sent), times=client.ATTEMPTS - 1, path=path)
    DeMa.load(REPO, endpoint=hub.url)
    assert [seen.status for seen in hub.requests("GET")].count(0) == client.ATTEMPTS - 1


def test_body_that_is_always_cut_is_reported_and_nothing_kept(
    served: Hub, original: Path, cache: Path
) -> None:
    size = (original / "model.safetensors").stat().st_size
    served.fail("GET", faults.cut(100), times=99, path="model.safetensors")
    with pytest.raises(HubError) as raised:
        DeMa.load(REPO, endpoint=served.url)
    commit = served.repositories[REPO].branches["main"]
    assert str(raised.value).startswith(
        f"{served.url}/{REPO}/resolve/{commit}/model.safetensors broke off after 100 of {size} "
        "bytes (RemoteProtocolError: "
    )
    assert raised.value.__cause__ is not None
    assert kept(cache) == []


def test_slow_hub_is_waited_for_and_then_given_up(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.2)
    served.fail("tree", faults.slow(0.5), times=1)
    DeMa.load(REPO, endpoint=served.url)
    served.fail("info", faults.slow(0.5), times=99)
    with pytest.raises(HubError, match=r"broke off after 0 bytes \(ReadTimeout: .*4 times"):
        DeMa.load(REPO, endpoint=served.url)


def test_other_class_and_unknown_class_are_named(served: Hub, saved: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        DMHybrid.load(REPO, endpoint=served.url)
    assert str(raised.value) == (
        f"'{REPO}' holds a 'DeMa' policy, not a DMHybrid; use DeMa.load(...) or "
        "decision_policies.load(...)"
    )
    config = json.loads((saved / "config.json").read_text())
    content = json.dumps({**config, "algorithm": "os.system"}).encode()
    manifest = json.loads((saved / "manifest.json").read_text())
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"]["config.json"] = entry
    (saved / "config.json").write_bytes(content)
    (saved / "manifest.json").write_text(json.dumps(manifest))
    served.publish("alice/evil", saved)
    with pytest.raises(
        CheckpointError, match=r"^alice/evil: unknown algorithm 'os\.system'; known are AD"
    ):
        decision_policies.load("alice/evil", endpoint=served.url)
