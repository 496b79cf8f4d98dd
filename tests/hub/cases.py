"""What tests of loading by name share: the policy served, and a load that must fail."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from decision_policies import DeMa
from tests.hub.server import Hub

REPO = "alice/hopper"


def reachable(patch: pytest.MonkeyPatch, home: Path) -> Path:
    """Let the client reach the loopback server, and keep it out of homes; return its cache."""
    from huggingface_hub import constants

    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "DECISION_POLICIES_HUB"):
        patch.delenv(name, raising=False)
    patch.setenv("DECISION_POLICIES_CACHE", str(home / "cache"))
    return home / "cache"


def impatient(patch: pytest.MonkeyPatch) -> None:
    """Let the client ask again without a pause."""
    from decision_policies.hub import client

    patch.setattr(client, "PAUSE", 0.0)
    patch.setattr(client, "LONGEST_PAUSE", 0.01)


def kept(cache: Path) -> list[str]:
    """List every file in the cache."""
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


def refused(hub: Hub, error: type[Exception], name: str = REPO, **options: Any) -> str:
    """Load what cannot be loaded; return the first line of the message."""
    with pytest.raises(error) as raised:
        DeMa.load(name, **{"endpoint": hub.url, **options})
    assert type(raised.value) is error
    return str(raised.value).splitlines()[0]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
