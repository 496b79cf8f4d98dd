"""Loading by name from a hub: what arrives, how often the hub is asked, and where it is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import decision_policies
from decision_policies import DeMa, SequenceAlgorithm, checkpoint
from decision_policies.errors import CheckpointVersionError
from decision_policies.hub import resolve
from tests.fixtures import tiny_algorithm, tiny_trajectories
from tests.hub.cases import REPO
from tests.hub.server import Hub, read

NEEDED = ("config.json", "manifest.json", "model.safetensors")


def actions(algorithm: SequenceAlgorithm) -> bytes:
    """Act three steps; the bits of the actions."""
    algorithm.reset()
    steps = [np.full(3, step, np.float32) for step in range(3)]
    taken = [algorithm.predict(observation, reward=1.0)[0] for observation in steps]
    return b"".join(np.asarray(action).tobytes() for action in taken)


def kinds(hub: Hub) -> list[str]:
    return [seen.kind for seen in hub.log]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save another policy, as a second revision."""
    folder = tmp_path_factory.mktemp("other") / "policy"
    tiny_algorithm(seed=7).learn(tiny_trajectories(False), 2).save(folder)
    return folder


def test_policy_loads_by_name_and_acts_bit_equal(hub: Hub, original: Path) -> None:
    commit = hub.publish(REPO, original)
    wanted = actions(DeMa.load(original))
    for name in (REPO, f"hf://{REPO}", f"{REPO}@main", f"{REPO}@{commit}", f"{hub.url}/{REPO}"):
        assert actions(DeMa.load(name, endpoint=hub.url)) == wanted
    assert actions(decision_policies.load(REPO, endpoint=hub.url)) == wanted


def test_what_is_needed_is_fetched_once_and_nothing_else(
    plain_hub: Hub, original: Path, cache: Path
) -> None:
    files = {**read(original), "README.md": b"# card", "replay.mp4": b"film"}
    commit = plain_hub.publish(REPO, files)
    folder = resolve(REPO, endpoint=plain_hub.url)
    assert kinds(plain_hub) == ["info", "tree", "GET", "GET", "GET"]
    assert {path.name for path in folder.iterdir()} == set(NEEDED)
    assert all((folder / name).read_bytes() == files[name] for name in NEEDED)
    assert folder.is_relative_to(cache / "hub")
    plain_hub.log.clear()
    assert resolve(REPO, endpoint=plain_hub.url) == folder
    assert kinds(plain_hub) == ["info"], "a branch costs one request"
    assert resolve(f"{REPO}@{commit}", endpoint=plain_hub.url) == folder
    assert resolve(REPO, endpoint=plain_hub.url, local_files_only=True) == folder
    assert kinds(plain_hub) == ["info"], "a commit that is there costs none"


def test_subfolder_revision_and_pages_of_long_lists(plain_hub: Hub, original: Path) -> None:
    inside = {f"policies/dema/{name}": data for name, data in read(original).items()}
    many = {f"policies/dema/a{index:04}": b"" for index in range(1500)}
    commit = plain_hub.publish(REPO, {**inside, **many}, branch="exp/1")
    plain_hub.publish(REPO, {"README.md": b"nothing here"})
    asked: list[tuple[str, dict[str, Any]]] = [
        (f"{REPO}@exp%2F1/policies/dema", {}),
        (REPO, {"revision": "exp/1", "subfolder": "policies/dema"}),
        (f"hf://{REPO}@{commit}/policies/dema", {}),
        (f"{plain_hub.url}/{REPO}/tree/{commit}/policies/dema", {}),
    ]
    for name, options in asked:
        DeMa.load(name, endpoint=plain_hub.url, **options)
    assert len(plain_hub.requests("tree")) == 2, "two pages, of one commit"


def test_pinned_name_gives_the_old_bytes(plain_hub: Hub, original: Path, other: Path) -> None:
    first = plain_hub.publish(REPO, original)
    old = actions(DeMa.load(REPO, endpoint=plain_hub.url))
    plain_hub.publish(REPO, other)
    new = actions(DeMa.load(REPO, endpoint=plain_hub.url))
    assert new == actions(DeMa.load(other)) != old
    assert actions(DeMa.load(REPO, endpoint=plain_hub.url, revision=first)) == old


