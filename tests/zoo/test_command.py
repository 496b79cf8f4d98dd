"""The command `decision-policies` works from anywhere, and a wheel holds all that it needs."""

from __future__ import annotations

import configparser
import subprocess
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def settings() -> configparser.ConfigParser:
    """What setup.cfg says."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def packages_in(name: str) -> list[str]:
    """Names of a package and those in it."""
    folders = (path.parent for path in (ROOT / name).rglob("__init__.py"))
    return [str(folder.relative_to(ROOT)).replace("/", ".") for folder in folders]


def test_every_package_is_in_the_wheel_and_the_zoo_is_inside() -> None:
    packages = settings()["options"]["packages"].split()
    library, zoo = packages_in("decision_policies"), packages_in("zoo")
    assert sorted(packages) == sorted([*library, *(f"decision_policies.{name}" for name in zoo)])
    lines = settings()["options"]["package_dir"].strip().splitlines()
    places = dict(line.split(" = ") for line in lines)
    assert places == {f"decision_policies.{name}": name.replace(".", "/") for name in zoo}


def test_the_command_runs_the_zoo_from_another_folder(tmp_path: Path) -> None:
    target = settings()["options.entry_points"]["console_scripts"].strip()
    name, _, place = target.partition(" = ")
    module, _, function = place.partition(":")
    assert name == "decision-policies"
    assert callable(getattr(import_module(module), function))
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    command = [sys.executable, "-W", "error", "-c", code, "train", "--help"]
    path = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=tmp_path, env=path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: decision-policies train")
    assert "    decision-policies train --algo dema --dataset cartpole/mixed-v0\n" in done.stdout
