"""Pushing to a hub: one commit or none, and errors that say what to do; by the real client."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants

from decision_policies import DeMa
from decision_policies.checkpoint import open_checkpoint
from decision_policies.errors import (
    CheckpointError,
    HubAuth,
    HubConflict,
    HubError,
    HubNotFound,
    HubOffline,
)
from decision_policies.hub import remote
from decision_policies.hub.push import PushResult, push
from tests.fixtures import trained
from tests.hub import faults
from tests.hub.server import Hub

REPO = "alice/dema-tiny"
CARD = "---\nlibrary_name: decision-policies\ntags: [reinforcement-learning]\n---\n# A card\n"
RESULTS = {"mean_reward": 3.5, "std_reward": 0.5, "eval_datetime": "2026-01-01T00:00:00+00:00"}
UPLOADS = ("lfs", "put", "commit")


def send(hub: Hub, folder: Path, **changes: Any) -> PushResult:
    options = {"card": CARD, "results": RESULTS, "token": "hf_write", "endpoint": hub.url}
    return push(folder, REPO, **{**options, **changes})


def commits(hub: Hub) -> int:
    """Commits upon the empty one that a repository begins with."""
    return len(hub.repositories[REPO].commits) - 1


def head(hub: Hub, branch: str = "main") -> str:
    return hub.repositories[REPO].branches[branch]


def content(hub: Hub, name: str, commit: str) -> bytes:
    return hub.blobs[hub.repositories[REPO].files(commit)[name].key]


def names(hub: Hub, revision: str = "main") -> set[str]:
    return set(hub.repositories[REPO].files(revision))


def actions_of(folder: Path) -> list[Any]:
    algorithm = DeMa.load(folder, device="cpu")
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    return [algorithm.predict(o, reward=0.5)[0].tolist() for o in observations]


def test_one_commit_holds_the_checkpoint_its_card_and_what_was_measured(
    hub: Hub, original: Path, tmp_path: Path
) -> None:
    video = tmp_path / "some.mp4"
    video.write_bytes(b"a film")
    made = send(hub, original, video=video, commit_message="First policy")
    assert made == PushResult(REPO, head(hub), f"{hub.url}/{REPO}/tree/{made.commit}", True)
    assert commits(hub) == 1 and len(hub.requests("commit")) == 1
    api = HfApi(endpoint=hub.url, token="hf_write")
    assert api.list_repo_commits(REPO)[0].title == "First policy"
    snapshot = Path(api.snapshot_download(REPO, revision=made.commit, local_dir=tmp_path / "there"))
    assert (
        names(hub)
        == {p.name for p in snapshot.iterdir()} - {".cache"}
        == {
            *("config.json", "model.safetensors", "manifest.json"),
            *("README.md", "results.json", "replay.mp4"),
        }
    )
    assert json.loads((snapshot / "results.json").read_text()) == RESULTS
    assert (snapshot / "README.md").read_text() == CARD
    assert actions_of(snapshot) == actions_of(original)


def test_training_state_stays_at_home_and_the_manifest_says_so(
    plain_hub: Hub, original: Path, tmp_path: Path
) -> None:
    assert (original / "training").is_dir()
    send(plain_hub, original)
    assert not any(name.startswith("training") for name in names(plain_hub))
    shutil.copytree(original, tmp_path / "there", ignore=shutil.ignore_patterns("training"))
    there = content(plain_hub, "manifest.json", "main")
    (tmp_path / "there" / "manifest.json").write_bytes(there)
    assert open_checkpoint(tmp_path / "there").training() is None
    trained().save(tmp_path / "bare", training_state=False)
    assert json.loads((tmp_path / "bare" / "manifest.json").read_text()) == json.loads(there)


def test_same_files_make_no_second_commit(hub: Hub, original: Path) -> None:
    first = send(hub, original)
    again = send(hub, original)
    assert again == PushResult(REPO, first.commit, first.url, changed=False)
    later = send(hub, original, results={**RESULTS, "eval_datetime": "2027-01-01T00:00:00+00:00"})
    assert later == again, "measured again, with the same figures"
    assert commits(hub) == 1
    other = send(hub, original, results={**RESULTS, "mean_reward": 4.0})
    assert other.changed and commits(hub) == 2


def test_push_replaces_what_is_its_own_and_leaves_the_rest(
    plain_hub: Hub, original: Path, tmp_path: Path
) -> None:
    video = tmp_path / "some.mp4"
    video.write_bytes(b"a film of the old policy")
    send(plain_hub, original, video=video)
    HfApi(endpoint=plain_hub.url, token="hf_write").create_commit(
        REPO, [CommitOperationAdd("LICENSE", b"MIT")], commit_message="by hand"
    )
    made = send(plain_hub, original, results=None)
    assert made.changed and commits(plain_hub) == 3
    assert names(plain_hub) == {
        *("config.json", "model.safetensors", "manifest.json", "README.md", "LICENSE")
    }
    assert not send(plain_hub, original, results=None).changed


def test_branch_is_made_and_main_stays_where_it_was(plain_hub: Hub, original: Path) -> None:
    first = send(plain_hub, original)
    made = send(plain_hub, original, revision="v2", card=CARD + "More.\n")
    assert (head(plain_hub), head(plain_hub, "v2")) == (first.commit, made.commit)
    assert commits(plain_hub) == 2


def test_lost_race_changes_nothing_and_names_both_commits(
    plain_hub: Hub, original: Path, tmp_path: Path
) -> None:
    first = send(plain_hub, original)
    before = {path: path.read_bytes() for path in original.rglob("*") if path.is_file()}
    theirs = []

    def meanwhile(answer: Any) -> Any:
        theirs.append(plain_hub.publish(REPO, {"README.md": b"theirs"}))
        return answer

    plain_hub.fail("preupload", faults.body(meanwhile))
    with pytest.raises(HubConflict) as caught:
        send(plain_hub, original, card=CARD + "Ours.\n")
    assert str(caught.value) == (
        f"{REPO}: main is at {theirs[0]}, and no longer at {first.commit}, which this push was "
        "made upon: somebody else pushed. Nothing was changed; look at what they did, and push "
        "again"
    )
    assert head(plain_hub) == theirs[0] and content(plain_hub, "README.md", "main") == b"theirs"
    assert {path: path.read_bytes() for path in before} == before
    assert send(plain_hub, original).changed, "on top of theirs"


def test_token_that_may_only_read_uploads_nothing(plain_hub: Hub, original: Path) -> None:
    words = f"pushing to {REPO} on {plain_hub.url}: the token needs write access to 'alice'; "
    with pytest.raises(HubAuth, match="^" + words):  # nothing there yet
        send(plain_hub, original, token="hf_read")
    assert REPO not in plain_hub.repositories
    made = send(plain_hub, original)
    asked = {kind: len(plain_hub.requests(kind)) for kind in UPLOADS}
    with pytest.raises(HubAuth, match="^" + words):
        send(plain_hub, original, token="hf_read", card=CARD + "More.\n")
    with pytest.raises(HubAuth, match="write access to 'alice'"):
        send(plain_hub, original, token="hf_other", card=CARD + "More.\n")
    assert {kind: len(plain_hub.requests(kind)) for kind in UPLOADS} == asked
    assert head(plain_hub) == made.commit


@pytest.mark.parametrize("token", ["hf_nobody", None])
def test_token_that_is_none_says_how_to_log_in(
    plain_hub: Hub, original: Path, token: str | None
) -> None:
    with pytest.raises(HubAuth, match="valid token: run `hf auth login`, or pass token="):
        send(plain_hub, original, token=token)


def test_machines_own_token_goes_to_the_machines_own_hub_only(
    plain_hub: Hub, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    with pytest.raises(HubAuth, match="pass token="):
        send(plain_hub, original, token=None)
    assert {seen.token for seen in plain_hub.log} == {None}
    monkeypatch.setattr(constants, "ENDPOINT", plain_hub.url)
    assert send(plain_hub, original, token=None, endpoint=None).changed


@pytest.mark.parametrize("status", [400, 500, 503])
def test_death_between_upload_and_commit_leaves_the_head_and_the_next_push_makes_one_commit(
    plain_hub: Hub, original: Path, status: int
) -> None:
    plain_hub.publish(REPO, {"README.md": b"before"})
    before = head(plain_hub)
    plain_hub.fail("commit", faults.status(status), times=99)
    with pytest.raises(HubError):
        send(plain_hub, original)
    assert len(plain_hub.requests("put")) == 1 and head(plain_hub) == before
    plain_hub.faults.clear()
    made = send(plain_hub, original)
    assert made.changed and len(plain_hub.requests("put")) == 1, "stored already"
    assert plain_hub.repositories[REPO].commits[head(plain_hub)].parent == before


def test_commit_whose_answer_was_lost_is_not_made_twice(plain_hub: Hub, original: Path) -> None:
    plain_hub.publish(REPO, {"README.md": b"before"})
    plain_hub.fail("commit", faults.lost())
    with pytest.raises(HubError, match="Push again: what has arrived is not committed twice"):
        send(plain_hub, original)
    done = head(plain_hub)
    assert send(plain_hub, original).commit == done and not send(plain_hub, original).changed


@pytest.mark.parametrize("kind", ["info", "create", "tree", "card", "preupload", "lfs", "put"])
def test_hub_that_fails_at_any_step_keeps_its_head(
    plain_hub: Hub, original: Path, kind: str
) -> None:
    if kind != "create":
        plain_hub.publish(REPO, {"README.md": b"before"})
    plain_hub.fail(kind, faults.status(400), times=99)
    with pytest.raises(HubError) as caught:
        send(plain_hub, original)
    assert caught.value.__cause__ is not None
    assert f"pushing to {REPO} on {plain_hub.url}: " in str(caught.value)
    assert not plain_hub.requests("commit")


def test_hub_that_holds_other_bytes_than_were_sent_is_found_out(
    plain_hub: Hub, original: Path
) -> None:
    plain_hub.publish(REPO, {"README.md": b"before"})

    def other(listing: Any) -> Any:
        for entry in listing:
            if entry["path"] == "model.safetensors":
                entry["lfs"]["oid"] = "0" * 64
        return listing

    plain_hub.fail("tree", faults.body(other), times=2)
    with pytest.raises(HubError, match=r"holds other bytes than were sent: .*model\.safetensors"):
        send(plain_hub, original)


def test_hub_without_xet_is_pushed_to_though_hf_xet_is_installed(
    plain_hub: Hub, original: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("hf_xet", reason="comes with huggingface_hub")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    made = send(plain_hub, original)
    assert made.changed and commits(plain_hub) == 1 and len(plain_hub.requests("put")) == 1
    assert any("/xet-write-token/" in seen.path for seen in plain_hub.log)
    api = HfApi(endpoint=plain_hub.url, token="hf_write")

    @remote.explained(REPO, plain_hub.url)
    def push_as_the_client_does_by_itself() -> None:
        weights = CommitOperationAdd("model.safetensors", b"others")
        api.create_commit(REPO, [weights], commit_message="others")

    with pytest.raises(HubError, match="set HF_HUB_DISABLE_XET=1 before huggingface_hub is import"):
        push_as_the_client_does_by_itself()


def test_private_is_what_is_made_and_never_a_public_repository(
    plain_hub: Hub, original: Path
) -> None:
    send(plain_hub, original, private=True)
    assert plain_hub.repositories[REPO].private
    assert not send(plain_hub, original, private=True).changed
    plain_hub.publish(REPO, {"README.md": b"public"})
    with pytest.raises(HubError, match="is there already and is public"):
        send(plain_hub, original, private=True)


def test_hub_that_is_down_or_not_to_be_asked_says_so(
    plain_hub: Hub, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubOffline, match="HF_HUB_OFFLINE is set; unset it to push"):
        send(plain_hub, original)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    plain_hub.stop()
    with pytest.raises(HubOffline, match=r"it cannot be reached .*nothing was committed"):
        send(plain_hub, original)


def test_altered_checkpoint_is_not_pushed(plain_hub: Hub, saved: Path) -> None:
    weights = bytearray((saved / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (saved / "model.safetensors").write_bytes(bytes(weights))
    with pytest.raises(CheckpointError, match=r"model.safetensors was altered: sha256"):
        send(plain_hub, saved)
    assert not plain_hub.log


@pytest.mark.parametrize(
    "name", ["tiny", "a/b/c", "alice/", "/tiny", "alice/../x", "alice/a--b", "alice/.x", "ali ce/x"]
)
def test_names_that_are_none_are_refused_before_any_request(original: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a repository: write 'owner/name'"):
        push(original, name, card=CARD, endpoint="http://127.0.0.1:9")


def test_namespace_of_the_shipped_policies_is_refused(original: Path) -> None:
    with pytest.raises(ValueError, match=r"'hub/tiny' cannot be pushed to: .* your own account"):
        push(original, "hub/tiny", card=CARD, endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("branch", ["0" * 40, "", "../main", "a b", "refs/pr/1"])
def test_revision_that_is_no_branch_is_refused(original: Path, branch: str) -> None:
    with pytest.raises(ValueError, match="revision"):
        push(original, REPO, card=CARD, revision=branch, endpoint="http://127.0.0.1:9")


def test_unknown_owner_is_told_apart_from_a_missing_repository(
    plain_hub: Hub, original: Path
) -> None:
    plain_hub.fail("create", faults.status(404))
    with pytest.raises((HubNotFound, HubAuth), match="pushing to alice/dema-tiny"):
        send(plain_hub, original)
