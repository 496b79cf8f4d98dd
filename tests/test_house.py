"""The house rules: which way imports point, how long files are, what acting needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "decision_policies"

# Each room may import from rooms before it, and from itself.
ROOMS = [
    ["version", "errors", "tree", "ops", "atomic", "envs"],
    ["nets", "spaces", "strict_json", "archive"],
    ["contents", "returns", "space_json"],
    ["spec", "batch", "checkpoint", "inputs"],
    ["hub", "feedback"],
    ["models"],
    ["data", "contexts"],
    ["session"],
    ["policy"],
    ["learning"],
    ["algorithms"],
    ["evaluation", "convert", "export", "registration"],
    ["in_context"],
    ["analysis"],
    ["laws"],
    ["command"],
    ["__main__"],
]


def rank(room: str) -> int:
    return next(i for i, rooms in enumerate(ROOMS) if room in rooms)


def imports(path: Path) -> list[str]:
    """Modules of this package that a file imports, function bodies included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found += [name for name in names if name.split(".")[0] == "decision_policies"]
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    for name in imports(path):
        room = name.split(".")[1]
        if room != parts[0]:
            assert rank(room) < rank(parts[0]), f"{'.'.join(parts)} imports {name}"


def test_every_room_is_ranked() -> None:
    rooms = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in FILES}
    assert rooms == {room for rooms in ROOMS for room in rooms}


SOURCES = [
    p
    for folder in ("decision_policies", "zoo", "examples", "benchmarks", "tests")
    for p in sorted((ROOT / folder).rglob("*.py"))
]


def defines_a_system(path: Path) -> bool:
    if path.parent != PACKAGE / "algorithms":
        return False
    classes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)]
    return any("SequenceAlgorithm" in map(ast.unparse, c.bases) for c in classes)


def test_the_shortest_files_are_the_systems() -> None:
    assert [p.name for p in FILES if defines_a_system(p)] == [
        f"{name}.py" for name in ("ad", "bc", "dc", "dema", "dm", "dmh", "dmm", "dt", "mambadm")
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text()
    lines = len(text.splitlines())
    limit = 100 if defines_a_system(path) else 350
    assert lines <= limit, f"{path.name} has {lines} lines, at most {limit} are one idea"
    if path.name != "__init__.py" or text:
        assert ast.get_docstring(ast.parse(text)), f"{path} does not say what it is for"


def test_systems_define_no_networks() -> None:
    for path in (PACKAGE / "algorithms").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base) for base in node.bases}
                assert not bases & {"nn.Module", "Module", "Mixer"}, f"{path}: {node.name}"


def test_no_environment_is_named_in_the_library() -> None:
    for path in FILES:
        text = path.read_text().lower()
        for name in ("hopper", "halfcheetah", "walker2d", "antmaze", "kitchen"):
            assert name not in text.replace("mujoco/hopper/medium-v0", ""), f"{path} names {name}"


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, decision_policies; print(*sorted(sys.modules))"
    modules = set(run(code).split())
    assert not modules & {"torch", "numpy", "gymnasium", "stable_baselines3", "minari", "h5py"}


def test_acting_from_a_folder_needs_four_packages_only(tmp_path: Path) -> None:
    from tests.laws.cases import dema, trajectories

    dema().learn(trajectories(), 1).save(tmp_path / "saved")
    code = """
import sys
for name in ("stable_baselines3", "minari", "h5py", "huggingface_hub", "transformers", "yaml",
             "matplotlib", "pandas", "tqdm", "rich", "tensorboard"):
    sys.modules[name] = None  # importing it raises
import numpy as np
from decision_policies import DeMa
policy = DeMa.load(sys.argv[1], device="cpu").policy
for mode in ("window", "recurrent", "staggered"):
    fork = policy.fork(inference=mode)
    print(fork.predict(np.zeros(3))[0].shape)
"""
    assert run(code, str(tmp_path / "saved")).split("\n")[:3] == ["(2,)"] * 3


def test_no_system_needs_torchs_compiler_to_compare_its_weights() -> None:
    code = """
import sys
import torch
from decision_policies.laws.cases import SPACES, Case
from tests.laws.systems import SYSTEMS
for name, (system, changes) in SYSTEMS.items():
    for kind in SPACES:
        case = Case(system, kind, changes)
        spec = case.make().make_policy(*case.spaces).model.spec
        with torch.device("meta"):
            case.make().build_model(spec)
        slow = [m for m in ("torch._dynamo", "sympy") if m in sys.modules]
        assert not slow, f"{name} of {kind} imports {slow} on the meta device: a second each load"
print("quick")
"""
    assert run(code) == "quick\n"
