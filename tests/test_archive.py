"""Checkpoints in one file: what a zip may be, and everything else that is refused unread."""

from __future__ import annotations

import errno
import json
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import decision_policies
from decision_policies import DeMa, archive, atomic
from decision_policies.errors import CheckpointError
from decision_policies.hub.push import gather
from tests.fixtures import tiny_trajectories, trained
from tests.test_checkpoint import FILES, acts
from tests.test_checkpoint_faults import Crash, count_down, read, save, strays

Members = dict[str, bytes]


@pytest.fixture
def zipped(original: Path, tmp_path: Path) -> Path:
    """Save the tiny policy as a zip."""
    DeMa.load(original).save(tmp_path / "policy.zip")
    return tmp_path / "policy.zip"


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def rewrite(path: Path, *changes: tuple[str | zipfile.ZipInfo, bytes], method: int = 0) -> None:
    """Write a zip again with more or other members, one after another."""
    named = {name if isinstance(name, str) else name.filename for name, _ in changes}
    kept = [(name, data) for name, data in members(path).items() if name not in named]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name twice
        with zipfile.ZipFile(path, "w", method) as opened:
            for name, content in (*kept, *changes):
                opened.writestr(name, content)


def edit(path: Path, name: str, offset: int, value: bytes) -> None:
    """Change what the list of contents says of a member, at an offset of its entry."""
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"PK\1\2", 0, raw.rindex(name.encode()))
    raw[entry + offset : entry + offset + len(value)] = value
    path.write_bytes(raw)


def insert(path: Path, before_end: bytes) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:-22] + before_end + raw[-22:])


def test_zip_comes_back_bit_for_bit_and_resumes(original: Path, zipped: Path) -> None:
    for name in (zipped, str(zipped), zipped.with_suffix("")):
        for loaded in (DeMa.load(name), decision_policies.load(name)):
            assert isinstance(loaded, DeMa)
            assert acts(loaded) == acts(DeMa.load(original))
    data = tiny_trajectories(False)
    on, whole = DeMa.load(zipped), DeMa.load(original)
    for algorithm in (on, whole):
        algorithm.learn(data, 2, reset_num_timesteps=False)
    assert acts(on) == acts(whole)


