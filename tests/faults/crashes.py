"""Writers that are killed, find no room or meet one another: the old or the new one is whole."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from decision_policies import DeMa, checkpoint
from decision_policies.errors import CheckpointError
from tests.faults.counting import Suite
from tests.fixtures import tiny_trajectories, trained
from tests.test_checkpoint import acts
from tests.test_checkpoint_faults import CALLS, TRAINING, WEIGHTS, in_child, read, strays

LAYOUTS: dict[str, tuple[bool, bool]] = {
    "first": (False, True),
    "over an old one": (True, True),
    "without training": (True, False),
    "a zip over an old one": (True, True),
}
"""Whether there is an old one, and whether the new one has a training state."""
NO_ROOM = 10
"""Status of a child that was refused to save by an OSError."""


def write(place: Path, name: str, *, training: bool = True) -> None:
    """Save one of two known checkpoints."""
    checkpoint.write(place, {"name": name}, WEIGHTS[name], TRAINING if training else None)


def kills_at_each_call(room: Path, every: int = 1) -> Suite:
    """Kill a child with SIGKILL at each call into the disk that a save makes, one after another."""
    suite = Suite("killed at each disk call of save")
    for layout, (replaces, training) in LAYOUTS.items():
        place = room / layout / ("policy.zip" if "zip" in layout else "policy")
        place.parent.mkdir()
        step, killed = 1, True
        while killed:
            shutil.rmtree(place, ignore_errors=True)
            if replaces:
                write(place, "old")
            killed = child_dies(partial(write, place, "new", training=training), step)
            if killed:
                fault = f"{layout}, call {step}"
                suite.inject(fault, partial(check_whole, place, replaces, training), slow=None)
            step += every
    return suite


def check_whole(place: Path, replaces: bool, training: bool) -> None:
    """Read whatever a crash has left; save again, which clears up."""
    if replaces or place.exists():
        opened = checkpoint.open_checkpoint(place)
        name = str(opened.config["name"])
        assert name in ("old", "new")
        weights = opened.weights(WEIGHTS[name])
        assert all((weights[key] == WEIGHTS[name][key]).all() for key in WEIGHTS[name])
        assert (opened.training() is None) == (name == "new" and not training)
    write(place, "new")
    assert read(place) == "new"
    assert strays(place) == []


def child_dies(task: Callable[[], object], step: int) -> bool:
    """Run a task in a child that is killed at its step-th call into the disk; whether it was."""

    def die() -> None:
        dying_at(step)
        task()

    return os.WIFSIGNALED(outcome_of(die))


def outcome_of(task: Callable[[], object]) -> int:
    """Run a task in a child; return its status."""
    return os.waitpid(in_child(lambda: void(task)), 0)[1]


def void(task: Callable[[], object]) -> None:
    task()


def dying_at(step: int) -> None:
    """Make this process kill itself at a call into the disk; half of a write is then written."""
    made = 0

    def due() -> bool:
        nonlocal made
        made += 1
        return made == step

    def wrap(function: Callable[..., Any], opens: bool) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if due():
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **options)
            if opens and "w" in str(arguments[1:]):
                plain = result.write

                def half(content: bytes) -> int:
                    if due():
                        plain(content[: len(content) // 2])
                        result.flush()
                        os.kill(os.getpid(), signal.SIGKILL)
                    return int(plain(content))

                return Halved(result, half)
            return result

        return call

    for owner, name in CALLS:
        setattr(owner, name, wrap(getattr(owner, name), (owner, name) == (Path, "open")))


class Halved:
    """A file whose writes may be cut in two."""

    def __init__(self, file: Any, write: Callable[[bytes], int]) -> None:
        self.file, self.write = file, write

    def __enter__(self) -> Halved:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def no_room(room: Path, sizes: int = 12) -> Suite:
    """Save where files may not grow beyond some sizes, and where nothing may be written."""
    suite, algorithm = Suite("no room, or not allowed to write"), trained()
    full, locked = room / "full" / "policy", room / "locked" / "policy"
    for place in (full, locked):
        algorithm.save(place)
    (room / "file").write_text("in the way")
    before = acts(DeMa.load(full))
    largest = max(path.stat().st_size for path in full.rglob("*.*"))
    hindrances: list[tuple[str, Path, Callable[[], None]]] = [
        (f"{size} bytes at most", full, partial(limit_files, size))
        for size in (largest * k // sizes for k in range(sizes))
    ]
    hindrances += [
        ("read-only, new", locked.with_name("other"), become_nobody),
        ("read-only, deeper", locked.with_name("a") / "policy", become_nobody),
        ("read-only, over an old one", locked, become_nobody),
        ("below a file", room / "file" / "policy", lambda: None),
    ]
    locked.parent.chmod(0o555)
    for fault, target, hinder in hindrances:
        status = os.waitstatus_to_exitcode(
            outcome_of(partial(save_hindered, algorithm, target, hinder))
        )
        whole = all(acts(DeMa.load(place)) == before for place in (full, locked))
        left = strays(full) + strays(locked)
        refused = whole and status == NO_ROOM and not left
        suite.count(fault, "refused" if refused else f"{status}, {whole}, {left}")
    locked.parent.chmod(0o755)
    return suite


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond a size."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def become_nobody() -> None:
    """Give up the rights of a superuser, whom no permission stops."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def save_hindered(algorithm: DeMa, target: Path, hinder: Callable[[], None]) -> None:
    """Save, and end with a status that says whether that was an OSError."""
    hinder()
    try:
        algorithm.save(target)
    except OSError:
        os._exit(NO_ROOM)


