"""What can go wrong between a hub and its client, to be ordered by `Hub.fail`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.hub.calls import Reply, as_json


@dataclass(frozen=True)
class Trouble:
    """One kind of trouble: an answer instead of the true one, or a change of the true one."""

    instead: Reply | None = None
    alter: Callable[[Reply], Reply] = lambda reply: reply


@dataclass
class Fault:
    """Trouble that meets `times` requests of a kind whose path contains `path`, after some."""

    kind: str
    trouble: Trouble
    times: int
    path: str
    after: int = 0

    def meets(self, kind: str, path: str) -> bool:
        """Whether this request is met; it is counted if it could be."""
        if self.times < 1 or self.kind not in (kind, "any") or self.path not in path:
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True


def status(code: int, headers: Mapping[str, str] | None = None) -> Trouble:
    """Answer with an error and do nothing."""
    return Trouble(Reply(code, as_json({"error": f"fault {code}"}), headers or {}))


def cut(sent: int) -> Trouble:
    """Close the connection after some bytes of the body."""
    return Trouble(alter=lambda reply: replace(reply, sent=sent))


def short(missing: int = 1) -> Trouble:
    """Send fewer bytes, with a Content-Length that fits them."""
    return Trouble(alter=lambda reply: replace(reply, body=reply.body[:-missing]))


def long(extra: bytes) -> Trouble:
    """Send more bytes than the file has."""
    return Trouble(alter=lambda reply: replace(reply, body=reply.body + extra))


def flip(bit: int = 0) -> Trouble:
    """Change one bit of the body."""

    def alter(reply: Reply) -> Reply:
        body = bytearray(reply.body)
        body[(bit // 8) % len(body)] ^= 1 << bit % 8
        return replace(reply, body=bytes(body))

    return Trouble(alter=alter)


def header(name: str, value: str) -> Trouble:
    """Answer with another header, such as a hostile ETag."""
    return Trouble(alter=lambda reply: replace(reply, headers={**reply.headers, name: value}))


def body(change: Callable[[Any], Any]) -> Trouble:
    """Answer with other JSON, made from the true one."""

    def alter(reply: Reply) -> Reply:
        return replace(reply, body=as_json(change(json.loads(reply.body))))

    return Trouble(alter=alter)


def deaf() -> Trouble:
    """Do nothing, and close the connection instead of answering."""
    return Trouble(Reply(sent=0))


def lost() -> Trouble:
    """Do what is asked, and close the connection instead of answering."""
    return Trouble(alter=lambda reply: replace(reply, sent=0))


def slow(seconds: float) -> Trouble:
    """Answer late."""

    def alter(reply: Reply) -> Reply:
        time.sleep(seconds)
        return reply

    return Trouble(alter=alter)
