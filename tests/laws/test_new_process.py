"""What one process saves, another loads, and acts bit-equal; the class is found by its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

import decision_policies
from decision_policies import DeMa
from decision_policies.laws import MODES, SPACES, Case
from tests.laws.cases import dema, trajectories
from tests.laws.systems import systems_of

ACT = """
import sys, numpy as np, torch
from pathlib import Path
torch.set_num_threads(1)
import decision_policies
for kind in Path(sys.argv[1]).iterdir():
    data, actions = np.load(kind / "observations.npy"), {}
    for folder in (path for path in kind.iterdir() if path.is_dir()):
        policy = decision_policies.load(folder, device="cpu").policy
        for mode in ("window", "recurrent", "staggered"):
            fork = policy.fork(inference=mode)
            actions[f"{folder.name} {mode}"] = [
                fork.predict(o, reward=None if t == 0 else 0.5)[0] for t, o in enumerate(data)
            ]
    np.savez(kind / "actions.npz", **actions)
"""


def test_a_new_process_loads_and_acts_bit_equal(tmp_path: Path) -> None:
    here = {}
    for kind in SPACES:
        observations, _ = Case(DeMa, kind).sample(15)
        (tmp_path / kind).mkdir()
        np.save(tmp_path / kind / "observations.npy", observations)
        for name, (algorithm, options) in systems_of(kind).items():
            case = Case(algorithm, kind, options)
            learnt = case.make().learn(case.data(), 5)
            learnt.save(tmp_path / kind / name)
            assert learnt.policy is not None
            for mode in MODES:
                fork = learnt.policy.fork(inference=mode)
                here[kind, f"{name} {mode}"] = [
                    fork.predict(observation, reward=None if t == 0 else 0.5)[0]
                    for t, observation in enumerate(observations)
                ]
    command = [sys.executable, "-W", "error", "-c", ACT, str(tmp_path)]
    subprocess.run(command, check=True, timeout=600)
    for kind in SPACES:
        with np.load(tmp_path / kind / "actions.npz") as there:
            assert set(there) == {name for where, name in here if where == kind}
            for name, actions in there.items():
                np.testing.assert_array_equal(actions, np.array(here[kind, name]), f"{kind} {name}")


def test_load_finds_the_class_by_itself(tmp_path: Path) -> None:
    dema().learn(trajectories(), 1).save(tmp_path / "saved")
    assert type(decision_policies.load(tmp_path / "saved")) is DeMa