def test_hubs_are_kept_apart(original: Path, other: Path) -> None:
    with Hub() as one, Hub() as two:
        one.publish(REPO, original)
        two.publish(REPO, other)
        assert actions(DeMa.load(REPO, endpoint=one.url)) == actions(DeMa.load(original))
        assert actions(DeMa.load(REPO, endpoint=two.url)) == actions(DeMa.load(other))


def test_policy_of_a_hub_learns_on_with_a_new_optimiser(plain_hub: Hub, original: Path) -> None:
    plain_hub.publish(REPO, original)
    algorithm = DeMa.load(REPO, endpoint=plain_hub.url)
    assert algorithm.num_timesteps == DeMa.load(original).num_timesteps
    algorithm.learn(tiny_trajectories(False), 1)


def test_damaged_cache_is_fetched_again(plain_hub: Hub, original: Path) -> None:
    commit = plain_hub.publish(REPO, original)
    folder = resolve(REPO, endpoint=plain_hub.url)
    for name in NEEDED:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-20] + bytes(20))
        assert resolve(f"{REPO}@{commit}", endpoint=plain_hub.url) == folder
        assert (folder / name).read_bytes() == content


def test_many_loads_at_once_find_one_whole_policy(plain_hub: Hub, original: Path) -> None:
    plain_hub.publish(REPO, original)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: resolve(REPO, endpoint=plain_hub.url), range(24)))
    assert len(set(found)) == 1
    assert actions(DeMa.load(found[0])) == actions(DeMa.load(original))
    assert sorted(path.name for path in found[0].parent.iterdir()) == [found[0].name, "refs"]


def test_what_a_load_left_that_was_cut_off_is_removed_after_a_day(
    plain_hub: Hub, original: Path
) -> None:
    plain_hub.publish(REPO, original)
    shelf = resolve(REPO, endpoint=plain_hub.url).parent
    for name, days in ((".incoming-old", 2), ("..incoming-old.new-1-0", 2), (".incoming-new", 0)):
        (shelf / name).mkdir()
        os.utime(shelf / name, (time.time() - 86_400 * days,) * 2)
    plain_hub.publish(REPO, {**read(original), "README.md": b"another commit"})
    resolve(REPO, endpoint=plain_hub.url)
    assert [p.name for p in shelf.iterdir() if "incoming" in p.name] == [".incoming-new"]


