"""Peers: what the script is handed, how its answer becomes a row, and how it plays episodes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from decision_policies import Trajectories
from zoo import peers, peers_run
from zoo.benchmark import Benchmark
from zoo.benchmark_rows import read_rows
from zoo.tables import Tables

from .benchmark_support import SET, jobs, write_tables

PEER = "label: d3rlpy-DT\nclass: d3rlpy.DT\ndefault: {width: 8, context_size: 4}\n"
FAKE = """
import json, sys
from pathlib import Path
import numpy as np

folder = Path(sys.argv[-1])
plan = json.loads((folder / "plan.json").read_text())
data = np.load(folder / "data.npz", allow_pickle=False)
print("a library says hello")
print(json.dumps({"updates": 3, "doing": "training"}), flush=True)
if plan["seed"] == 1:
    sys.exit("the peer broke")
evaluations = [
    {"updates": step, "target": target, "returns": [float(step), float(target)]}
    for step in plan["checkpoints"]
    for target in plan["targets"]
]
ends = int(data["terminals"].sum() + data["timeouts"].sum())
answer = {
    "parameters": len(data["actions"]),
    "wall_seconds": 2.04,
    "cpu_seconds": 1.0,
    "evaluation_seconds": float(ends),
    "evaluations": evaluations,
    "versions": {"d3rlpy": "0.0"},
}
(folder / "result.json").write_text(json.dumps(answer))
"""


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return write_tables(tmp_path / "tables", peer=PEER)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake.py").write_text(FAKE)
    command = [sys.executable, "-P", str(tmp_path / "fake.py")]
    monkeypatch.setattr(peers_run, "interpreter", lambda: command)


def peer_jobs(tables: Tables, *words: str) -> Any:
    return jobs(tables, "--algorithms", "d3rlpy-DT", *words)


@pytest.mark.usefixtures("fake")
def test_answer_of_the_script_becomes_a_row(tables: Tables, tmp_path: Path) -> None:
    work = Benchmark(tmp_path / "rows.jsonl", tmp_path / "runs")
    work.perform(peer_jobs(tables, "--seeds", "0"), quiet=True)
    [made] = read_rows(work.output).values()
    data = Trajectories.from_minari(SET)
    assert made["parameters"] == data.n_steps
    assert made["evaluation_seconds"] == data.n_episodes
    assert (made["wall_seconds"], made["mode"]) == (2.0, "own")
    assert (made["versions"], made["data"]) == ({"d3rlpy": "0.0"}, data.source.digest)
    points = [(e["updates"], e["target"], e["returns"]) for e in made["evaluations"]]
    assert points == [(s, t, [s, t]) for s in (2, 4, 5) for t in (20, 10)]
    low, high = made["reference_scores"] or [0.0, 0.0]
    first = made["evaluations"][0]
    assert first["mean"] == 11.0
    assert first["normalised"] == pytest.approx(100 * (11.0 - low) / (high - low), abs=0.01)
    assert not (tmp_path / "runs" / "d3rlpy-DT" / "cartpole-mixed-v0-0").exists()


@pytest.mark.usefixtures("fake")
def test_failure_of_the_script_is_told_in_its_words(tables: Tables, tmp_path: Path) -> None:
    work = Benchmark(tmp_path / "rows.jsonl", tmp_path / "runs")
    [told] = work.perform(peer_jobs(tables, "--seeds", "1"), quiet=True)
    assert "the peer's script failed: the peer broke (all of it: " in told
    assert not work.output.exists()


@pytest.mark.usefixtures("fake")
def test_ctrl_c_ends_the_script_and_writes_no_row(tables: Tables, tmp_path: Path) -> None:
    def interrupt(updates: int, doing: str) -> None:
        assert (updates, doing) == (3, "training")
        raise KeyboardInterrupt

    [job] = peer_jobs(tables, "--seeds", "0")
    run = peers_run.PeerRun(job.recipe, 0, tmp_path / "run", tick=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.finish()
    assert not run.discarded


def test_an_environment_that_cannot_be_made_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = gym.spec("CartPole-v1").to_json().replace("cartpole:", "no_such_module:")
    (tmp_path / "plan.json").write_text(json.dumps({"environment": spec}))
    np.savez(tmp_path / "data.npz", actions=np.zeros(1))
    monkeypatch.setattr(peers, "train", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        peers.main(tmp_path)


def test_absent_interpreter_names_the_cure(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_run, "ROOT", tmp_path)
    [job] = peer_jobs(tables, "--seeds", "0")
    with pytest.raises(ValueError, match="run `make peers` first"):
        peers_run.PeerRun(job.recipe, 0, tmp_path / "run").finish()


def test_arrays_are_the_data_that_our_systems_see() -> None:
    data = Trajectories.from_minari(SET)
    handed = peers_run.arrays(data, SET)
    np.testing.assert_array_equal(handed["observations"], data.observations)
    np.testing.assert_array_equal(handed["actions"][:, 0], data.actions)
    np.testing.assert_array_equal(handed["rewards"], data.rewards)
    ends = np.flatnonzero(handed["terminals"] | handed["timeouts"])
    np.testing.assert_array_equal(ends, data.offsets[1:] - 1)
    assert not (handed["terminals"] & handed["timeouts"]).any()
    # CartPole's episodes of 500 steps are cut off; shorter ones end because the pole fell.
    np.testing.assert_array_equal(handed["timeouts"][ends], data.lengths == 500)


class Constant:
    """Stands in for d3rlpy: pushes to one side, and notes what it was asked."""

    def __init__(self) -> None:
        self.rewards: list[float] = []
        self.targets: list[tuple[float, Any]] = []

    def predict(self, observations: Any, reward: float | None = None) -> Any:
        if reward is not None:
            assert observations.shape == (4,)
            self.rewards.append(reward)
            return 1
        assert observations.shape == (1, 4)
        return np.array([1])

    def as_stateful_wrapper(self, target: float, sampler: Any) -> Constant:
        self.targets.append((target, sampler))
        return self


def plan(**changes: Any) -> dict[str, Any]:
    spec = gym.make("CartPole-v1").spec
    assert spec is not None
    values = {"environment": spec.to_json(), "episodes": 3, "first_seed": 900_000}
    return {**values, "deterministic": False, "action_low": None, "action_start": 0, **changes}


def test_script_plays_the_episodes_that_ours_are_evaluated_on() -> None:
    expected = []
    env = gym.make("CartPole-v1")
    for seed in range(900_000, 900_003):
        env.reset(seed=seed)
        steps, over = 0, False
        while not over:
            _, _, terminated, truncated, _ = env.step(1)
            steps, over = steps + 1, terminated or truncated
        expected.append(float(steps))
    env.close()
    asked = Constant()
    assert peers.play(asked, plan(), 77.0) == expected
    assert asked.targets == [(77.0, None)] * 3
    assert asked.rewards.count(0.0) == 3  # a first step has no reward yet
    assert sum(asked.rewards) == sum(expected) - 3  # and a last one goes unreported
    assert peers.play(Constant(), plan(deterministic=True), None) == expected


def test_plan_is_plain_json_with_the_environment_in_it(tables: Tables, tmp_path: Path) -> None:
    [job] = peer_jobs(tables, "--seeds", "0")
    failing = [sys.executable, "-c", "raise SystemExit(1)"]
    run = peers_run.PeerRun(job.recipe, 0, tmp_path / "run", command=failing)
    with pytest.raises(RuntimeError, match="script failed: no message"):
        run.finish()
    handed = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert handed["hyperparameters"] == {"width": 8, "context_size": 4}
    assert (handed["action_size"], handed["action_low"]) == (2, None)
    assert gym.envs.registration.EnvSpec.from_json(handed["environment"]).id == "CartPole-v1"
