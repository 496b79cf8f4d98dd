"""`python -m zoo enjoy` acts in a window, in a video, or says why it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import decision_policies
from decision_policies import AD, evaluate_policy
from decision_policies.envs import Darkroom, DarkroomEnv
from zoo.acting import rendered
from zoo.experiments import Experiment

from .logs_support import trained, zoo


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    trained(folder)
    return folder


@pytest.fixture(autouse=True)
def _no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)


def test_it_plays_the_episodes_that_evaluate_policy_plays(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "enjoy --algo dema --env CartPole-v1 --episodes 2 --seed 4 --no-render"
    assert zoo(f"{line} --target-return 90 -f", logs) == 0
    lines = capsys.readouterr().out.splitlines()
    last = Experiment(logs / "dema" / "CartPole-v1_1").last
    again = evaluate_policy(
        decision_policies.load(last), "CartPole-v1", 2, target_return=90, seed=4
    )
    assert lines == [
        *(f"return {r:.1f} in {r:.0f} steps, asked for 90" for r in again.returns),
        f"mean return {again.mean:.1f} over 2 episodes",
    ]


def test_it_stops_after_so_many_steps(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo("enjoy --algo dema --n-timesteps 5 --no-render -f", logs) == 0
    assert capsys.readouterr().out == "return 5.0 in 5 steps, asked for 500; it was not over\n"


def test_without_a_display_it_says_what_to_do(
    logs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert zoo("enjoy --algo dema -f", logs) == 2
    said = capsys.readouterr().err
    assert "no display" in said and "--record FILE.mp4" in said and "--no-render" in said


def test_it_acts_in_a_window(
    logs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # a window that nobody sees
    assert zoo("enjoy --algo dema -n 4 -f", logs) == 0
    assert "return 4.0 in 4 steps" in capsys.readouterr().out


def test_it_records_rather_than_opens_a_window(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "seen.gif"
    assert zoo(f"enjoy --algo dema -n 6 --record {path} -f", logs) == 0
    assert path.read_bytes().startswith(b"GIF89a")
    assert f"written: {path}" in capsys.readouterr().out


def test_an_environment_that_cannot_be_shown_so_says_what_it_renders() -> None:
    with pytest.raises(ValueError, match="cannot be rendered as ansi; it renders human, rgb_array"):
        rendered(lambda: gym.make("CartPole-v1"), "ansi")


def test_a_policy_that_remembers_over_episodes_stays_at_its_first_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = Darkroom([0], size=9)
    system = AD(d_model=8, n_heads=2, n_layers=1, context_length=4, seed=0)
    system.make_policy(rooms.observation_space, rooms.action_space)
    system.save(tmp_path / "ad")
    seeds, reset = [], DarkroomEnv.reset

    def noted(env: Any, *, seed: int | None = None, options: Any = None) -> Any:
        seeds.append(seed)
        return reset(env, seed=seed, options=options)

    monkeypatch.setattr(DarkroomEnv, "reset", noted)
    line = f"enjoy --env Darkroom-v0 --episodes 3 --seed 4 --no-render {tmp_path / 'ad'}"
    assert zoo(line) == 0
    assert seeds == [4, None, None]
    assert capsys.readouterr().out.count(" in 20 steps") == 3
