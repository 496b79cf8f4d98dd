"""Each example runs as a stranger would run it, with warnings as errors, and does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def run(name: str, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    environment.pop("PYTHONPATH", None)  # whoever has installed the package has set none
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def test_quickstart_prints_a_table_and_draws_a_picture(tmp_path: Path) -> None:
    printed = run("01_quickstart.py", tmp_path, "--updates", "20")
    rows = re.findall(r"^ +(\d+) +(\d+\.\d) ± +(\d+\.\d) +(\d+)$", printed, re.MULTILINE)
    assert [int(asked) for asked, *_ in rows] == [50, 100, 150, 200, 250, 300, 400, 500]
    assert all(8 <= float(mean) <= 500 for _, mean, _, _ in rows)
    assert {int(episodes) for *_, episodes in rows} == {50}
    picture = Path("runs/quickstart/quickstart.png")
    assert printed.splitlines()[-1] == f"picture: {picture}"
    image = imread(tmp_path / picture)
    assert image.shape == (720, 1500, 4)
    left, right = image[:, :750, :3], image[:, 750:, :3]
    for half in (left, right):  # white paper with something on it
        assert 0.005 < np.mean(half.min(-1) < 0.9) < 0.5


def test_your_data_follows_what_is_asked_beyond_the_best_logged_return(tmp_path: Path) -> None:
    printed = run("03_your_data.py", tmp_path)
    best = int(re.findall(r"(\d+) at best", printed)[0])
    pairs = re.findall(r"asked for (\d+), obtained (\d+) on average", printed)
    assert [int(asked) for asked, _ in pairs] == [20, 60, 100]
    assert int(pairs[-1][1]) > best
    for asked, obtained in pairs:
        assert abs(int(obtained) - int(asked)) < 15


def test_goals_are_reached_wherever_they_are(tmp_path: Path) -> None:
    printed = run("07_goals.py", tmp_path)
    pairs = re.findall(r"^(script|policy): (\d+)% .* (\d+) steps$", printed, re.MULTILINE)
    assert [name for name, *_ in pairs] == ["script", "policy"]
    assert int(pairs[1][1]) >= 90  # an untrained policy reaches 2 % of them


def test_in_context_learning_is_evaluated_and_drawn(tmp_path: Path) -> None:
    printed = run("09_in_context.py", tmp_path, "--updates", "10", "--repeats", "1")
    pattern = r"(\d+\.\d+) in the first episode, .* of optimal \(16 tasks x 20 episodes\)"
    assert re.search(pattern, printed), printed
    assert (tmp_path / "runs/in-context/dm-h/model.safetensors").exists()
    assert imread(tmp_path / "runs/in-context/in-context.png").shape[2] == 4


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60
