"""Fixtures for all tests: one torch thread, private caches, no network."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from tests.kernels import engine, instruction_set, library_is_there, looked_for_again

torch.set_num_threads(1)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job, and its children
    signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = [
    "engine",
    "instruction_set",
    "library_is_there",
    "looked_for_again",
]  # fixtures for all tests


@pytest.fixture(autouse=True, scope="session")
def _private_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep caches and Minari's datasets out of the user's folders."""
    root: Path = tmp_path_factory.mktemp("home")
    os.environ["DECISION_POLICIES_CACHE"] = str(root / "cache")
    os.environ["MINARI_DATASETS_PATH"] = str(root / "minari")
    os.environ["XDG_CACHE_HOME"] = str(root / "xdg")


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tiny trained policy once; not to be changed."""
    from tests.fixtures import trained

    folder = tmp_path_factory.mktemp("original") / "policy"
    trained().save(folder)
    return folder


@pytest.fixture
def saved(original: Path, tmp_path: Path) -> Path:
    """Copy the saved policy, for a test to damage."""
    return Path(shutil.copytree(original, tmp_path / "policy"))
