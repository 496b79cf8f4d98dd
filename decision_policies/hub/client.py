"""Reading from a hub over HTTP by huggingface_hub's own session: bounded, patient, and private."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from decision_policies.errors import HubError
from decision_policies.version import __version__

ATTEMPTS = 4
"""Times that a request is made before its failure is believed."""
PAUSE = 0.5
"""Seconds before the second attempt; before each further one, twice as many."""
LONGEST_PAUSE = 20.0
TIMEOUT = 20.0
"""Seconds to wait for a connection, or for the next bytes."""
MAX_ANSWER = 1 << 24
"""Bytes of the longest list that a hub may answer with."""
AGENT = f"decision_policies/{__version__}"
PASSING = frozenset({408, 429, 500, 502, 503, 504})


class Refusal(Exception):
    """A hub's answer that is an error.

    Attributes:
        status: HTTP's.
        code: The Hub's own word for it, as "RevisionNotFound"; "" where there is none.
        message: What the hub says.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code} {message}".strip())
        self.status, self.code, self.message = status, code, message


class Unreachable(Exception):
    """The hub cannot be reached at all; the cause says why."""


class _Passing(Exception):
    """Trouble that may be over at the next attempt: what happened, and how long to wait."""

    def __init__(self, what: str, pause: float = 0.0) -> None:
        super().__init__(what)
        self.pause = pause


@dataclass(frozen=True)
class Answer:
    """A body and its headers."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Client:
    """A reader of one hub.

    Attributes:
        endpoint: The hub's URL.
        token: Sent to that host only: a redirect to another host goes without it.
    """

    endpoint: str
    token: str | None

    @classmethod
    def of(cls, endpoint: str, token: str | None) -> Client:
        """Make a reader; the machine's own token goes to the machine's own hub only."""
        from huggingface_hub import constants, get_token

        own = endpoint == constants.ENDPOINT.rstrip("/")
        if token is None and own and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
            token = get_token()
        return cls(endpoint, token)

    def json(self, path: str) -> Any:
        """Read an answer in JSON.

        Args:
            path: From the endpoint on, percent-encoded.

        Raises:
            Refusal: The hub answers with an error.
            Unreachable: There is no hub.
            HubError: It fails again and again, or answers with something else than JSON.
        """
        return self._parsed(path, self._patiently(path, MAX_ANSWER, None))

    def pages(self, path: str, limit: int) -> Iterator[Any]:
        """Read a list that is answered in pages.

        Args:
            path: From the endpoint on, percent-encoded.
            limit: Pages after which reading ends with an error.

        Raises:
            HubError: The list goes on for more pages; and as `json`.
        """
        page = path
        for _ in range(limit):
            answer = self._patiently(page, MAX_ANSWER, None)
            yield self._parsed(page, answer)
            following = _next_page(answer.headers.get("link", ""), self.endpoint)
            if following is None:
                return
            page = following
        raise HubError(f"{self.endpoint}{path} lists more than {limit} pages; nothing was kept")

    def content(self, path: str, limit: int, size: int | None = None) -> bytes:
        """Read a file.

        Args:
            path: From the endpoint on, percent-encoded.
            limit: Bytes after which reading ends with an error.
            size: Bytes that it must have, where that is known.

        Raises:
            HubError: It has more, or fewer; and as `json`.
        """
        body = self._patiently(path, limit, size).body
        if size is not None and len(body) != size:
            raise HubError(
                f"{self.endpoint}{path} has {len(body)} bytes, where the hub itself lists {size}; "
                "nothing was kept"
            )
        return body

    def _parsed(self, path: str, answer: Answer) -> Any:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise HubError(
                f"{self.endpoint}{path} answers with something else than JSON "
                f"({answer.body[:40]!r}); is this a hub's address?"
            ) from error

    def _patiently(self, path: str, limit: int, size: int | None) -> Answer:
        """Ask until there is an answer, a refusal, or no patience left."""
        pause = PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._attempt(path, limit, size)
            except _Passing as trouble:
                if attempt == ATTEMPTS:
                    raise HubError(
                        f"{self.endpoint}{path} {trouble}, {ATTEMPTS} times; nothing was kept, "
                        "try again later"
                    ) from trouble.__cause__
                time.sleep(min(max(pause, trouble.pause), LONGEST_PAUSE))
                pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, path: str, limit: int, size: int | None) -> Answer:
        from huggingface_hub import get_session

        headers = {"user-agent": AGENT, "accept-encoding": "identity"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        body = bytearray()
        try:
            with get_session().stream(
                "GET", self.endpoint + path, headers=headers, timeout=TIMEOUT, follow_redirects=True
            ) as response:
                _check_status(response.status_code, response.headers)
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > limit:
                        raise HubError(
                            f"{self.endpoint}{path} sends more than the {limit} bytes it should "
                            "have; nothing was kept"
                        )
                return Answer(bytes(body), response.headers)
        except (Refusal, HubError, _Passing):
            raise
        except Exception as error:
            if _is_offline(error):
                raise Unreachable(str(error)) from error
            if not _is_transport(error):
                raise
            of = "" if size is None else f" of {size}"
            what = f"broke off after {len(body)}{of} bytes ({type(error).__name__}: {error})"
            raise _Passing(what) from error


def _check_status(status: int, headers: Mapping[str, str]) -> None:
    if status < 300:
        return
    message = headers.get("x-error-message", "")
    refusal = Refusal(status, headers.get("x-error-code", "")[:50], message[:300])
    if status in PASSING:
        wanted = headers.get("retry-after", "")
        pause = float(wanted) if wanted.isdecimal() and len(wanted) < 6 else 0.0
        raise _Passing(f"answers {refusal}", pause) from refusal
    raise refusal


def _next_page(link: str, endpoint: str) -> str | None:
    """Read the next page's path from a header `Link`; its host is not followed.

    Raises:
        HubError: It is no path, and set behind the endpoint could mean another host.
    """
    for part in link.split(","):
        url, _, relation = part.partition(";")
        if relation.strip() == 'rel="next"':
            try:
                place = urlsplit(url.strip().strip("<>"))
                path = place.path.removeprefix(urlsplit(endpoint).path)
            except ValueError:
                path = ""
            if not path.startswith("/"):
                raise HubError(f"refused unsafe link from hub {endpoint}: {url[:100]!r}")
            return f"{path}?{place.query}"
    return None


def _is_offline(error: Exception) -> bool:
    """Whether an error says that there is no hub, or must be none; httpx's, whichever it is."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ConnectError", "ConnectTimeout", "OfflineModeIsEnabled", "ProxyError"})


def _is_transport(error: Exception) -> bool:
    """Whether an error is of the connection; the client's library has changed its name before."""
    home = type(error).__module__.partition(".")[0]
    return home in {"httpx", "httpx2", "httpcore", "httpcore2", "h11"} or isinstance(error, OSError)
