"""Nothing in the package can run code that lies in a file."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

import decision_policies
from decision_policies import DeMa
from tests.fixtures import tiny_trajectories, trained

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for folder in ("decision_policies", "zoo") for path in (ROOT / folder).rglob("*.py")
)
MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "runpy"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {"torch.load", "torch.jit.load", "os.system", "os.popen"}


def offences(source: str) -> list[str]:
    """List what could run code out of a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [str(node.module)] * (str(node.module).split(".")[0] in MODULES)
            named = [f"{node.module}.{a.name}" for a in node.names]
            found += [name for name in named if name in ATTRIBUTES]
        elif isinstance(node, ast.Name) and node.id in CALLS:
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ATTRIBUTES:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            refused = isinstance(node.value, ast.Constant) and node.value.value is False
            found += [] if refused else ["allow_pickle"]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_file_can_unpickle_or_evaluate(path: Path) -> None:
    assert offences(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, dill as d",
        "from cloudpickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "torch.jit.load('x')",
        "eval('1')",
        "run = exec",
        "__import__('os')",
        "np.load('x', allow_pickle=True)",
        "import os\nos.system('x')",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert offences(source)


def test_loading_and_resuming_run_nothing_out_of_files(tmp_path: Path) -> None:
    trained().save(tmp_path / "policy")
    DeMa.load(tmp_path / "policy").learn(tiny_trajectories(False), 1)  # whatever is imported once
    events: list[str] = []
    listening = True

    def hook(event: str, _: tuple[Any, ...]) -> None:
        if listening:
            events.append(event)

    sys.addaudithook(hook)
    decision_policies.load(tmp_path / "policy")
    DeMa.load(tmp_path / "policy").learn(tiny_trajectories(False), 1)
    listening = False
    forbidden = ("pickle.find_class", "marshal.", "subprocess.", "os.system", "os.exec", "socket.")
    assert "open" in events, "the hook heard the files being opened"
    assert [e for e in events if e.startswith(forbidden)] == []
