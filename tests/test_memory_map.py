"""Data larger than memory: packed a piece at a time, and learnt from where they lie on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LEARN = """
import json, resource, sys
from pathlib import Path
import numpy as np
from gymnasium import spaces
from decision_policies import DeMa
from decision_policies.data import cache
from decision_policies.data.source import Source

EPISODES, STEPS, WIDTH = 3000, 500, 52
OBSERVATIONS = spaces.Box(-np.inf, np.inf, (WIDTH,), np.float32)
ACTIONS = spaces.Box(-1, 1, (3,), np.float32)
drawn = np.random.default_rng(0).normal(size=(STEPS, WIDTH + 6)).astype(np.float32)
drawn[:, -6:-3] = np.tanh(drawn[:, -6:-3])

def pieces(count=EPISODES):
    for number in range(count):
        drawn[:, -3] = number / EPISODES
        drawn[:, -2] = drawn[::-1, -3].cumsum()[::-1]
        drawn[:, -1] = np.arange(STEPS)
        yield drawn, None, drawn[-1, :WIDTH]

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def learn(data):
    for setting in ({}, {"kind": "rnn"}, {"return_mode": "predict"}):
        small = DeMa(d_model=16, n_layers=1, context_length=8, batch_size=64, seed=0, **setting)
        small.learn(data, 3)

def kept(name, count):
    folder = Path(sys.argv[1]) / name
    assert cache.write(folder, pieces(count))
    return cache.read(folder, OBSERVATIONS, ACTIONS, Source(digest=name))

learn(kept("few", 2))  # whatever is imported late
before = status("RssAnon")
data = kept("many", EPISODES)
size, packed = data.rows.nbytes, status("RssAnon") - before
most = resource.getrlimit(resource.RLIMIT_DATA)[1]
resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + size // 8, most))
learn(data)
print(json.dumps({"size": size, "packed": packed, "grown": status("RssAnon") - before}))
"""
"""It learns under a limit: an eighth of the data is what it may take more than before."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_it_packs_and_learns_from_more_than_it_holds_in_memory(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", LEARN, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert not told.returncode, told.stderr
    said = json.loads(told.stdout)
    assert said["size"] > 300 << 20
    assert said["packed"] < said["size"] / 20
    assert said["grown"] < said["size"] / 8
