"""What a name means: folders, repositories and shipped policies, and what is no name at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import decision_policies
from decision_policies import DeMa
from decision_policies.errors import CheckpointError, HubNotFound
from decision_policies.hub import resolve
from decision_policies.hub.folder import commit_files
from decision_policies.hub.names import Alias, Repository, Shadow, parse
from tests.hub.server import read

HUB = "https://huggingface.co"
COMMIT = "0123456789" * 4


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, on a machine whose hub nobody answers for."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def line(error: type[Exception], name: Any, **options: Any) -> str:
    """Resolve what cannot be resolved; return the first line of the message."""
    with pytest.raises(error) as raised:
        resolve(name, **options)
    assert type(raised.value) is error
    return str(raised.value).splitlines()[0]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("alice/hopper", Repository("alice/hopper")),
        ("alice/hopper@v1.0", Repository("alice/hopper", "v1.0")),
        (f"alice/hopper@{COMMIT}", Repository("alice/hopper", COMMIT)),
        ("alice/hopper@exp%2F1/a/b", Repository("alice/hopper", "exp/1", "a/b")),
        ("alice/hopper@refs/pr/7", Repository("alice/hopper", "refs/pr/7")),
        ("hf://alice/hopper", Repository("alice/hopper")),
        ("hf://models/alice/hopper", Repository("alice/hopper")),
        ("hf://alice/hopper/dema", Repository("alice/hopper", None, "dema")),
        (f"{HUB}/alice/hopper", Repository("alice/hopper", None, "", HUB)),
        ("https://hf.co/alice/hopper/", Repository("alice/hopper", None, "", HUB)),
        (f"{HUB}/alice/hopper/tree/v1/a", Repository("alice/hopper", "v1", "a", HUB)),
        (f"{HUB}/hub/hopper", Repository("hub/hopper", None, "", HUB)),
        ("hub/hopper", Alias("hopper")),
        ("hub/hopper@v1", Alias("hopper", "v1")),
        ("hf://hub/hopper", Alias("hopper")),
    ],
)
def test_spelling_says_what_is_meant(name: str, found: object) -> None:
    parsed = parse(name)
    if isinstance(parsed, Repository):
        parsed = Repository(parsed.name, parsed.revision, parsed.subfolder, parsed.endpoint)
    assert parsed == found


@pytest.mark.parametrize(
    "name",
    [
        "hf://alice/../hopper",
        "hf://alice/hopper/../x",
        "hf://alice/hopper@../x",
        "hf://alice/hopper@a%2F..%2Fb",
        "hf://alice/hopper/a/%2e%2e/b",
        "hf://datasets/alice/hopper",
        "hf://alice",
        "hf://",
        "hf://a--b/hopper",
        "hf://alice/..",
        "alice/hopper@",
        "alice/hopper@v1/../x",
        f"{HUB}/alice",
        f"{HUB}/datasets/alice/hopper",
        f"{HUB}/alice/hopper/tree/main/../x",
        "https://example.com/alice/hopper",
        "ftp://example.com/x",
        "file://other-machine/x",
        "file:///a/../b",
        "",
        "a\0b",
    ],
)
def test_what_is_no_name_is_refused_without_asking_anybody(name: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        resolve(name)
    assert not isinstance(raised.value, CheckpointError)


def test_missing_path_names_path_and_folder(here: Path) -> None:
    for name in ("./x", "../x", "/nowhere/x", "a\\b", "runs/dema/hopper", Path("alice/hopper")):
        found = line(FileNotFoundError, name)
        hint = f"; if it is on a hub, write hf://{name}" if name == "runs/dema/hopper" else ""
        assert found == f"no checkpoint at {str(name)!r} (in the folder {here}){hint}"
    home = os.path.expanduser("~/x-is-not-there")
    assert line(FileNotFoundError, "~/x-is-not-there").startswith(f"no checkpoint at {home!r}")


def test_bare_word_is_a_folder_or_a_question(here: Path, original: Path) -> None:
    shutil.copytree(original, here / "hopper-v5")
    assert line(ValueError, "hopper-5") == (
        f"no folder 'hopper-5' in {here}, and on a hub a name has an owner: did you mean "
        "'hub/hopper-5' (shipped) or 'owner/hopper-5'?; similar here: hopper-v5"
    )
    assert resolve("hopper-v5") == Path("hopper-v5")
    assert DeMa.load("hopper-v5").policy
    assert decision_policies.load("hopper-v5.zip").policy, "as Stable-Baselines3's callbacks say it"


@pytest.mark.parametrize("name", ["alice/hopper", "hub/hopper"])
def test_local_folder_wins_and_says_how_to_get_the_other(
    name: str, here: Path, original: Path
) -> None:
    shutil.copytree(original, here / name)
    with pytest.warns(UserWarning, match="using the local folder") as warned:
        assert DeMa.load(name).policy
    assert [str(w.message) for w in warned] == [
        f"using the local folder '{name}'; write hf://{name} for the one on the Hub"
    ]
    assert warned[0].filename == __file__
    shadow = parse(name)
    assert isinstance(shadow, Shadow)
    assert shadow.other == parse(f"hf://{name}")
    assert resolve(here / name) == here / name
    (here / name / "config.json").unlink()
    with (
        pytest.warns(UserWarning, match="using the local folder"),
        pytest.raises(CheckpointError) as raised,
    ):
        DeMa.load(name)
    assert str(raised.value) == (
        f"{name} is no whole checkpoint: config.json is missing (manifest.json, "
        "model.safetensors, training there)"
    )


def test_arguments_that_say_what_the_name_says_are_refused(here: Path, original: Path) -> None:
    shutil.copytree(original, here / "hopper")
    assert line(ValueError, "alice/hopper@v1", revision="v2") == (
        "'alice/hopper@v1' names a revision already; leave revision= out"
    )
    assert line(ValueError, "hf://alice/hopper/a", subfolder="b") == (
        "alice/hopper@main/a names a subfolder already; leave subfolder= out"
    )
    for option in ("revision", "subfolder"):
        assert line(ValueError, "hopper", **{option: "x"}) == (
            f"{option}= belongs to a name on a hub, and 'hopper' is a local folder; leave it out, "
            "or write hf://owner/name"
        )
    assert line(ValueError, "hub/hopper", subfolder="x") == (
        "hub/hopper is one policy, which has no subfolder 'x'"
    )
    assert line(ValueError, "https://example.com/alice/hopper") == (
        f"'https://example.com/alice/hopper' is no page of the hub {HUB}; pass "
        "endpoint='https://example.com' to load from there"
    )


@pytest.mark.parametrize("option", ["revision", "subfolder"])
@pytest.mark.parametrize("value", ["..", "a/../b", "/a", "a//b", "a b\n", "", ".", "a\\b", "a\0"])
def test_option_that_leads_elsewhere_is_refused(option: str, value: str) -> None:
    if (option, value) == ("subfolder", "/a"):
        return
    assert line(ValueError, "alice/hopper", **{option: value}).startswith(f"{option} is {value!r}")


@pytest.mark.parametrize(
    "endpoint",
    ["", "ftp://x", "https://u:p@x", "https://x/?q=1", "huggingface.co", "localhost:8080"],
)
def test_endpoint_is_a_hub_or_a_folder(endpoint: str) -> None:
    assert line(ValueError, "alice/hopper", endpoint=endpoint).startswith("endpoint is ")


def test_name_of_another_type_is_refused() -> None:
    assert line(TypeError, 7) == "a name is text or a path, not int"


def test_file_names_lead_into_folders_that_are_hubs(tmp_path: Path, original: Path) -> None:
    root = tmp_path / "a hub"
    files = {f"dema/{name}": data for name, data in read(original).items()}
    commit = commit_files(root / "alice/hopper", "main", None, files)
    url = (root / "alice/hopper").as_uri()
    there = root / "alice/hopper" / commit / "dema"
    assert resolve(f"{url}/dema") == there
    assert resolve(f"{url}@main/dema") == there
    assert resolve(url, revision=commit, subfolder="dema") == there
    assert resolve("alice/hopper", endpoint=root.as_uri(), subfolder="dema") == there
    place = root / "alice/hopper"
    assert line(HubNotFound, f"{url}@v9") == f"{place} has no revision 'v9'; there are main"
    assert line(HubNotFound, f"{url}/x") == f"alice/hopper@{commit}/x is not in the hub {root}"
    assert line(HubNotFound, "hf://alice/hoper", endpoint=root) == (
        f"no repository alice/hoper in the hub {root}; there are alice/hopper"
    )
    nowhere = tmp_path / "nowhere"
    assert line(HubNotFound, "alice/hopper", endpoint=nowhere).startswith(
        f"no repository alice/hopper in the hub {nowhere}: there is no such folder"
    )
    assert line(HubNotFound, root.as_uri()).startswith(f"'{root.as_uri()}' leads to no repository")


def test_link_out_of_a_checkpoint_is_refused(saved: Path, tmp_path: Path) -> None:
    secret = tmp_path / "passwd"
    shutil.move(saved / "config.json", secret)
    (saved / "config.json").symlink_to(secret)
    with pytest.raises(CheckpointError) as raised:
        DeMa.load(saved)
    assert str(raised.value) == (
        f"{saved}/config.json is a link that leaves the checkpoint folder, to {secret}; if that is "
        "what you want to load, put a copy of it in the link's place"
    )
    shutil.move(saved / "training", tmp_path / "training")
    (saved / "config.json").unlink()
    shutil.move(secret, saved / "config.json")
    (saved / "training").symlink_to(tmp_path / "training", target_is_directory=True)
    with pytest.raises(CheckpointError, match=r"training/tensors\.safetensors is a link that"):
        DeMa.load(saved)


def test_links_inside_a_hub_clients_cache_are_followed(saved: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--alice--hopper" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    blobs = snapshot.parent.parent / "blobs"
    blobs.mkdir()
    for name in ("config.json", "manifest.json", "model.safetensors"):
        shutil.move(saved / name, blobs / name)
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    assert DeMa.load(snapshot).policy
