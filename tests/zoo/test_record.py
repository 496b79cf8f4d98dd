"""`python -m zoo record` writes videos that play, or says what is missing."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from imageio_ffmpeg import count_frames_and_secs
from PIL import Image

from zoo import video as module
from zoo.video import video

from .logs_support import trained, zoo


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    trained(folder)
    return folder


def steps_of(printed: str) -> int:
    return sum(int(line.split(" in ")[1].split()[0]) for line in printed.splitlines()[:-1])


def test_an_mp4_has_a_frame_for_each_reset_and_step(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "two.mp4"
    assert zoo(f"record --algo dema --env CartPole-v1 --episodes 2 -o {path} -f", logs) == 0
    frames, seconds = count_frames_and_secs(str(path))
    assert frames == steps_of(capsys.readouterr().out) + 2
    assert seconds == pytest.approx(frames / 50, abs=0.05)  # CartPole's own rate
    assert [p.name for p in path.parent.iterdir()] == ["two.mp4"]


def test_without_a_name_it_is_called_after_experiment_and_policy(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert zoo("record --load-best --algo dema -f", logs) == 0
    assert (tmp_path / "videos" / "dema-CartPole-v1_1-best_model.mp4").stat().st_size > 1000


def test_a_gif_keeps_at_most_25_frames_a_second(tmp_path: Path) -> None:
    path = tmp_path / "made.gif"
    with video(path, rate=50) as writer:
        for shade in range(0, 100, 10):
            writer.add(np.full((8, 6, 3), shade, np.uint8))
    with Image.open(path) as image:
        assert (image.size, getattr(image, "n_frames", 1)) == ((6, 8), 5)
        assert image.info["duration"] == 40


def test_odd_sizes_are_cut_to_even_ones_that_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    with video(path, rate=30) as writer:
        for _ in range(3):
            writer.add(np.zeros((33, 35, 3), np.uint8))
    assert count_frames_and_secs(str(path))[0] == 3


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_recording_that_fails_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"kept{suffix}"
    path.write_bytes(b"before")
    frames = [np.zeros((16, 16, 3), np.uint8), "no frame"]
    with pytest.raises((TypeError, AttributeError)), video(path, rate=10) as writer:
        list(map(writer.add, frames))  # type: ignore[arg-type]
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_package_is_named_before_anything_is_played(
    logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert zoo("record --algo dema -o x.mp4 -f", logs) == 2
    said = capsys.readouterr().err
    assert "imageio-ffmpeg, which is missing: pip install 'decision-policies[video]'; a na" in said
    assert zoo("record --algo dema -o x.gif -f", logs) == 2
    assert "Pillow, which is missing" in capsys.readouterr().err
    assert module.usual_suffix() == ".gif"


def test_an_environment_that_misses_a_package_says_which(
    logs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(env: gym.Env[int, int]) -> None:
        raise gym.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr("gymnasium.envs.classic_control.cartpole.CartPoleEnv.render", missing)
    assert zoo(f"record --algo dema -o {tmp_path / 'x.gif'} -f", logs) == 2
    assert "pygame is not installed (or pip install 'decision-policies[video]')" in (
        capsys.readouterr().err
    )


def test_a_machine_that_cannot_draw_is_one_clear_line(
    logs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(env: gym.Env[int, int]) -> None:
        raise RuntimeError("no OpenGL")

    monkeypatch.setattr("gymnasium.envs.classic_control.cartpole.CartPoleEnv.render", broken)
    assert zoo(f"record --algo dema -o {tmp_path / 'x.gif'} -f", logs) == 2
    said = capsys.readouterr().err
    assert "cannot be drawn here (RuntimeError: no OpenGL)" in said and "MUJOCO_GL=egl" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-o x.avi", "x.avi is no video: end its name in .mp4 or .gif"),
        ("--fps 0.0001 --episodes 0", "a video takes at least one episode"),
        ("--fps -1", "--fps must be above 0"),
    ],
)
def test_bad_options_are_one_clear_line(
    logs: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    assert zoo(f"record --algo dema {line} -f", logs) == 2
    assert message in capsys.readouterr().err
