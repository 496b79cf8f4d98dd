"""The loopback hub itself: the real client can do with it what it does with the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub import faults
from tests.hub.server import Hub

WEIGHTS = bytes(range(256)) * 20


def api(hub: Hub, token: str = "hf_write") -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def commit(hub: Hub, parent: str | None = None, message: str = "first") -> str:
    operations = [
        CommitOperationAdd("README.md", b"---\ntags: [mamba]\n---\n# Card\n" + message.encode()),
        CommitOperationAdd("model.safetensors", WEIGHTS + message.encode()),
    ]
    made = api(hub).create_commit(
        "alice/hopper", operations, commit_message=message, parent_commit=parent
    )
    return made.oid


def test_client_pushes_and_downloads_by_commit(hub: Hub, tmp_path: Path) -> None:
    api(hub).create_repo("alice/hopper")
    first = commit(hub)
    second = commit(hub, first, "second")
    for oid, message in ((first, "first"), (second, "second")):
        path = api(hub).hf_hub_download(
            "alice/hopper", "model.safetensors", revision=oid, cache_dir=tmp_path / "hf"
        )
        assert Path(path).read_bytes() == WEIGHTS + message.encode()
    assert api(hub).model_info("alice/hopper").tags == ["mamba"]
    assert [c.title for c in api(hub).list_repo_commits("alice/hopper")] == [
        "second",
        "first",
        "initial commit",
    ]
    assert all(seen.token is None for seen in hub.log if "/_lfs/" in seen.path)


def test_stale_parent_is_refused(plain_hub: Hub) -> None:
    api(plain_hub).create_repo("alice/hopper")
    first = commit(plain_hub)
    commit(plain_hub, first, "second")
    with pytest.raises(HfHubHTTPError) as error:
        commit(plain_hub, first, "third")
    assert error.value.response.status_code == 412


def test_tokens_open_what_they_should(plain_hub: Hub) -> None:
    plain_hub.publish("alice/secret", {"a": b"a"}, private=True)
    plain_hub.publish("alice/gated", {"a": b"a"}, gated=True)
    assert api(plain_hub, "hf_read").model_info("alice/secret").private
    with pytest.raises(RepositoryNotFoundError):
        api(plain_hub, "hf_other").model_info("alice/secret")
    with pytest.raises(GatedRepoError):
        api(plain_hub, "hf_other").hf_hub_download("alice/gated", "a")
    with pytest.raises(RevisionNotFoundError):
        api(plain_hub).model_info("alice/secret", revision="v9")
    with pytest.raises(HfHubHTTPError, match="403"):
        api(plain_hub, "hf_read").create_repo("alice/new")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api(plain_hub, "hf_nobody").whoami()


def test_faults_meet_the_requests_they_are_ordered_for(plain_hub: Hub) -> None:
    plain_hub.publish("alice/hopper", {"a": b"a"})
    plain_hub.fail("info", faults.status(500), times=1)
    with pytest.raises(HfHubHTTPError, match="500"):
        api(plain_hub).model_info("alice/hopper")
    assert api(plain_hub).model_info("alice/hopper").sha is not None
    assert [seen.status for seen in plain_hub.requests("info")] == [500, 200]
