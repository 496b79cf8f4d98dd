"""The environment that a dataset records: made with all of its options, and only when asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from decision_policies import DeMa, evaluate_policy
from decision_policies.data import recover_environment
from decision_policies.errors import DatasetError
from tests.fixtures import forge, tiny_algorithm, write_minari
from tests.goals import Goal, scripted

WIDE = EnvSpec("Goal-v0", "tests.goals:Goal", max_episode_steps=5, kwargs={"near": 0.7})


def write(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path, **metadata: object) -> str:
    """Write a dataset of the goal environment, with these entries added to its metadata."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    env = Goal()
    logged: list[dict[str, Any]] = [
        {
            "observations": {
                key: np.array([one[key] for one in episode["observations"]])
                for key in ("observation", "achieved_goal", "desired_goal")
            },
            "actions": np.array(episode["actions"]),
            "rewards": np.array(episode["rewards"]),
        }
        for episode in scripted(5)
    ]
    write_minari(
        name, logged, observation_space=env.observation_space, action_space=env.action_space
    )
    path = folder / name / "data" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **metadata}))
    return name


def test_it_has_the_recorded_options_and_needs_no_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = EnvSpec("Goal-v0", "tests.goals:Goal", kwargs={"near": 0.1})
    specs = {"env_spec": WIDE.to_json(), "eval_env_spec": narrow.to_json()}
    name = write("goal/wide-v0", monkeypatch, tmp_path, **specs)
    assert "Goal-v0" not in gym.registry
    make = recover_environment(name)
    env = make()
    assert isinstance(env.unwrapped, Goal)
    assert env.unwrapped.near == 0.7
    assert env.spec is not None and env.spec.max_episode_steps == 5
    other = recover_environment(tmp_path / "goal/wide-v0", evaluation=True)().unwrapped
    assert isinstance(other, Goal)
    assert other.near == 0.1

    algorithm = tiny_algorithm().learn(name, 1)
    assert algorithm.source.environment == "Goal-v0"
    for asynchronous in (False, True):
        result = evaluate_policy(algorithm, make, 3, n_envs=2, asynchronous=asynchronous)
        assert max(result.lengths) <= 5


def test_a_dataset_without_an_environment_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write("goal/none-v0", monkeypatch, tmp_path)
    with pytest.raises(DatasetError, match="'goal/none-v0' records no environment: make it"):
        recover_environment(name)


def test_a_missing_package_is_named_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EnvSpec("Goal-v0", "package_that_is_nowhere:Goal")
    name = write("goal/gone-v0", monkeypatch, tmp_path, env_spec=spec.to_json())
    with pytest.raises(DatasetError, match=r"'Goal-v0' of .*'goal/gone-v0' .*No module named"):
        recover_environment(name)()
    metadata = tmp_path / name / "data" / "metadata.json"
    needed = {"requirements": ["package-that-is-nowhere"]}
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), **needed}))
    with (
        pytest.warns(UserWarning, match="package-that-is-nowhere is not installed"),
        pytest.raises(DatasetError, match="; pip install package-that-is-nowhere"),
    ):
        recover_environment(name)()


def test_reading_data_learning_and_loading_import_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_by_mistake.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = EnvSpec("Goal-v0", "imported_by_mistake:Goal")
    name = write("goal/trap-v0", monkeypatch, tmp_path / "minari", env_spec=spec.to_json())
    tiny_algorithm().learn(name, 1).save(tmp_path / "saved")
    forge(tmp_path / "saved", {"source.environment": "imported_by_mistake:Goal-v0"})
    assert DeMa.load(tmp_path / "saved").source.environment == "imported_by_mistake:Goal-v0"
    assert "imported_by_mistake" not in sys.modules
    with pytest.raises(SystemExit, match="imported"):
        recover_environment(name)()
