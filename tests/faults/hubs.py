"""A hub that fails, breaks off and lies while a policy is fetched: nothing of it is half kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from decision_policies import DeMa
from decision_policies.errors import CheckpointError, HubError
from tests.faults.counting import Suite
from tests.hub import faults
from tests.hub.cases import REPO, impatient, kept, reachable
from tests.hub.faults import Trouble
from tests.hub.server import Hub
from tests.test_checkpoint import FILES, acts

NEEDED = FILES[:3]
STATUS = (400, 401, 403, 404, 408, 410, 418, 429, 500, 502, 503, 504)
NAMES = ("../pwned", "/etc/pwned", "a\\b", "", 7, None)
IDS = ("../../../../pwned", "0" * 39, None)
SIZES = (-1, 1.5, True, "9", 5 << 30, None)
ANSWERS: tuple[object, ...] = (
    "text",
    [[1]],
    {"a": 1},
    3,
    None,
    [],
    {},
    {"sha": "main"},
    [{"type": "file"}],
)
HEADERS = ("ETag", "X-Linked-Etag", "X-Repo-Commit", "Content-Disposition")
FOREVER = 10_000

Fault = tuple[str, str, Trouble, str]
"""What is done, the kind of request that it meets, the trouble, and a part of the path."""


def orders() -> Iterator[Fault]:
    """List the faults."""
    yield from failures()
    yield from lies()
    for name in NEEDED:
        yield f"{name} is short", "GET", faults.short(), name
        yield f"{name} is long", "GET", faults.long(b"more"), name
        for bit in (0, 999, 8 * 500):
            yield f"{name} has bit {bit} flipped", "GET", faults.flip(bit), name


def failures() -> Iterator[Fault]:
    """List what fails or breaks off."""
    for kind in ("info", "tree", "GET"):
        for code in STATUS:
            yield f"{kind} answers {code}", kind, faults.status(code), ""
        for sent in (0, 1, 100):
            yield f"{kind} breaks off after {sent} bytes", kind, faults.cut(sent), ""
        yield f"{kind} is no JSON", kind, Trouble(alter=lambda r: type(r)(200, b"<html>")), ""


def lies() -> Iterator[Fault]:
    """List answers that must not be believed."""
    for kind in ("info", "tree"):
        for answer in ANSWERS:
            yield f"{kind} is {answer!r}", kind, faults.body(partial(other, answer)), ""
    for field, values in (("path", NAMES), ("oid", IDS), ("size", SIZES)):
        for value in values:
            changed: dict[str, object] = {field: value}
            yield f"tree lists {changed}", "tree", faults.body(listed(changed)), ""
    for header in HEADERS:
        yield f"hostile {header}", "GET", faults.header(header, '"../../../../pwned"'), ""


def other(answer: object, _: Any) -> object:
    """Answer something else."""
    return answer


def listed(changed: dict[str, object]) -> Callable[[Any], Any]:
    """Change what the list of files says of config.json."""

    def alter(items: Any) -> Any:
        return [{**item, **changed} if item["path"] == "config.json" else item for item in items]

    return alter


def reading(original: Path, room: Path, every: int = 1) -> Suite:
    """Load by name from a hub with each fault, lasting and passing, in place and redirected."""
    suite = Suite("a hub's faults while reading")
    wanted = acts(DeMa.load(original))
    with pytest.MonkeyPatch.context() as patch, Hub() as plain, Hub(redirects=True) as redirects:
        impatient(patch)
        for hub in (plain, redirects):
            hub.publish(REPO, original)
        for turn, (fault, kind, trouble, path) in enumerate(islice(orders(), 0, None, every)):
            hub = redirects if turn % 2 else plain
            cache = reachable(patch, room / f"home-{turn}")

            def load(hub: Hub = hub, cache: Path = cache) -> None:
                try:
                    algorithm = DeMa.load(REPO, endpoint=hub.url)
                except (HubError, CheckpointError):
                    assert kept(cache) == [], "nothing is half kept"
                    raise
                assert acts(algorithm) == wanted
                assert not list(cache.parent.rglob("*pwned*"))

            hub.fail(kind, trouble, times=FOREVER, path=path if hub is plain else "")
            suite.inject(fault, load, refusals=(HubError, CheckpointError), slow=None)
            hub.faults.clear()
            suite.inject(f"{fault}, and then no more", load, refusals=(), slow=None)
            shutil.rmtree(room / f"home-{turn}")
    return suite
