"""Fixtures for tests of the Hub: a loopback server, a client that may reach it, a fresh cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.cases import impatient, reachable
from tests.hub.server import Hub


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the client reach the network, which here is the loopback server; keep out of homes."""
    return reachable(monkeypatch, tmp_path)


@pytest.fixture(params=["in place", "redirects"])
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    """Run a hub that serves files in place, or sends downloads to another host, as a CDN does."""
    with Hub(redirects=request.param == "redirects") as running:
        yield running


@pytest.fixture
def plain_hub() -> Iterator[Hub]:
    """Run a hub that serves files in place, for tests that need it once only."""
    with Hub() as running:
        yield running


@pytest.fixture
def served(plain_hub: Hub, original: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Serve the tiny policy as alice/hopper, to a client that does not pause."""
    impatient(monkeypatch)
    plain_hub.publish("alice/hopper", original)
    return plain_hub
