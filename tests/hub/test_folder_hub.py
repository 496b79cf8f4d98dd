"""A folder as a hub: the same pushes, no server; races are lost openly, crashes leave it whole."""

from __future__ import annotations

import os
import re
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from decision_policies.errors import HubConflict, HubError
from decision_policies.hub import folder as folders
from decision_policies.hub.push import PushResult, push

REPO = "alice/dema-tiny"
CARD = "# A card\n"
FILES = {"a.txt": b"one", "sub/b.bin": b"two"}


def send(root: Path | str, folder: Path, **changes: Any) -> PushResult:
    return push(folder, REPO, **{"card": CARD, "endpoint": str(root), **changes})


def state(root: Path) -> dict[str, bytes]:
    """Everything under the hub's folder."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_push_writes_a_commit_and_points_the_branch_at_it(original: Path, tmp_path: Path) -> None:
    made = send(tmp_path, original, results={"mean_reward": 1.0})
    home = tmp_path / "alice" / "dema-tiny"
    assert re.fullmatch("[0-9a-f]{40}", made.commit) and made.changed
    assert (home / "refs" / "main").read_text() == made.commit + "\n"
    assert made.url == (home / made.commit).as_uri()
    assert sorted(p.name for p in (home / made.commit).iterdir()) == [
        *("README.md", "config.json", "manifest.json", "model.safetensors", "results.json")
    ]
    assert sorted(p.name for p in home.iterdir()) == sorted([made.commit, "refs"])


@pytest.mark.parametrize("spelling", ["path", "file", "variable"])
def test_folder_is_named_by_its_path_a_file_url_or_the_variable(
    original: Path, tmp_path: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DECISION_POLICIES_HUB", str(tmp_path) if spelling == "variable" else "none")
    named = {"path": str(tmp_path), "file": tmp_path.as_uri(), "variable": None}[spelling]
    made = push(original, REPO, card=CARD, endpoint=named)
    assert (tmp_path / REPO / made.commit / "model.safetensors").is_file()


def test_same_content_and_parent_have_the_same_commit_and_are_pushed_once(
    original: Path, tmp_path: Path
) -> None:
    first = send(tmp_path / "a", original, results={"eval_datetime": "2026", "mean_reward": 1.0})
    before = state(tmp_path / "a")
    again = send(tmp_path / "a", original, results={"eval_datetime": "2027", "mean_reward": 1.0})
    assert again == PushResult(REPO, first.commit, first.url, changed=False)
    assert state(tmp_path / "a") == before
    elsewhere = send(
        tmp_path / "b", original, results={"eval_datetime": "2026", "mean_reward": 1.0}
    )
    assert elsewhere.commit == first.commit
    other = send(tmp_path / "a", original, results={"mean_reward": 2.0})
    assert other.changed and other.commit != first.commit
    assert (
        state(tmp_path / "a").items()
        > {name: data for name, data in before.items() if "refs" not in name}.items()
    ), "what was pinned is as it was"


def test_going_back_is_a_new_commit_upon_the_present_one(original: Path, tmp_path: Path) -> None:
    commits = [send(tmp_path, original, card=card).commit for card in ("a", "b", "a")]
    assert len(set(commits)) == 3


def test_another_branch_leaves_main_where_it_is(original: Path, tmp_path: Path) -> None:
    first = send(tmp_path, original)
    second = send(tmp_path, original, revision="v2", card="other")
    home = tmp_path / REPO
    assert folders.head_of(home, "main") == first.commit
    assert folders.head_of(home, "v2") == second.commit


def test_lost_race_changes_nothing_and_names_both_commits(tmp_path: Path) -> None:
    first = folders.commit_files(tmp_path, "main", None, FILES)
    theirs = folders.commit_files(tmp_path, "main", first, {"a.txt": b"theirs"})
    before = state(tmp_path)
    with pytest.raises(HubConflict) as caught:
        folders.commit_files(tmp_path, "main", first, {"a.txt": b"ours"})
    assert str(caught.value).startswith(
        f"{tmp_path}: main is at {theirs}, and no longer at {first}, which this push was made upon"
    )
    assert state(tmp_path) == before
    with pytest.raises(HubConflict, match="no longer at None"):
        folders.commit_files(tmp_path, "main", None, {"a.txt": b"ours"})


def test_of_many_writers_upon_one_parent_exactly_one_wins(tmp_path: Path) -> None:
    parent = folders.commit_files(tmp_path, "main", None, FILES)
    start, won, lost = threading.Barrier(8), [], []

    def write(number: int) -> None:
        start.wait()
        try:
            files = {"a.txt": b"%d" % number}
            won.append(folders.commit_files(tmp_path, "main", parent, files))
        except HubConflict as error:
            lost.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(lost) == 7
    assert folders.head_of(tmp_path, "main") == won[0]
    assert {p.name for p in tmp_path.iterdir()} == {"refs", parent, won[0]}
    assert [p.name for p in (tmp_path / "refs").iterdir()] == ["main"]


def test_crash_at_any_point_leaves_the_branch_at_a_whole_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every system call that changes the disk is, in turn, the last."""
    names = ["mkdir", "rename", "replace", "fsync", "unlink"]
    original = {name: getattr(os, name) for name in names}

    def run(root: Path, survives: int) -> int:
        """Push until a call too many; return how many calls there were."""
        calls = 0

        def die(name: str) -> Any:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > survives:
                    raise SystemExit("killed")
                return original[name](*args, **options)

            return call

        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, die(name))
            with suppress(SystemExit):
                folders.commit_files(root, "main", first, {"a.txt": b"new", "b": b"new"})
        return calls

    first = folders.name_of(None, FILES)
    new = folders.name_of(first, {"a.txt": b"new", "b": b"new"})
    folders.commit_files(tmp_path / "whole", "main", None, FILES)
    total = run(tmp_path / "whole", 10**6)
    assert total > 8 and folders.head_of(tmp_path / "whole", "main") == new
    for survives in range(total):
        root = tmp_path / str(survives)
        folders.commit_files(root, "main", None, FILES)
        run(root, survives)
        head = folders.head_of(root, "main")
        assert head in (first, new)
        wanted = FILES if head == first else {"a.txt": b"new", "b": b"new"}
        held = {n: p.read_bytes() for n, p in folders.files_of(root, head).items()}
        assert held == wanted
        (root / "refs" / ".main.lock").unlink(missing_ok=True)  # as the message tells
        again = folders.commit_files(root, "main", head, {"a.txt": b"new", "b": b"new"})
        assert folders.head_of(root, "main") == again