def test_zip_is_plain_and_its_data_is_what_stable_baselines3s_readers_look_for(
    zipped: Path, original: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(zipped) as opened:
        assert opened.namelist()[0] == "data" and set(opened.namelist()) == {"data", *FILES}
        assert {m.compress_type for m in opened.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(opened.read("data"))["algorithm"] == "DeMa"
    before = zipped.read_bytes()
    DeMa.load(original).save(zipped)
    assert zipped.read_bytes() == before, "equal policies, equal bytes"
    assert [path.name for path in zipped.parent.iterdir()] == ["policy.zip"]
    assert gather(zipped, "card") == gather(original, "card"), "what is pushed"


def test_folder_and_zip_of_one_name_are_told_apart(tmp_path: Path) -> None:
    trained(updates=1).save(tmp_path / "policy")
    trained(updates=2).save(tmp_path / "policy.zip")
    assert DeMa.load(tmp_path / "policy").num_timesteps == 1
    assert DeMa.load(tmp_path / "policy.zip").num_timesteps == 2


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


FLOOD = bytes(1 << 26)
WEIGHTS = "model.safetensors"
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "path that climbs": (lambda p: rewrite(p, ("../pwned", b"")), r"holds '\.\./pwned', which no"),
    "path from the root": (lambda p: rewrite(p, ("/tmp/pwned", b"")), "holds '/tmp/pwned', which"),
    "path of Windows": (lambda p: rewrite(p, ("c:\\pwned", b"")), r"holds 'c:\\\\pwned', which"),
    "folder": (lambda p: rewrite(p, ("training/", b"")), "holds 'training/', which no checkpoint"),
    "pickle beside": (lambda p: rewrite(p, ("policy.pth", b"")), "which may hold pickles"),
    "name twice": (
        lambda p: rewrite(p, ("config.json", b"{}"), ("config.json", b"{}")),
        "holds a name twice",
    ),
    "link": (lambda p: rewrite(p, (link("config.json"), b"/etc/passwd")), "config.json is a link"),
    "bomb": (
        lambda p: rewrite(p, (WEIGHTS, FLOOD), method=zipfile.ZIP_DEFLATED),
        "is compressed, so that nobody knows how large it is; if you trust it, unzip it",
    ),
    "sizes that lie": (
        lambda p: edit(p, WEIGHTS, 20, struct.pack("<2L", 1 << 30, 1 << 30)),
        r"has \d+ bytes and says that it holds \d{10}",
    ),
    "encryption": (lambda p: edit(p, WEIGHTS, 8, b"\1\0"), "model.safetensors is encrypted"),
    "part elsewhere": (lambda p: edit(p, WEIGHTS, 42, bytes(4)), "is a damaged zip: File name in"),
    "many members": (
        lambda p: rewrite(p, *[("config.json", b"{}")] * 100),
        "holds more than a checkpoint",
    ),
    "large format": (lambda p: insert(p, b"PK\6\7" + bytes(16)), "holds more than a checkpoint"),
    "end missing": (lambda p: p.write_bytes(p.read_bytes()[:-5]), "was cut short"),
    "something behind": (lambda p: p.write_bytes(p.read_bytes() + b"more"), "something behind it"),
    "head only": (lambda p: p.write_bytes(b"PK\3\4"), "was cut short"),
    "nothing inside": (lambda p: p.write_bytes(b"PK\5\6" + bytes(18)), r"config.json .*\(nothing"),
    "other weights": (
        lambda p: rewrite(p, (WEIGHTS, members(p)[WEIGHTS][:-1] + b"!")),
        r"model\.safetensors was altered: sha256",
    ),
    "weights cut": (
        lambda p: rewrite(p, (WEIGHTS, members(p)[WEIGHTS][:-9])),
        r"model\.safetensors is truncated",
    ),
    "other data": (lambda p: rewrite(p, ("data", b"{}")), "data says something else than config"),
    "no zip": (
        lambda p: p.write_bytes(b"\x80\x04x"),
        "it is a pickle.* a checkpoint is a folder, or",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_zip_that_is_no_plain_checkpoint_is_refused_and_nothing_is_unpacked(
    name: str, zipped: Path
) -> None:
    damage, words = HOSTILE[name]
    damage(zipped)
    for load in (DeMa.load, decision_policies.load):
        with pytest.raises(CheckpointError, match=words) as caught:
            load(zipped)
        assert str(zipped) in str(caught.value)
    assert list(zipped.parent.iterdir()) == [zipped]


def test_zip_without_the_copy_of_its_config_is_a_checkpoint_too(zipped: Path) -> None:
    wanted, kept = acts(DeMa.load(zipped)), members(zipped)
    del kept["data"]
    with zipfile.ZipFile(zipped, "w") as opened:
        for name, content in kept.items():
            opened.writestr(name, content)
    assert acts(DeMa.load(zipped)) == wanted


def test_what_is_no_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    foreign, folder, policy = (tmp_path / n for n in ("ppo.zip", "folder.zip", "policy"))
    with zipfile.ZipFile(foreign, "w") as opened:
        opened.writestr("data", "{}")
    trained(updates=1).save(tmp_path / "a")
    (tmp_path / "a").rename(folder)
    trained(updates=1).save(tmp_path / "b.zip")
    (tmp_path / "b.zip").rename(policy)
    for place in (foreign, folder, policy):
        with pytest.raises(CheckpointError, match="is there already and is no checkpoint; choose"):
            trained(updates=1).save(place)
    assert zipfile.ZipFile(foreign).namelist() == ["data"]


def test_policy_that_is_too_large_for_a_zip_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(archive, "MOST", 100)
    with pytest.raises(CheckpointError, match="bytes are more than the 100 of a zip; save to a fo"):
        trained(updates=1).save(tmp_path / "policy.zip")


def test_full_disk_keeps_the_old_zip(
    zipped: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, content: bytes) -> None:
        path.write_bytes(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    before = zipped.read_bytes()
    monkeypatch.setattr(atomic, "_write", fill)
    with pytest.raises(OSError, match=rf"no room to save {zipped}: {len(before)} bytes needed"):
        DeMa.load(original).save(zipped)
    assert zipped.read_bytes() == before and strays(zipped) == []


def test_a_crash_at_any_call_leaves_the_old_or_the_new_zip(tmp_path: Path) -> None:
    place, seen, step, crashed = tmp_path / "policy.zip", set(), 0, True
    while crashed:
        save(place, "old")
        step, crashed = step + 1, False
        with pytest.MonkeyPatch.context() as patch:
            count_down(patch, step, Crash(), once=False)
            try:
                save(place, "new")
            except Crash:
                crashed = True
        seen.add(read(place))
        save(place, "new")
        assert strays(place) == []
    assert seen == {"old", "new"} and step > 5
