"""A small, honest Hub on the loopback device: the real client's protocol, and faults on demand."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub import reading, writing
from tests.hub.calls import Call, Reply, Route, as_json
from tests.hub.faults import Fault, Trouble
from tests.hub.store import Refused, Repository, Store, User

ROUTES = (*reading.ROUTES, *writing.ROUTES)


@dataclass(frozen=True)
class Seen:
    """A request that arrived.

    Attributes:
        method: The HTTP verb.
        path: With the query, as it was sent.
        kind: Which kind of request it is, as faults name them; "" for one that no route serves.
        status: How it was answered; 0 for a connection that was cut.
        token: What was sent in the header Authorization, without "Bearer".
        host: The header Host: "127.0.0.1:..." is the hub, "localhost:..." its store of objects.
        body: What was sent.
    """

    method: str
    path: str
    kind: str
    status: int
    token: str | None
    host: str
    body: bytes


@dataclass
class Hub(Store):
    """A running hub; a context manager.

    Attributes:
        redirects: Answer downloads of LFS files by a redirect to another host name, as a CDN.
        log: What was asked, in order.
        faults: What shall go wrong; see `fail`.
    """

    redirects: bool = False
    log: list[Seen] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.users = self.users or {
            "hf_write": User("alice"),
            "hf_read": User("alice", role="read"),
            "hf_other": User("bob"),
        }
        self.lock = threading.RLock()
        self._connections: set[socket.socket] = set()
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Go down: idle connections are closed too, and the port refuses new ones."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def publish(
        self,
        repository: str,
        files: Mapping[str, bytes] | Path,
        *,
        branch: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Commit files on the server itself, without a request; return the commit.

        The new commit holds these files and no others.
        """
        content = read(files) if isinstance(files, Path) else files
        with self.lock:
            owner = repository.split("/")[0]
            if repository not in self.repositories:
                self.repositories[repository] = Repository(repository, private, owner)
            found = self.repositories[repository]
            found.private, found.gated = private, gated
            entries = {path: self.put(path, data) for path, data in content.items()}
            commit = found.add(found.branches.get(branch), entries, "published", "", owner)
            found.branches[branch] = commit
        return commit

    def fail(
        self, kind: str, trouble: Trouble, *, times: int = 1, path: str = "", after: int = 0
    ) -> Fault:
        """Let the next requests of a kind go wrong.

        Args:
            kind: "info", "tree", "HEAD", "GET" (a file or an LFS object), "preupload", "lfs",
                "commit", another route's (see `ROUTES`), or "any".
            trouble: What goes wrong; see `faults`.
            times: How many requests it meets.
            path: Only requests whose path contains this.
            after: How many of them it lets pass first.
        """
        self.faults.append(Fault(kind, trouble, times, path, after))
        return self.faults[-1]

    def requests(self, kind: str | None = None) -> list[Seen]:
        """List the requests so far, of a kind or all."""
        return [seen for seen in self.log if kind is None or seen.kind == kind]

    def answer(self, call: Call, route: Route | None, groups: Mapping[str, str]) -> Reply:
        """Answer a call, rightly or with what shall go wrong."""
        kind = "" if route is None else call.kind
        with self.lock:
            due = [f for f in self.faults if f.meets(kind, call.path)]
        instead = next((f.trouble.instead for f in due if f.trouble.instead), None)
        if instead is not None:
            return instead
        try:
            if route is None:
                raise Refused(404, "Sorry, we can't find the page you are looking for.")
            with self.lock:
                reply = route.function(call, **groups)
        except Refused as refused:
            body = refused.body or {"error": refused.message}
            headers = {"X-Error-Message": refused.message}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            reply = Reply(refused.status, as_json(body), headers)
        for fault in due:
            reply = fault.trouble.alter(reply)
        return reply


def read(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder, by their relative paths."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Handler(BaseHTTPRequestHandler):
    """HTTP's side: reads a request, sends the reply, keeps the log."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a reply is two writes; the second must not wait for an ACK
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def setup(self) -> None:
        super().setup()
        self.hub._connections.add(self.connection)

    def finish(self) -> None:
        self.hub._connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with suppress(OSError):  # the client, or `stop`, has closed the connection
            super().handle()

    def respond(self) -> None:
        url = urlsplit(self.path)
        body = b"".join(self._chunks())
        query = {key.removesuffix("[]"): v for key, v in parse_qs(url.query).items()}
        route, groups = find(self.command, url.path)
        kind = "" if route is None else route.kind
        if kind == "file":
            kind = self.command
        headers = {name.title(): value for name, value in self.headers.items()}
        call = Call(self.hub, self.command, url.path, kind, query, headers, body)
        reply = self.hub.answer(call, route, groups)
        token = self.headers.get("Authorization")
        self.hub.log.append(
            Seen(
                self.command,
                self.path,
                kind,
                reply.status if reply.sent is None else 0,
                None if token is None else token.removeprefix("Bearer "),
                self.headers["Host"],
                body,
            )
        )
        self._send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = respond

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        defaults = {"Content-Type": "application/json", "Content-Length": str(len(reply.body))}
        for name, value in {**defaults, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(reply.body[: reply.sent])
        if reply.sent is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _chunks(self) -> Iterator[bytes]:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()


def find(method: str, path: str) -> tuple[Route | None, dict[str, str]]:
    """Find the route of a request and the parts of its path, decoded."""
    for route in ROUTES:
        if method in route.methods.split() and (match := re.fullmatch(route.pattern, path)):
            groups = match.groupdict()
            return route, {k: unquote(v) for k, v in groups.items() if v is not None}
    return None, {}
