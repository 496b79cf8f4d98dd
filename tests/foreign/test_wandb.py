"""W&B's own callback for Stable-Baselines3, unmodified, on an algorithm of ours; offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from decision_policies import DeMa

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "coming_from_sb3.md"


def logged(journal: bytes, name: str) -> list[float]:
    """The values of a name in the file of an offline run, in order; each is in it twice."""
    pattern = re.escape(name.encode()) + rb"\x82\x01(.)([-+.\deE]+)"
    found = re.findall(pattern, journal, re.DOTALL)
    return [float(text[: size[0]]) for size, text in found][::2]


@pytest.mark.skipif(find_spec("wandb") is None, reason="W&B has its own environment: make foreign")
def test_the_snippet_of_the_page_sends_hyper_parameters_losses_and_the_policy(
    tmp_path: Path,
) -> None:
    (code,) = re.findall(r"```\n(import wandb\n.*?)```", PAGE.read_text(), re.DOTALL)
    quick = code.replace("2000", "6, log_interval=2").replace("d_model=64", "d_model=8")
    assert quick.count("log_interval") == quick.count("d_model=8") == 1
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }
    command = [sys.executable, "-c", quick]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr

    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    journal = path.read_bytes()
    board = EventAccumulator(str(tmp_path / "board" / "DeMa_1")).Reload()
    for name in ("train/loss", "train/grad_norm", "train/learning_rate"):
        values = [event.value for event in board.Scalars(name)]
        assert logged(journal, name) == pytest.approx(values) and len(values) == 3
    assert b"\x07d_model\x82\x01\x018" in journal
    (zipped,) = tmp_path.glob("models/model.zip")
    assert DeMa.load(zipped).num_timesteps == 6
