"""A hub that fails at any request of a push: the branch holds all that was pushed, or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from decision_policies.errors import HubError
from decision_policies.hub.push import gather, push
from tests.faults.counting import Suite
from tests.faults.hubs import FOREVER, other
from tests.hub import faults
from tests.hub.calls import Reply
from tests.hub.cases import REPO, reachable
from tests.hub.faults import Trouble
from tests.hub.server import Hub

CARD = "---\nlibrary_name: decision-policies\n---\n# A card\n"
FOREIGN = "LICENSE"
"""A file that no push touches."""
OLD = {"README.md": b"before", "replay.mp4": b"a film of another policy", FOREIGN: b"before"}
STATUS = (400, 401, 403, 404, 409, 412, 429, 500, 503)
ANSWERS: tuple[object, ...] = (
    "text",
    [[1]],
    None,
    [],
    {},
    {"sha": "main"},
    {"commitOid": "0" * 40},
)


@dataclass
class Attempts:
    """Pushes of one checkpoint to one repository.

    Attributes:
        hub: The hub, which fails.
        folder: The checkpoint.
        settled: Whether there is a repository already, with another policy.
        theirs: Commits that somebody else has made meanwhile.
    """

    hub: Hub
    folder: Path
    settled: bool
    theirs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = gather(self.folder, CARD)
        self.hub.blobs.clear()
        self.hub.repositories.clear()
        if self.settled:
            self.hub.publish(REPO, OLD)
        self.before = set(self._commits())

    def push(self) -> None:
        """Push, and compare what the hub holds afterwards, whatever came of it.

        A hub that hides what it holds keeps an old film beside what is pushed: the push must fail.
        """
        try:
            made = push(self.folder, REPO, card=CARD, token="hf_write", endpoint=self.hub.url)
            assert self.content(made.commit) == self.files, "it says that it has pushed"
        finally:
            pushed = set(self._commits()) - self.before - set(self.theirs)
            held = [self.content(commit) for commit in pushed]
            for found in held:
                assert self.files.items() <= found.items() or not found, "half a push"
            assert held.count(self.files) <= 1 + len(self.theirs), "the same was committed twice"

    def interfere(self, reply: Reply) -> Reply:
        """Let somebody else push before a request is answered."""
        if REPO in self.hub.repositories:
            self.theirs.append(self.hub.publish(REPO, {FOREIGN: b"theirs %d" % len(self.theirs)}))
        return reply

    def content(self, commit: str) -> dict[str, bytes]:
        """Read what a commit holds beside the foreign file."""
        files = self.hub.repositories[REPO].commits[commit].files
        return {p: self.hub.blobs[entry.key] for p, entry in files.items() if p != FOREIGN}

    def _commits(self) -> list[str]:
        found = self.hub.repositories.get(REPO)
        return list(found.commits) if found else []


def troubles() -> Iterator[tuple[str, Trouble]]:
    """List what can happen to a request."""
    for code in STATUS:
        yield f"answers {code}", faults.status(code)
    yield "is not heard", faults.deaf()
    for sent in (0, 1, 20):
        yield f"is done and the answer breaks off after {sent} bytes", faults.cut(sent)
    yield "is answered by a web page", Trouble(alter=lambda r: type(r)(200, b"<html>"))
    for answer in ANSWERS:
        yield f"is answered {answer!r}", faults.body(partial(other, answer))


def orders(requests: int) -> Iterator[tuple[str, int, Trouble | None, int]]:
    """List the faults: what is done, the request, the trouble, and how many requests it meets.

    No trouble means that somebody else pushes.
    """
    for index in range(requests):
        for words, trouble in troubles():
            yield f"request {index} {words}", index, trouble, 1
            yield f"request {index} and all later ones: {words}", index, trouble, FOREVER
        yield f"somebody pushes at request {index}", index, None, 1


@contextmanager
def hurried(home: Path) -> Iterator[None]:
    """Let the client reach the hub, ask again without a pause, and not say so each time."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    said = logging.get_verbosity()
    with pytest.MonkeyPatch.context() as patch:
        reachable(patch, home)
        patch.setattr(time, "sleep", lambda seconds: None)
        logging.set_verbosity_error()
        disable_progress_bars()
        try:
            yield
        finally:
            logging.set_verbosity(said)
            enable_progress_bars()


def pushing(original: Path, room: Path, every: int = 1) -> Suite:
    """Push to a hub that fails at each request, as often as not for good; then push again."""
    suite = Suite("a hub's faults while pushing")
    with hurried(room), Hub() as plain, Hub(redirects=True) as redirects:
        for settled in (False, True):
            Attempts(plain, original, settled).push()
            requests = len(plain.log)
            plain.log.clear()
            chosen = islice(orders(requests), 0, None, every)
            for turn, (fault, index, trouble, times) in enumerate(chosen):
                hub = redirects if turn % 2 else plain
                attempts = Attempts(hub, original, settled)
                meanwhile = Trouble(alter=attempts.interfere)
                hub.fail("any", trouble or meanwhile, times=times, after=index)
                name = f"{'over an old policy' if settled else 'a new repository'}, {fault}"
                suite.inject(name, attempts.push, refusals=(HubError,), slow=None)
                hub.faults.clear()
                suite.inject(f"{name}, and pushed again", attempts.push, refusals=(), slow=None)
                hub.log.clear()
    return suite