def kills_at_any_moment(room: Path, count: int = 50) -> Suite:
    """Kill children that save, or learn and save, for ever; load what they left, and learn on."""
    suite, rng = Suite("killed at any moment of save and learn"), random.Random(6)
    data, place = tiny_trajectories(False), room / "living" / "policy"
    place.parent.mkdir()
    trained().save(place)

    def save_for_ever() -> None:
        algorithm = DeMa.load(place)
        while True:
            algorithm.save(place)

    def learn_for_ever() -> None:
        algorithm = DeMa.load(place)

        def save(*_: object) -> bool:
            algorithm.save(place)
            return True

        algorithm.learn(data, 10**6, callback=save)

    def load_and_learn() -> None:
        assert DeMa.load(place).learn(data, 1, reset_num_timesteps=False).num_timesteps > 0

    for turn in range(count):
        child = in_child(learn_for_ever if turn % 2 else save_for_ever)
        time.sleep(rng.uniform(0.01, 0.12))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        suite.inject(f"turn {turn}", load_and_learn, refusals=(), slow=None)
    trained().save(place)
    suite.count("clearing up", "survived" if strays(place) == [] else f"left {strays(place)}")
    return suite


def together(room: Path, writers: int = 2, readers: int = 4, turns: int = 200) -> Suite:
    """Let processes save and load one folder at once: each read is one of those written, whole."""
    suite = Suite(f"{writers} writers and {readers} readers at once")
    place = room / "shared" / "policy"
    place.parent.mkdir()
    written = [trained(seed=seed) for seed in range(writers)]
    known = {acts(algorithm) for algorithm in written}
    assert len(known) == writers
    written[0].save(place)

    def save(number: int) -> None:
        done = [outcome(lambda: written[number].save(place)) for _ in range(turns)]
        (room / f"writer-{number}").write_text(json.dumps(done))

    def load(number: int) -> None:
        done = [outcome(look) for _ in range(turns)]
        (room / f"reader-{number}").write_text(json.dumps(done))

    def look() -> None:
        found = DeMa.load(place)
        assert acts(found) in known, "it is none of those that were written"
        assert found._saved_training is not None, "its training state is missing"

    tasks = [(f"writer-{i}", lambda i=i: save(i)) for i in range(writers)]
    tasks += [(f"reader-{i}", lambda i=i: load(i)) for i in range(readers)]
    for child in [in_child(task) for _, task in tasks]:
        os.waitpid(child, 0)
    for name, _ in tasks:
        for turn, found in enumerate(json.loads((room / name).read_text())):
            suite.count(f"{name}, turn {turn}", found)
    suite.count("clearing up", "survived" if strays(place) == [] else f"left {strays(place)}")
    return suite


def outcome(task: Callable[[], object]) -> str:
    """Name what became of a task: "survived", or the error."""
    try:
        task()
    except (OSError, AssertionError, CheckpointError) as error:
        return f"{type(error).__name__}: {error}"
    return "survived"