def test_token_goes_to_its_hub_only(
    hub: Hub, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub.publish(REPO, original, private=True)
    DeMa.load(REPO, endpoint=hub.url, token="hf_read")
    sent = {seen.host.split(":")[0]: seen.token for seen in hub.log}
    assert sent.pop("127.0.0.1") == "hf_read"
    assert sent == ({"localhost": None} if hub.redirects else {})
    monkeypatch.setenv("HF_TOKEN", "hf_read")  # the machine's own
    hub.log.clear()
    with pytest.raises(decision_policies.errors.HubNotFound):
        resolve(REPO, endpoint=hub.url)
    assert {seen.token for seen in hub.log} == {None}, "it is for the machine's own hub"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    resolve(REPO)
    assert hub.log[-1].token == "hf_read"


OFFLINE = """
import sys
import numpy as np
import decision_policies
algorithm = decision_policies.load(sys.argv[1], endpoint=sys.argv[2])
steps = [np.full(3, step, np.float32) for step in range(3)]
print(b"".join(algorithm.predict(step, reward=1.0)[0].tobytes() for step in steps).hex())
"""


def test_second_process_acts_bit_equal_offline(
    plain_hub: Hub, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_hub.publish(REPO, original)
    wanted = actions(DeMa.load(REPO, endpoint=plain_hub.url))
    asked = len(plain_hub.log)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = [sys.executable, "-c", OFFLINE, REPO, plain_hub.url]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert bytes.fromhex(done.stdout) == wanted
    assert len(plain_hub.log) == asked


def heard(task: Callable[[], object]) -> tuple[list[str], set[str]]:
    """Do something; return the places that were written to, and the kinds of audit events."""
    written: list[str] = []
    events: set[str] = set()
    listening = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not listening:
            return
        events.add(event)
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & 3:
            written.append(str(arguments[0]))
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.symlink", "os.link"):
            written.append(str(arguments[event in ("os.rename", "os.symlink")]))

    sys.addaudithook(hook)
    task()
    listening = False
    return [place for place in written if place.startswith("/")], events


RUNS = ("pickle.", "marshal.", "subprocess.", "os.system", "os.exec", "os.spawn")


def test_a_load_writes_in_the_cache_only_and_runs_nothing(
    hub: Hub, original: Path, cache: Path
) -> None:
    hub.publish(REPO, original)
    with Hub() as first:
        first.publish(REPO, original)
        DeMa.load(REPO, endpoint=first.url)  # whatever is imported once
    written, events = heard(lambda: DeMa.load(REPO, endpoint=hub.url))
    assert written
    assert [place for place in written if not Path(place).is_relative_to(cache)] == []
    assert [event for event in events if event.startswith(RUNS)] == []
    assert any(event.startswith("socket.") for event in events), "the hook heard the request"


@pytest.mark.parametrize("kind", ["folder", "zip", "shipped", "kept by the cache"])
def test_a_load_of_what_is_here_writes_nothing_asks_nobody_and_runs_nothing(
    kind: str, plain_hub: Hub, original: Path, tmp_path: Path
) -> None:
    DeMa.load(original).save(tmp_path / "policy.zip")
    commit = plain_hub.publish(REPO, original)
    name, options = {
        "folder": (str(original), {}),
        "zip": (str(tmp_path / "policy.zip"), {}),
        "shipped": ("hub/hopper", {}),
        "kept by the cache": (f"{REPO}@{commit}", {"endpoint": plain_hub.url}),
    }[kind]
    DeMa.load(name, **options)  # type: ignore[arg-type]
    written, events = heard(lambda: DeMa.load(name, **options))  # type: ignore[arg-type]
    assert "open" in events and written == []
    assert [event for event in events if event.startswith((*RUNS, "socket."))] == []


def test_an_older_installation_spares_what_a_newer_one_keeps_in_the_cache(
    plain_hub: Hub, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    DeMa.load(original).save(tmp_path / "newer")
    commit = plain_hub.publish(REPO, tmp_path / "newer")
    kept = resolve(REPO, revision=commit, endpoint=plain_hub.url)
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    with pytest.raises(CheckpointVersionError, match="in format 2; this is"):
        resolve(REPO, revision=commit, endpoint=plain_hub.url, local_files_only=True)
    assert (kept / "model.safetensors").is_file()


def test_folder_is_a_hub(
    tmp_path: Path, original: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from decision_policies.hub.folder import commit_files

    root = tmp_path / "hubs"
    first = commit_files(root / REPO, "main", None, read(original))
    second = commit_files(root / REPO, "main", first, read(other))
    url = f"file://{root}/{REPO}"
    assert actions(DeMa.load(url)) == actions(DeMa.load(other))
    assert actions(DeMa.load(f"{url}@{first}")) == actions(DeMa.load(original))
    assert resolve(REPO, endpoint=root) == resolve(url, revision=second)
    monkeypatch.setenv("DECISION_POLICIES_HUB", str(root))
    assert actions(DeMa.load(f"{REPO}@{first}")) == actions(DeMa.load(original))


def test_manifest_that_lists_a_training_state_is_kept_as_it_is(
    plain_hub: Hub, original: Path
) -> None:
    listed = json.loads((original / "manifest.json").read_text())["files"]
    assert any(name.startswith("training/") for name in listed)
    plain_hub.publish(REPO, original)
    folder = resolve(REPO, endpoint=plain_hub.url)
    assert not (folder / "training").exists()
    assert DeMa.load(folder)._saved_training is None
