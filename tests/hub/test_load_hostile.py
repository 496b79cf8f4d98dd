"""A hub that lies: names, ids, sizes, commits and bytes that must not be believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from decision_policies import DeMa
from decision_policies.errors import CheckpointError, HubError
from decision_policies.hub import download, resolve
from decision_policies.hub.download import fetch
from decision_policies.hub.names import Repository
from tests.hub import faults
from tests.hub.cases import REPO, digest, kept, refused
from tests.hub.faults import Trouble
from tests.hub.server import Hub, read


def test_flipped_bit_is_refused_and_fetched_again_by_the_next_load(
    served: Hub, original: Path, cache: Path
) -> None:
    commit, right = (
        served.repositories[REPO].branches["main"],
        digest(original / "model.safetensors"),
    )
    served.fail("GET", faults.flip(8 * 4000), path="model.safetensors")
    line = refused(served, CheckpointError)
    assert line.startswith("model.safetensors sha256 ")
    assert line.endswith(
        f"…, expected {right[:16]}…: it was altered on the way from {REPO}@{commit[:12]} at "
        f"{served.url}; nothing was kept, so the next load fetches it again"
    )
    assert kept(cache) == []
    for name in ("config.json", "manifest.json"):
        served.fail("GET", faults.flip(8 * 40 + 3), path=name)
        assert refused(served, CheckpointError).startswith(f"{name} Git's sha1 ")
    DeMa.load(REPO, endpoint=served.url)


def test_files_that_a_hub_changes_together_still_meet_their_manifest(
    plain_hub: Hub, original: Path, cache: Path
) -> None:
    files = read(original)
    plain_hub.publish(REPO, {**files, "model.safetensors": files["model.safetensors"][:-1] + b"!"})
    line = refused(plain_hub, CheckpointError)
    assert line.startswith(str(cache))
    assert "model.safetensors was altered: sha256 " in line
    assert kept(cache) == []


@pytest.mark.parametrize("trouble", [faults.short(), faults.long(b"more")])
def test_wrong_length_is_refused(trouble: Trouble, served: Hub, cache: Path) -> None:
    served.fail("GET", trouble, path="config.json")
    with pytest.raises(
        HubError, match=r"config.json (has|sends more than).* bytes.*nothing was kept"
    ):
        DeMa.load(REPO, endpoint=served.url)
    assert kept(cache) == []


def items(change: Callable[[dict[str, Any]], object]) -> Trouble:
    """Change the listed config.json."""

    def alter(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for item in listed:
            if item["path"] == "config.json":
                change(item)
        return listed

    return faults.body(alter)


UNSAFE = ["../pwned", "/etc/pwned", "a/../../pwned", "..", "a\\b", "C:pwned", "a\0b", "", 7, None]


@pytest.mark.parametrize("name", UNSAFE, ids=repr)
def test_unsafe_name_is_refused_before_anything_is_fetched(
    name: object, served: Hub, cache: Path
) -> None:
    served.fail("tree", items(lambda item: item.update(path=name)))
    assert refused(served, HubError) == f"refused unsafe name from hub {served.url}: {str(name)!r}"
    assert served.requests("GET") == []
    assert kept(cache) == []


@pytest.mark.parametrize(
    "oid", ["../../../../pwned", "0" * 39, "G" * 40, "A" * 40, 7, None], ids=repr
)
@pytest.mark.parametrize("lfs", [False, True])
def test_unsafe_id_is_refused_before_anything_is_fetched(
    oid: object, lfs: bool, served: Hub, cache: Path
) -> None:
    change = {"lfs": {"oid": oid, "size": 1}} if lfs else {"oid": oid}
    served.fail("tree", items(lambda item: item.update(change)))
    assert refused(served, HubError) == (
        f"refused unsafe id from hub {served.url}: config.json has {str(oid)!r}"
    )
    assert served.requests("GET") == []
    assert kept(cache) == []


def test_hostile_headers_change_nothing(served: Hub, cache: Path) -> None:
    for name in ("ETag", "X-Linked-Etag", "X-Repo-Commit", "Content-Disposition"):
        served.fail("GET", faults.header(name, '"../../../../pwned.txt"'), times=3)
    folder = resolve(REPO, endpoint=served.url)
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted([folder.name, "refs"])
    assert list(cache.parent.rglob("*pwned*")) == []


@pytest.mark.parametrize("commit", ["../../pwned", "main", "0" * 41, 5, None])
def test_hostile_commit_is_refused(commit: object, served: Hub, cache: Path) -> None:
    served.fail("info", faults.body(lambda info: {**info, "sha": commit}))
    assert refused(served, HubError) == (
        f"refused {str(commit)!r} from {served.url}: it is no commit"
    )
    assert kept(cache) == []


@pytest.mark.parametrize("size", [-1, 1.5, True, "9", None])
def test_hostile_size_is_refused(size: object, served: Hub) -> None:
    served.fail("tree", items(lambda item: item.update(size=size)))
    assert refused(served, HubError) == (
        f"refused size from hub {served.url}: config.json has {str(size)!r}"
    )


@pytest.mark.parametrize("kind", ["info", "tree"])
@pytest.mark.parametrize("answer", ["text", [[1]], {"a": 1}, 3, None])
def test_answer_of_another_kind_is_refused(kind: str, answer: object, served: Hub) -> None:
    served.fail(kind, faults.body(lambda _: answer))
    refused(served, HubError)


def test_page_that_is_no_hub_is_refused(served: Hub) -> None:
    served.fail("info", Trouble(alter=lambda reply: type(reply)(200, b"<html>")))
    assert refused(served, HubError) == (
        f"{served.url}/api/models/{REPO}/revision/main?expand=sha answers with something else than "
        "JSON (b'<html>'); is this a hub's address?"
    )


def test_too_large_a_policy_is_refused_before_a_byte_comes(served: Hub, cache: Path) -> None:
    served.fail("tree", items(lambda item: item.update(size=5 << 30)))
    line = refused(served, HubError)
    assert line.startswith(f"{REPO}@")
    assert f"more than the {4 << 30} and {1 << 22} that are fetched; nothing was" in line
    repository = Repository(REPO)
    with pytest.raises(HubError, match="more than the 100 and "):
        fetch(repository, served.url, max_bytes=100)
    assert served.requests("GET") == []
    assert kept(cache) == []


def test_endless_list_of_files_is_refused(served: Hub) -> None:
    served.fail(
        "tree",
        faults.header("Link", f'<{served.url}/api/models/{REPO}/tree/main>; rel="next"'),
        times=99,
    )
    assert refused(served, HubError).endswith(
        f"?recursive=false&expand=false lists more than {download.MAX_PAGES} pages; nothing was "
        "kept"
    )


def test_repository_without_a_checkpoint_says_what_is_there(plain_hub: Hub) -> None:
    commit = plain_hub.publish(REPO, {"README.md": b"", "ppo.zip": b"PK"})
    assert refused(plain_hub, CheckpointError) == (
        f"{REPO}@{commit[:12]} at {plain_hub.url} is no whole checkpoint: config.json is missing "
        "(README.md, ppo.zip there)"
    )


@pytest.mark.parametrize("link", ["@localhost:{port}/x", ".example.com/x", "http://[", ":1/x", ""])
def test_link_that_would_mean_another_host_is_refused(link: str, served: Hub) -> None:
    link = link.format(port=served.port)
    served.fail("tree", faults.header("Link", f'<{link}>; rel="next"'))
    line = refused(served, HubError, token="hf_read")
    assert line == f"refused unsafe link from hub {served.url}: {f'<{link}>'!r}"
    assert {seen.host for seen in served.log} == {f"127.0.0.1:{served.port}"}


def test_link_to_another_host_is_asked_of_the_same_hub(served: Hub) -> None:
    path = f"/api/models/{REPO}/tree/main"
    link = f'<http://localhost:{served.port}{path}?recursive=false>; rel="next"'
    served.fail("tree", faults.header("Link", link))
    DeMa.load(REPO, endpoint=served.url, token="hf_read")
    assert {seen.host for seen in served.log} == {f"127.0.0.1:{served.port}"}
