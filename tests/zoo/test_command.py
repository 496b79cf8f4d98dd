"""The command `decision-policies` works from anywhere, and a wheel holds all that it needs."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from zoo.__main__ import VERBS

from .logs_support import SMALL, zoo

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
    library, verbs = packages_in("decision_policies"), packages_in("zoo")
    assert sorted(packages) == sorted([*library, *(f"decision_policies.{name}" for name in verbs)])
    lines = settings()["options"]["package_dir"].strip().splitlines()
    places = dict(line.split(" = ") for line in lines)
    assert places == {f"decision_policies.{name}": name.replace(".", "/") for name in verbs}


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


def installed(site: Path) -> Path:
    """Lay the package out as a wheel does, with the zoo inside."""
    package = site / "decision_policies"
    package.mkdir(parents=True)
    for path in (ROOT / "decision_policies").iterdir():
        (package / path.name).symlink_to(path)
    leave = shutil.ignore_patterns("__pycache__", "results", "RESULTS.md")
    shutil.copytree(ROOT / "zoo", package / "zoo", ignore=leave)
    return package / "zoo"


def test_installed_benchmark_writes_where_it_is_run_from(tmp_path: Path) -> None:
    inside = installed(tmp_path / "site")
    before = sorted(inside.rglob("*"))
    code = "import sys; from decision_policies.command import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", code, "benchmark", "--table"]
    path = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        command,
        cwd=tmp_path / "work",
        env={**path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "written: RESULTS.md\n" in done.stdout
    assert (tmp_path / "work" / "RESULTS.md").is_file()
    assert sorted(inside.rglob("*")) == before


def readme_commands() -> list[str]:
    """The commands of README's section on the zoo, in their order, without `python -m zoo`."""
    section = (ROOT / "README.md").read_text().split("## The zoo\n")[1].split("\n## ")[0]
    return re.findall(r"^python -m zoo (.*)$", section, re.MULTILINE)


PATIENCE = {
    "train": f"--n-timesteps 4 --eval-freq 2 --eval-episodes 2 --hyperparams {SMALL}",
    "evaluate": "--episodes 2",
    "push": "--episodes 2 --no-video",
}
"""What is added to a command so that it takes a moment only."""


def test_the_readmes_session_from_training_to_sharing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = readme_commands()
    verbs = [command.split()[0] for command in commands]
    assert verbs == ["train", "evaluate", "enjoy", "record", "plot-train", "push", "pull", "enjoy"]
    for verb, command in zip(verbs, commands, strict=True):
        assert zoo(f"{command} {PATIENCE.get(verb, '')}") == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "written: cartpole.mp4" in said.out and "written: plots/dema-CartPole-v1.png" in said.out
    assert "zoo" not in said.err
    assert {path.name for path in tmp_path.iterdir()} == {
        "logs",
        "plots",
        "cartpole.mp4",
        "hub-folder",
        "pulled",
    }


@pytest.mark.parametrize("verb", VERBS)
def test_examples_of_every_help_fit_a_terminal(verb: str) -> None:
    text = import_module(f"zoo.{verb.replace('-', '_')}").EXAMPLES
    assert max(map(len, text.splitlines())) <= 100
