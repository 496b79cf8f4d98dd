"""Crashes while saving: at any moment, the old or the new checkpoint is there, whole."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from decision_policies import DeMa, atomic, checkpoint
from tests.fixtures import trained

WEIGHTS: dict[str, dict[str, Tensor]] = {
    name: {f"layer.{i}": torch.full((64, 64), value) for i in range(8)}
    for name, value in (("old", 1.0), ("new", 2.0))
}
TRAINING = ({"random": torch.zeros(4096)}, {"data": list(range(100))})
CALLS = [
    (os, "mkdir"),
    (os, "open"),
    (os, "fsync"),
    (os, "rename"),
    (os, "unlink"),
    (os, "rmdir"),
    (Path, "open"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "mkdir"),
    (shutil, "rmtree"),
]


class Crash(BaseException):
    """Something that no handler of ordinary errors catches, as Ctrl-C."""


def save(place: Path, name: str) -> None:
    checkpoint.write(place, {"name": name}, WEIGHTS[name], TRAINING)


def read(place: Path) -> str:
    """Read everything; return which checkpoint it is, once it has proved to be whole."""
    opened = checkpoint.open_checkpoint(place)
    name = str(opened.config["name"])
    weights = opened.weights(WEIGHTS["old"])
    assert all(torch.equal(weights[key], WEIGHTS[name][key]) for key in WEIGHTS[name])
    assert opened.training() is not None
    return name


def strays(place: Path) -> list[str]:
    return sorted(p.name for p in place.parent.iterdir() if p != place)


def count_down(
    patch: pytest.MonkeyPatch, first: int | None, error: BaseException, *, once: bool
) -> list[str]:
    """Make the first-th call into the operating system fail, or that and all later ones."""
    made: list[str] = []

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if first is not None and (len(made) == first or (len(made) > first and not once)):
                raise error
            return function(*arguments, **options)

        return call

    for owner, name in CALLS:
        patch.setattr(owner, name, wrap(name, getattr(owner, name)))
    return made


@pytest.mark.parametrize("once", [True, False], ids=["exception", "dead from there on"])
@pytest.mark.parametrize("replaces", [True, False], ids=["over an old one", "new"])
def test_a_crash_at_any_call_leaves_the_old_or_the_new_checkpoint(
    once: bool, replaces: bool, tmp_path: Path
) -> None:
    place = tmp_path / "policy"
    seen, step, crashed = set(), 0, True
    save(tmp_path.parent / f"{tmp_path.name}-old", "old")
    while crashed:
        shutil.rmtree(place, ignore_errors=True)
        if replaces:
            shutil.copytree(tmp_path.parent / f"{tmp_path.name}-old", place)
        step, crashed = step + 1, False
        with pytest.MonkeyPatch.context() as patch:
            count_down(patch, step, Crash(), once=once)
            try:
                save(place, "new")
            except Crash:
                crashed = True
        try:
            seen.add(read(place))
        except FileNotFoundError:
            assert not replaces
            seen.add("nothing")
        if strays(place):
            save(place, "new")
            assert read(place) == "new"
            assert strays(place) == [], "the next save clears up"
    assert step > 20
    assert seen == {"old" if replaces else "nothing", "new"}


def test_an_ordinary_error_at_any_call_leaves_nothing_beside_the_checkpoint(
    tmp_path: Path,
) -> None:
    place, step, failed = tmp_path / "policy", 0, True
    while failed:
        save(place, "old")
        step, failed = step + 1, False
        with pytest.MonkeyPatch.context() as patch:
            made = count_down(patch, step, OSError(5, "Input/output error"), once=True)
            try:
                save(place, "new")
            except OSError as error:
                failed = error.errno == 5
        if step <= len(made):
            assert read(place) in ("old", "new")
            if made[step - 1] in ("fsync", "rename"):  # the others are of the clearing up, too
                assert strays(place) == []
        else:
            assert not failed
        failed = step <= len(made)


def in_child(task: Callable[[], None]) -> int:
    """Fork a child that runs a task and ends; return its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # idle threads of other libraries
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        task()
        status = 0
    finally:
        os._exit(status)


def test_kill_9_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    place = tmp_path / "policy"
    save(place, "old")
    rng, seen, interrupted = random.Random(0), set(), 0
    for _ in range(30):
        reader, writer = os.pipe()

        def save_for_ever(ready: int = writer) -> NoReturn:
            os.write(ready, b".")
            while True:
                save(place, "new")
                save(place, "old")

        child = in_child(save_for_ever)
        os.read(reader, 1)
        time.sleep(rng.uniform(0, 0.04))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        for pipe in (reader, writer):
            os.close(pipe)
        assert os.WTERMSIG(status) == signal.SIGKILL
        interrupted += bool(strays(place))
        seen.add(read(place))
    assert interrupted, "some kill met a save half-way"
    save(place, "new")
    assert strays(place) == []


def test_a_full_disk_says_how_much_was_needed_and_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    place, said = tmp_path / "policies" / "policy", tmp_path / "said"
    algorithm = trained()
    algorithm.save(place, training_state=False)
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    needed = sum(map(len, before.values()))

    def save_with_little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        try:
            algorithm.save(place, training_state=False)
        except OSError as error:
            said.write_text(str(error))

    _, status = os.waitpid(in_child(save_with_little_room), 0)
    assert status == 0
    expected = f"no room to save {place}: {needed} bytes needed, "
    assert expected in said.read_text()
    assert " free on the disk" in said.read_text()
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before
    assert strays(place) == []
    DeMa.load(place)


@pytest.mark.parametrize("name", ["policy", "run[1]", "a*", "x.old-1-00000000", "π"])
def test_the_old_checkpoint_comes_back_after_a_crash_between_the_renames(
    name: str, tmp_path: Path
) -> None:
    place = tmp_path / name
    save(place, "old")
    place.rename(tmp_path / f".{name}.old-999999999-0123abcd")
    (tmp_path / f".{name}.new-999999999-0123abcd").mkdir()
    other = tmp_path / f".{name}x.old-999999999-0123abcd"
    other.mkdir()
    assert read(place) == "old"
    save(place, "new")
    assert strays(place) == [other.name], "what belongs to others stays"


def test_a_reader_does_not_disturb_a_writer_between_its_renames(tmp_path: Path) -> None:
    place = tmp_path / "policy"
    save(place, "old")

    def dawdle(source: Path, to: Path, rename: Callable[..., Path] = Path.rename) -> Path:
        moved = rename(source, to)
        time.sleep(0.05 if ".old-" in to.name else 0)
        return moved

    def save_often() -> None:
        Path.rename = dawdle  # type: ignore[method-assign, assignment] # in the child alone
        for _ in range(5):
            save(place, "new")

    child = in_child(save_often)
    ended = 0
    while not ended:
        atomic.recover(place)
        ended, status = os.waitpid(child, os.WNOHANG)
    assert status == 0, "no save failed"
    assert read(place) == "new"
    assert strays(place) == []


def test_clearing_up_spares_a_save_that_another_thread_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, fsync = tmp_path / "policy", os.fsync

    def clear_meanwhile(descriptor: int) -> None:
        atomic.clean(place)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", clear_meanwhile)
    for name in ("old", "new"):
        save(place, name)
        assert read(place) == name
    assert strays(place) == []
