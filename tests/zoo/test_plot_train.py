"""`python -m zoo plot-train` puts seeds together, and draws what was evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo import plot_train
from zoo.experiments import Curve, Experiment

from .logs_support import train, trained, zoo


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    for seed in (0, 1):
        trained(folder, seed=seed)
    trained(folder, "--target-return 90")
    trained(folder, algo="dt")
    return folder


def test_experiments_that_differ_in_their_seed_only_are_one_line(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "both.png"
    assert zoo(f"plot-train --algo dema DT --env CartPole-v1 -o {path} -f", logs) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    curves = [Experiment(logs / "dema" / f"CartPole-v1_{n}").curve() for n in (1, 2)]
    mean = np.mean([curve.results[-1].mean() for curve in curves])
    assert lines[0] == (f"CartPole-v1, DeMa, cartpole/mixed-v0 (1, 2): {mean:.1f} after 6 updates")
    assert [line.split(":")[0] for line in lines[1:3]] == [
        "CartPole-v1, DeMa, cartpole/mixed-v0 (3)",
        "CartPole-v1, DT, cartpole/mixed-v0 (1)",
    ]


def test_a_band_is_over_seeds_where_all_were_evaluated() -> None:
    short = Curve(np.array([10]), np.array([[1.0, 3.0]]))
    long = Curve(np.array([10, 20]), np.array([[5.0, 7.0], [9.0, 9.0]]))
    at, mean, deviation = plot_train.Series("a", None, [short, long]).band()
    assert (at.tolist(), mean.tolist(), deviation.tolist()) == ([10], [4.0], [2.0])
    at, mean, deviation = plot_train.Series("a", None, [long]).band()
    assert (at.tolist(), mean.tolist(), deviation.tolist()) == ([10, 20], [6.0, 9.0], [1.0, 0.0])


def test_without_a_name_the_picture_is_called_after_what_it_shows(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert zoo("plot-train --algo dema --env CartPole-v1 --exp-id 2 -f", logs) == 0
    assert (tmp_path / "plots" / "dema-CartPole-v1.png").is_file()


def test_what_cannot_be_drawn_is_one_clear_line(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "--eval-freq 0") == 0
    assert zoo("plot-train --algo dema --env CartPole-v1 -f", tmp_path) == 2
    assert "nothing was evaluated (yet) in" in capsys.readouterr().err
    assert zoo("plot-train --algo dem --env CartPole-v1 -f", logs) == 2
    assert "did you mean 'dema'?" in capsys.readouterr().err
    assert zoo("plot-train --algo dema --env CartPole-v1 -o x.pdf -f", logs) == 2
    assert "x.pdf is no PNG" in capsys.readouterr().err
