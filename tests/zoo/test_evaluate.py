"""`python -m zoo evaluate` sets what was obtained against what was asked, on stated seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import pytest

import decision_policies
from decision_policies import AD, BC, DeMa, evaluate_policy
from decision_policies.envs import Darkroom
from tests.fixtures import tiny_algorithm, tiny_trajectories
from zoo.experiments import Experiment

from .logs_support import SET, trained, zoo


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    trained(folder, "--save-freq 3")
    return folder


@pytest.fixture(scope="module")
def experiment(logs: Path) -> Experiment:
    return Experiment(logs / "dema" / "CartPole-v1_1")


def test_each_return_is_asked_for_on_the_same_fresh_episodes(
    logs: Path, experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "evaluate --algo dema --env CartPole-v1 --episodes 3 --target-return 500 50"
    path = tmp_path / "evaluation.json"
    assert zoo(f"{line} --inference recurrent --output {path} -f", logs) == 0
    policy = decision_policies.load(experiment.last).policy
    assert policy is not None
    written = json.loads(path.read_text())
    printed = capsys.readouterr().out
    assert "3 episodes, seeds 900000 to 900002, recurrent, likeliest actions" in printed
    for row, target in zip(written["evaluations"], (500, 50), strict=True):
        again = evaluate_policy(
            policy.fork(inference="recurrent"),
            "CartPole-v1",
            3,
            target_return=target,
            seed=900_000,
        )
        assert row["target"] == target
        assert row["returns"] == again.returns.tolist()
        assert row["lengths"] == again.lengths.tolist()
        assert f"{again.mean:.1f} ± {again.std:.1f}" in printed
    assert written["dataset"] == SET and written["first_seed"] == 900_000


@pytest.mark.parametrize("which", ["CartPole-v1", "best_model", "rl_model_3_steps", "."])
def test_a_policy_is_named_by_its_folder_too(
    experiment: Experiment, which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zoo("evaluate --episodes 1 --seed 5", experiment.folder / which) == 0
    printed = capsys.readouterr().out
    assert "in CartPole-v1: 1 episodes, seeds 5 to 5" in printed
    assert "\n  500  " in printed


def test_a_policy_without_experiment_acts_in_the_environment_of_its_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DeMa(d_model=8, n_layers=1, target_return=70.0, seed=0).learn(SET, 1).save(tmp_path / "alone")
    assert zoo("evaluate --episodes 1 --stochastic", tmp_path / "alone") == 0
    printed = capsys.readouterr().out
    assert "in CartPole-v1:" in printed and "sampled actions" in printed
    assert "\n   70  " in printed


def test_another_environment_must_have_the_same_spaces(
    experiment: Experiment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(gym.spec("CartPole-v1"), id="CartPoleShort-v1", max_episode_steps=4)
    monkeypatch.setitem(gym.registry, "CartPoleShort-v1", short)
    assert zoo("evaluate --env CartPoleShort-v1 --episodes 2", experiment.folder) == 0
    printed = capsys.readouterr().out
    assert "in CartPoleShort-v1:" in printed and "4.0 ± 0.0" in printed
    assert zoo("evaluate --env MountainCar-v0 --episodes 1", experiment.folder) == 2
    assert "observation" in capsys.readouterr().err


def test_a_system_that_asks_for_nothing_is_not_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BC(d_model=8, n_layers=1, seed=0).learn(SET, 1).save(tmp_path / "bc")
    assert zoo("evaluate --episodes 1", tmp_path / "bc") == 0
    assert "\n    -  " in capsys.readouterr().out
    assert zoo("evaluate --episodes 1 --target-return 3 --env CartPole-v1 -f x", tmp_path) == 2
    capsys.readouterr()
    assert zoo(f"evaluate {tmp_path / 'bc'} --episodes 1 --target-return 3") == 2
    assert "BC asks for no return" in capsys.readouterr().err


def test_a_system_that_learns_in_context_is_sent_to_its_own_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rooms = Darkroom([0], size=3)
    system = AD(d_model=8, n_heads=2, n_layers=1, seed=0)
    system.make_policy(rooms.observation_space, rooms.action_space)
    system.save(tmp_path / "ad")
    assert zoo("evaluate --env Darkroom-v0", tmp_path / "ad") == 2
    assert f"in-context {tmp_path / 'ad'}` shows" in capsys.readouterr().err


def test_a_policy_of_unknown_origin_needs_an_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_algorithm().learn(tiny_trajectories(discrete=False), 1).save(tmp_path / "unknown")
    assert zoo("evaluate", tmp_path / "unknown") == 2
    assert "names no environment to act in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "name a saved policy, or an experiment by --algo and --env"),
        ("nowhere", "nowhere"),
        ("--algo demo", "no experiment of 'demo' in {logs}; did you mean 'dema'?"),
        (
            "--algo dema --env CartPole-v2",
            "no experiment of 'CartPole-v2' in {lo",
        ),
        ("--algo dema --env CartPole-v1 --exp-id 4", "no experiment 4 of dema in CartPole-v1; {lo"),
        ("--algo dema --load-checkpoint 4", "keeps no policy after 4 updates; it keeps 3, 6"),
        ("{logs}/dema/CartPole-v1_1/best_model --load-best", "are for experiments"),
    ],
)
def test_what_is_not_there_is_one_clear_line(
    logs: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    words = line.replace("{logs}", str(logs))
    assert zoo(f"evaluate {words} -f", logs) == 2
    said = capsys.readouterr().err
    assert message.split("{lo")[0] in said and said.count("\n") == 1
