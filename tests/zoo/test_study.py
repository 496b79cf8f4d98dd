"""Studies as commands: they write what they promise, resume, and refuse wrong options clearly."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from decision_policies import Trajectories
from zoo.__main__ import main
from zoo.studies.study import hold, read_rows
from zoo.studies.training import Training

from .benchmark_support import PLANS, write_tables

SIZES = "default: {d_model: 8, n_layers: 1, context_length: 4, batch_size: 4}"
TRAINED = {
    "delayed-reward": (["--algorithms", "DeMa", "BC-10%"], 4),
    "goal-maze": (["--algorithms", "DeMa", "--seeds", "0", "1"], 2),
    "model-scaling": (["--algorithms", "DeMa", "--layers", "1", "2", "--widths", "4", "8"], 4),
    "data-scaling": (["--algorithms", "DeMa", "--contexts", "3", "--shares", "1/8", "1/4"], 2),
}
Command = Callable[..., int]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    systems = {"dema": "class: DeMa", "dt": "class: DT", "bc": "label: BC-10%\nclass: BC"}
    write_tables(tmp_path / "tables", **{k: f"{v}\n{SIZES}\n" for k, v in systems.items()})
    return tmp_path / "tables"


@pytest.fixture
def study(tables: Path, tmp_path: Path) -> Command:
    """Runs a study on the shipped set with a training of two updates, as a command does."""

    def command(name: str, *words: str) -> int:
        small = ["--updates", "2", "--episodes", "2", "--dataset", "cartpole/mixed-v0"]
        seeds = [] if "--seeds" in words else ["--seeds", "0"]
        where = ["--tables", str(tables), "--output", str(tmp_path / "out"), "--nice", "0"]
        return main(["study", name, *small, *seeds, *where, *words])

    return command


def of_two_seeds(study: Command, *words: str) -> int:
    return study("goal-maze", "--algorithms", "DeMa", "--seeds", "0", "1", *words)


def never(*_: Any) -> Any:
    raise AssertionError("a cell was run again")


def failing_at(number: int, error: BaseException) -> Any:
    """A training that raises at its n-th call."""
    run, calls = Training.run, [0]

    def instead(*words: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            raise error
        return run(*words)

    return instead


@pytest.mark.parametrize("name", TRAINED)
def test_study_writes_rows_table_and_picture_and_runs_no_cell_twice(
    name: str,
    study: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words, n_cells = TRAINED[name]
    assert study(name, *words) == 0
    lines, page, image = (tmp_path / "out" / f"{name}.{end}" for end in ("jsonl", "md", "png"))
    rows = read_rows(lines)
    assert len(rows) == n_cells
    assert f"![{name}]({image.name})" in page.read_text()
    assert "2 updates of 4 windows" in page.read_text()
    assert "cells are done" not in page.read_text()
    assert image.read_bytes().startswith(b"\x89PNG")
    before = lines.read_bytes()
    page.unlink()
    monkeypatch.setattr(Training, "run", never)
    assert study(name, *words) == 0
    assert lines.read_bytes() == before
    assert page.exists()


def test_repeated_seed_is_run_once(study: Command, tmp_path: Path) -> None:
    assert study("goal-maze", "--algorithms", "DeMa", "--seeds", "1", "1") == 0
    assert len((tmp_path / "out" / "goal-maze.jsonl").read_text().splitlines()) == 1


def test_interrupted_study_keeps_finished_cells_and_goes_on(
    study: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Training, "run", failing_at(2, KeyboardInterrupt()))
        assert of_two_seeds(study) == 130
    lines = tmp_path / "out" / "goal-maze.jsonl"
    first = lines.read_text()
    assert first.count("\n") == 1
    assert "1 of 2 cells are done" in lines.with_suffix(".md").read_text()
    assert of_two_seeds(study) == 0
    assert lines.read_text().startswith(first)
    assert [row["seed"] for row in read_rows(lines).values()] == [0, 1]


@pytest.mark.parametrize("cut", [0, 1], ids=["first line", "last line"])
def test_cut_line_costs_its_own_cell_only(cut: int, study: Command, tmp_path: Path) -> None:
    of_two_seeds(study)
    path = tmp_path / "out" / "goal-maze.jsonl"
    lines = path.read_text().splitlines()
    lines[cut] = lines[cut][:100]
    path.write_text("\n".join(lines))  # nor has the last line an end
    with pytest.warns(UserWarning, match=f"line {cut + 1} is no row .* and is passed over"):
        assert of_two_seeds(study) == 0
    after = path.read_text().splitlines()
    assert after[:2] == lines
    assert json.loads(after[2])["seed"] == cut
    assert len(after) == 3


@pytest.mark.parametrize(
    "words",
    [
        ["--updates", "3"],
        ["--episodes", "3"],
        ["--width", "16"],
        ["--set", "d_state=8"],
        ["--seeds", "2"],
        ["--algorithms", "DT"],
    ],
    ids=lambda words: words[0],
)
def test_row_of_other_options_does_not_count(
    words: list[str], study: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study("goal-maze", "--algorithms", "DeMa") == 0
    assert study("goal-maze", "--algorithms", "DeMa", *words, "--table") == 2
    assert "none of the 1 cells that these options name" in capsys.readouterr().err


def test_row_of_other_data_under_the_same_id_does_not_count(
    study: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert study("goal-maze", "--algorithms", "DeMa") == 0
    data = Trajectories.from_minari("cartpole/mixed-v0")
    other = replace(data, source=replace(data.source, digest="other"))
    monkeypatch.setattr(Trajectories, "from_minari", lambda _: other)
    assert study("goal-maze", "--algorithms", "DeMa", "--table") == 2


def test_row_of_another_class_with_the_same_label_does_not_count(
    study: Command, tables: Path
) -> None:
    (tables / "dema.yml").write_text(f"class: DM\nlabel: DeMa\n{SIZES}\n")
    assert study("goal-maze", "--algorithms", "DeMa") == 0
    (tables / "dema.yml").write_text(f"class: MambaDM\nlabel: DeMa\n{SIZES}\n")
    assert study("goal-maze", "--algorithms", "DeMa", "--table") == 2


def test_failed_cells_are_told_once_and_the_others_kept(
    study: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Training, "run", failing_at(1, RuntimeError("the maze is gone")))
    assert of_two_seeds(study, "--quiet") == 2
    assert [r["seed"] for r in read_rows(tmp_path / "out" / "goal-maze.jsonl").values()] == [1]
    monkeypatch.setattr(Training, "run", never)
    assert of_two_seeds(study, "--quiet", "--seeds", "2", "3") == 2
    said = capsys.readouterr().err
    assert (
        "1 of 2 cells failed:\nRuntimeError: the maze is gone (in algorithm DeMa, seed 0)" in said
    )
    assert said.count("a cell was run again") == 1
    assert "2 of 2 cells failed" in said


def test_file_that_another_process_writes_is_left_alone(
    study: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert of_two_seeds(study) == 0
    page = tmp_path / "out" / "goal-maze.md"
    page.unlink()
    with hold(page.with_suffix(".jsonl")):
        assert of_two_seeds(study) == 2
    assert "another study writes to" in capsys.readouterr().err
    assert not page.exists()


def test_without_matplotlib_the_table_is_written_all_the_same(
    study: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert study("goal-maze", "--algorithms", "DeMa") == 0
    assert "no picture: it needs matplotlib" in capsys.readouterr().out
    page = (tmp_path / "out" / "goal-maze.md").read_text()
    assert "| DeMa | 100 % |" in page
    assert "![" not in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["delayed-reward", "--algorithms", "Nope"], "no table has the label 'Nope'"),
        (["delayed-reward", "--updates", "0"], "updates must be a whole number of at least 1"),
        (["goal-maze", "--episodes", "-3"], "episodes must be a whole number of at least 1"),
        (["goal-maze", "--algorithms", "DeMa", "--width", "0"], "d_model"),
        (["goal-maze", "--algorithms", "DeMa", "--set", "speed=3"], "'speed'"),
        (["model-scaling", "--algorithms", "DeMa", "--layers", "0"], "n_layers"),
        (
            ["model-scaling", "--algorithms", "DeMa", "--set", "d_model=4"],
            "--set d_model=4: d_model is what this study varies itself",
        ),
        (["data-scaling", "--algorithms", "DeMa", "--contexts", "0"], "context_length"),
        (["context-length", "--contexts", "0"], "context_length"),
        (["context-length", "--repeats", "0"], "--repeats must be at least 1"),
        (["context-length", "--algorithms", "DM"], "this study knows DeMa-rnn, DeMa, DT"),
        (["goal-maze", "--algorithms", "peer"], "peer is d3rlpy's"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_option_is_refused_before_anything_runs(
    words: list[str],
    message: str,
    study: Command,
    tables: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_tables(tables, peer="label: peer\nclass: d3rlpy.BC\n", datasets=PLANS)
    assert study(*words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["goal-maze", "--seeds", "-1"], "expected a whole number of at least 0, got '-1'"),
        (["goal-maze", "--set", "width"], "expected NAME=VALUE such as d_state=8, got 'width'"),
        (["data-scaling", "--shares", "0"], "expected a share such as 1/4, up to 1; got '0'"),
        (["data-scaling", "--shares", "5/4"], "expected a share such as 1/4, up to 1; got '5/4'"),
        (["data-scaling", "--shares", "1/0"], "expected a share such as 1/4, up to 1; got '1/0'"),
        (["no-such"], "invalid choice: 'no-such'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_word_that_cannot_be_read_is_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["study", *words])
    assert message in capsys.readouterr().err
