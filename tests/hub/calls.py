"""A call to the test hub and its reply: who calls, what they may see, and pages of long lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.hub.store import Refused, Repository, User

if TYPE_CHECKING:
    from tests.hub.server import Hub

PAGE = 1000
API = r"/api/models/(?P<name>[^/]+/[^/]+)"
NAME = r"/(?P<name>[^/]+/[^/]+)"


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        status: HTTP's.
        body: Its content.
        headers: Beyond Content-Type (JSON unless said) and Content-Length.
        sent: Bytes of the body that are sent before the connection is cut; None is all.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: int | None = None


def as_json(data: object) -> bytes:
    return json.dumps(data).encode()


@dataclass(frozen=True)
class Call:
    """A request, as the functions behind the routes see it."""

    hub: Hub
    method: str
    path: str
    kind: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def base(self) -> str:
        return f"http://{self.headers['Host']}"

    def json(self) -> dict[str, Any]:
        found = json.loads(self.body or b"{}")
        assert isinstance(found, dict)
        return found

    def user(self) -> User | None:
        """Who calls; None without a token.

        Raises:
            Refused: The token is nobody's.
        """
        sent = self.headers.get("Authorization")
        if sent is None:
            return None
        user = self.hub.users.get(sent.removeprefix("Bearer "))
        if user is None:
            raise Refused(401, "Invalid credentials in Authorization header")
        return user

    def member(self) -> User:
        """Who calls, if there is a token at all."""
        user = self.user()
        if user is None:
            raise Refused(401, "Invalid username or password.")
        return user

    def repository(self, name: str, *, write: bool = False, content: bool = False) -> Repository:
        """Find a repository that the caller may see, write to, or read the files of."""
        user, found = self.user(), self.hub.repositories.get(name)
        owns = user is not None and user.owns(name)
        if found is None or (found.private and not owns):
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user is None:
            raise Refused(401, "Invalid username or password.")
        if write and not (owns and user is not None and user.role == "write"):
            raise Refused(403, "You don't have the rights to write to this repository")
        if content and found.gated and not owns:
            message = f"Access to model {name} is restricted."
            raise Refused(403 if user else 401, message, "GatedRepo")
        return found

    def page(self, items: Sequence[object], size: int = PAGE) -> Reply:
        """Answer one page of a list, with a link to the next."""
        start = int(self.query.get("cursor", ["0"])[0])
        headers = {}
        if start + size < len(items):
            query = {**self.query, "cursor": [str(start + size)]}
            link = f"{self.base}{self.path}?{urlencode(query, doseq=True)}"
            headers["Link"] = f'<{link}>; rel="next"'
        return Reply(200, as_json(items[start : start + size]), headers)


@dataclass(frozen=True)
class Route:
    """What answers a path.

    Attributes:
        methods: HTTP's verbs, with blanks between them.
        pattern: The path as a regular expression; its groups are the function's arguments.
        function: Makes the reply.
        kind: What faults call it; "file" is "GET" or "HEAD".
    """

    methods: str
    pattern: str
    function: Callable[..., Reply]
    kind: str
