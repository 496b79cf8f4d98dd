"""Fixtures for tests of the Hub: a loopback server, a client that may reach it, a fresh cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.server import Hub


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the client reach the network, which here is the loopback server; keep out of homes."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "DECISION_POLICIES_HUB"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cache"
    monkeypatch.setenv("DECISION_POLICIES_CACHE", str(folder))
    return folder


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
    from decision_policies.hub import client

    monkeypatch.setattr(client, "PAUSE", 0.0)
    monkeypatch.setattr(client, "LONGEST_PAUSE", 0.01)
    plain_hub.publish("alice/hopper", original)
    return plain_hub
