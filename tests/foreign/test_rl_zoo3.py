"""rl_zoo3's own scripts, unmodified, on what `python -m zoo train` leaves."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from decision_policies import evaluate_policy, load, register_with_rl_zoo3
from decision_policies.errors import CheckpointError
from decision_policies.registration import Entry
from tests.zoo.logs_support import SET, SMALL, trained, zoo

ROOT = Path(__file__).parent.parent.parent
needs_rl_zoo3 = pytest.mark.skipif(
    find_spec("rl_zoo3") is None, reason="rl_zoo3 has its own environment: make foreign"
)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainings: one asks for the return still to go, the other for the whole one."""
    folder = tmp_path_factory.mktemp("rl_zoo3") / "logs"
    trained(folder, "--save-freq 4")
    line = f"train --algo dt --dataset {SET} -n 4 --eval-freq 4 --eval-episodes 1 --quiet"
    assert zoo(f"{line} --hyperparams {SMALL} return_mode=constant -f", folder) == 0
    return folder


def run(command: list[str], folder: Path) -> tuple[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SDL_VIDEODRIVER": "dummy"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def scripts(logs: Path, lines: list[str]) -> list[tuple[str, str]]:
    """Run scripts of rl_zoo3, after the one line that makes us known to it.

    Returns:
        What each has printed, and its warnings.
    """
    program = """
import runpy, sys
from decision_policies import register_with_rl_zoo3
register_with_rl_zoo3()
for line in sys.argv[1:]:
    name, *sys.argv[1:] = line.split()
    runpy.run_module(f"rl_zoo3.{name}", run_name="__main__", alter_sys=True)
    for stream in (sys.stdout, sys.stderr):
        print("DONE", file=stream, flush=True)
"""
    words = [f"{line} --env CartPole-v1 -f {logs}" for line in lines]
    printed = run([sys.executable, "-c", program, *words], logs.parent)
    said, warned = (text.split("DONE\n")[:-1] for text in printed)
    return list(zip(said, warned, strict=True))


@needs_rl_zoo3
def test_the_command_of_the_page_plays(logs: Path) -> None:
    page = (ROOT / "docs" / "coming_from_sb3.md").read_text().replace("\\\n", "")
    (line,) = re.findall(r'^python (-c ".*)$', page, re.MULTILINE)
    said, warned = run([sys.executable, *shlex.split(line), "-n", "400"], logs.parent)
    assert re.search(r"^Mean reward: [\d.]+ \+/- [\d.]+$", said, re.MULTILINE)
    assert warned.count("no reward was reported since the last action") == 1


@needs_rl_zoo3
def test_enjoy_and_record_video_run_as_they_are_on_a_training_of_ours(logs: Path) -> None:
    lines = [
        "enjoy --algo dema --no-render -n 400 --load-best",
        "enjoy --algo dema --no-render -n 400 --load-checkpoint 4 --n-envs 2 --device cpu",
        "enjoy --algo dt --no-render -n 300 --seed 3",
        "record_video --algo dt -n 20 --stochastic",
    ]
    ran = scripts(logs, lines)
    assert re.search(r"^Mean reward: [\d.]+ \+/- [\d.]+$", ran[0][0], re.MULTILINE)

    said, warned = ran[2]
    assert "no reward was reported" not in warned
    first = float(re.findall(r"^Episode Reward: ([\d.]+)$", said, re.MULTILINE)[0])
    folder = logs / "dt" / "CartPole-v1_1"
    assert evaluate_policy(load(folder / "CartPole-v1"), "CartPole-v1", 1, seed=3).mean == first

    (video,) = (folder / "videos").glob("final-model-dt-*.mp4")
    assert video.stat().st_size > 1000


def test_an_entry_loads_what_rl_zoo3_asks_for_and_samples_by_its_seed(logs: Path) -> None:
    path = logs / "dema" / "CartPole-v1_1" / "CartPole-v1.zip"
    entry = Entry(type(load(path)))
    assert entry.__name__ == "DeMa"

    def actions(seed: int) -> list[int]:
        model = entry.load(path, custom_objects={"clip_range": 0.0}, device="cpu", seed=seed)
        taken = []
        for _ in range(20):
            action, _ = model.predict([0.0, 0.0, 0.0, 0.0], deterministic=False)
            model.observe(1.0)
            taken.append(int(action))
        return taken

    assert actions(1) == actions(1) != actions(2)
    with pytest.raises(CheckpointError, match="holds a 'DT' policy, not a DeMa"):
        entry.load(logs / "dt" / "CartPole-v1_1" / "CartPole-v1.zip")


def test_without_rl_zoo3_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [x for x in sys.modules if x.partition(".")[0] == "rl_zoo3"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    with pytest.raises(ImportError, match=r"pip install 'decision-policies\[rl-zoo3\]'"):
        register_with_rl_zoo3()
