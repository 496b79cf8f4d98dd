"""Two processes train as one does: the same curve, the same weights, resumed or not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from decision_policies import DMM
from decision_policies.laws.cases import SMALL, trajectories
from decision_policies.learning import processes

pytest.importorskip("accelerate", reason="the extra [distributed] is not installed")

SETTINGS = {**SMALL, "batch_size": 7}
UPDATES = 4

WORKER = """
import json, sys
from pathlib import Path
from decision_policies import DMM
from tests.test_processes import SETTINGS, UPDATES, curve
from decision_policies.laws.cases import trajectories
from decision_policies.learning import processes

folder, data = Path(sys.argv[1]), trajectories()
straight = curve(DMM(**SETTINGS), data, UPDATES)
half = DMM(**SETTINGS)
resumed = curve(half, data, UPDATES // 2)
name = folder / f"half-{processes.rank()}"
half.save(name)
resumed += curve(DMM.load(name), data, UPDATES - UPDATES // 2, reset_num_timesteps=False)
assert processes.count() == 2
whole = DMM(**SETTINGS)
stopped = curve(whole, data, UPDATES, stop_at=2 if processes.rank() else None)
try:
    DMM(**{**SETTINGS, "seed": None}).learn(data, 1)
    error = ""
except ValueError as found:
    error = str(found)
found = {"straight": straight, "resumed": resumed, "stopped": stopped, "error": error}
(folder / f"{processes.rank()}.json").write_text(json.dumps(found))
"""


def curve(
    algorithm: DMM, data: Any, updates: int, stop_at: int | None = None, **more: Any
) -> list[float]:
    """Learn, and give the loss of each update."""
    losses: list[float] = []

    def note(found: dict[str, Any], _: dict[str, Any]) -> bool:
        losses.append(float(found["losses"]["loss"]))
        return len(losses) != stop_at

    algorithm.learn(data, updates, callback=note, **more)
    return losses


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    root = Path(__file__).parents[1]
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)],
            env={**os.environ, **shared, "RANK": str(i), "LOCAL_RANK": str(i)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    for worker in workers:
        _, said = worker.communicate(timeout=120)
        assert worker.returncode == 0, said
    alone = curve(DMM(**SETTINGS), trajectories(), UPDATES)
    for i in range(2):
        found = json.loads((tmp_path / f"{i}.json").read_text())
        assert found["straight"] == pytest.approx(alone, rel=1e-5)
        assert found["resumed"] == pytest.approx(alone, rel=1e-5)
        assert len(found["stopped"]) == 2
        assert "give seed=" in found["error"]


@pytest.mark.parametrize(
    ("batch", "carries", "why"), [(64, True, "one process's"), (1, False, "no window for each")]
)
def test_what_cannot_be_shared_out_is_refused(
    batch: int, carries: bool, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(ValueError, match=why):
        processes.check(batch, 0, carries)


def test_a_launch_without_accelerate_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"decision-policies\[distributed\]"):
        processes.join(on_cpu=True)


def test_one_process_alone_is_left_as_it_is() -> None:
    x = torch.ones(3)
    processes.join(on_cpu=True)
    processes.add_up([x])
    assert processes.any_of((True, False), x.device) == (True, False)
    assert torch.equal(x, torch.ones(3)) and processes.rank() == 0
