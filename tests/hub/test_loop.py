"""A policy's way from machine to machine: processes with homes of their own and one real hub."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.calls import Reply
from tests.hub.faults import Trouble
from tests.hub.machine import Machine
from tests.hub.server import Hub

REPO = "alice/tiny"
ACCOUNT = {"HF_TOKEN": "hf_write"}


@dataclass
class World:
    """A hub and machines that know of it.

    Attributes:
        hub: The hub.
        homes: Where the machines' homes are.
    """

    hub: Hub
    homes: Path
    stack: ExitStack

    def start(self, name: str, **variables: str) -> Machine:
        """Start a machine; its name is that of its home."""
        return self.stack.enter_context(Machine(self.homes / name, self.hub.url, variables))

    @property
    def history(self) -> list[str]:
        """Commits from the branch's present one back to the first that was pushed."""
        repository = self.hub.repositories[REPO]
        found, commit = [], repository.commits[repository.branches["main"]]
        while commit.parent is not None:
            found.append(commit.id)
            commit = repository.commits[commit.parent]
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run a hub."""
    with ExitStack() as stack:
        hub = stack.enter_context(Hub())
        yield World(hub, tmp_path_factory.mktemp("homes"), stack)


@pytest.fixture(scope="module")
def machines(world: World) -> tuple[Machine, Machine]:
    """Start machines A, which has trained a policy and pushed it, and B, which has nothing."""
    a, b = world.start("a", **ACCOUNT), world.start("b", **ACCOUNT)
    a.do("train", 0)
    a.do("push", REPO)
    return a, b


def at_once() -> Trouble:
    """Keep the first request waiting until the second is there: both have seen the same head."""
    gate = threading.Barrier(2, timeout=20)

    def wait(reply: Reply) -> Reply:
        gate.wait()
        return reply

    return Trouble(alter=wait)


def test_other_machines_act_bit_equal_one_of_them_offline(
    world: World, machines: tuple[Machine, Machine]
) -> None:
    a, b = machines
    wanted = a.do("act")
    assert not list((world.homes / "b").iterdir())
    b.do("load", REPO)
    assert b.do("act") == wanted
    shutil.copytree(world.homes / "b", world.homes / "c")
    asked = len(world.hub.log)
    c = world.start("c", HF_HUB_OFFLINE="1")
    c.do("load", REPO)
    assert c.do("act") == wanted
    assert c.do("connections") == {"dialled": 0} and len(world.hub.log) == asked


def test_new_revision_is_what_the_name_means_and_the_pinned_name_keeps_the_old_one(
    world: World, machines: tuple[Machine, Machine]
) -> None:
    a, b = machines
    a.do("load", REPO)
    first, old = world.history[0], a.do("act")
    a.do("learn", 1)
    assert a.do("push", REPO) == {"commit": world.history[0], "changed": True}
    new = a.do("act")
    assert new != old
    for name, wanted in ((f"{REPO}@{first}", old), (REPO, new)):
        b.do("load", name)
        assert b.do("act") == wanted


def test_of_two_pushes_at_once_one_is_told_of_the_other_and_nothing_is_lost(
    world: World, machines: tuple[Machine, Machine]
) -> None:
    before = world.history
    for updates, machine in enumerate(machines, 1):
        machine.do("load", REPO)
        machine.do("learn", updates)
    world.hub.fail("preupload", at_once(), times=2)
    for machine in machines:
        machine.tell("push", REPO)
    answers = [machine.hear() for machine in machines]
    [loser] = (m for m, answer in zip(machines, answers, strict=True) if "error" in answer)
    [winner] = (m for m in machines if m is not loser)
    refusal, commit = answers[machines.index(loser)], answers[machines.index(winner)]["commit"]
    assert refusal["error"] == "HubConflict"
    assert refusal["message"] == (
        f"{REPO}: main is at {commit}, and no longer at {before[0]}, which this push was made "
        "upon: somebody else pushed. Nothing was changed; look at what they did, and push again"
    )
    assert world.history == [commit, *before]
    made = [(commit, winner.do("act")), (loser.do("push", REPO)["commit"], loser.do("act"))]
    assert world.history == [made[1][0], made[0][0], *before]
    for commit, wanted in made:
        winner.do("load", f"{REPO}@{commit}")
        assert winner.do("act") == wanted


def test_next_process_uses_what_the_machine_has_while_the_hub_is_down(
    original: Path, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        world = World(stack.enter_context(Hub()), tmp_path, stack)
        commit = world.hub.publish(REPO, original)
        before, after = world.start("b"), world.start("b")
        before.do("load", REPO)
        wanted = before.do("act")
        world.hub.stop()
        assert after.do("load", f"{REPO}@{commit}") == {"warnings": []}
        assert after.do("act") == wanted and after.do("connections") == {"dialled": 0}
        [warning] = after.do("load", REPO)["warnings"]
        assert f"using {commit[:12]}, fetched before" in warning and world.hub.url in warning
        assert after.do("act") == wanted