def test_lock_of_a_push_that_was_cut_off_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folders.commit_files(tmp_path, "main", None, FILES)
    (tmp_path / "refs" / ".main.lock").touch()
    monkeypatch.setattr(folders, "PATIENCE", 0.05)
    with pytest.raises(HubError, match=r"\.main\.lock is there: .* If none is, delete that file"):
        folders.commit_files(tmp_path, "main", first, {"a.txt": b"two"})
    assert folders.head_of(tmp_path, "main") == first


def test_leavings_are_swept_once_they_are_old(tmp_path: Path) -> None:
    leavings = (".push-old", "..push-old.new-1-0a0b0c0d"), (".push-young", "..push-young.new-1-0a")
    for name, age in [(n, 2 * folders.STALE) for n in leavings[0]] + [
        (n, 0.0) for n in leavings[1]
    ]:
        path = tmp_path / name
        path.mkdir()
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    folders.commit_files(tmp_path, "main", None, FILES)
    assert {p.name for p in tmp_path.glob(".*")} == set(leavings[1])


def test_branch_that_holds_no_commit_is_refused(original: Path, tmp_path: Path) -> None:
    (tmp_path / REPO / "refs").mkdir(parents=True)
    (tmp_path / REPO / "refs" / "main").write_text("../../elsewhere")
    with pytest.raises(HubError, match=r"main holds '../../elsewhere', which is no commit"):
        send(tmp_path, original)


def test_damaged_commit_is_not_taken_for_the_same_content(original: Path, tmp_path: Path) -> None:
    first = send(tmp_path, original)
    (tmp_path / REPO / first.commit / "model.safetensors").write_bytes(b"damaged")
    second = send(tmp_path, original)
    assert second.changed and second.commit != first.commit
    shutil.rmtree(tmp_path / REPO / second.commit)
    assert send(tmp_path, original).changed, "a branch whose commit is gone"


def test_figures_that_cannot_be_written_as_json_are_refused(original: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        send(tmp_path, original, results={"mean_reward": float("nan")})
    assert not state(tmp_path)


def test_damaged_commit_is_put_right_by_a_push_of_its_content_to_another_branch(
    original: Path, tmp_path: Path
) -> None:
    first = send(tmp_path, original)
    weights = tmp_path / REPO / first.commit / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"?")
    again = send(tmp_path, original, revision="dev")
    assert again.commit == first.commit
    assert weights.read_bytes() == whole
