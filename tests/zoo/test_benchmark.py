"""The benchmark's runs: they resume, are not repeated, keep others out, go on after failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from decision_policies import DeMa
from decision_policies.algorithms import BY_NAME
from zoo.__main__ import main
from zoo.benchmark import RESULTS, Benchmark
from zoo.benchmark_progress import Display, in_words, total_seconds
from zoo.benchmark_rows import Key, append_row, lock, read_rows
from zoo.benchmark_run import LATER, SEED_SETS, Run, settings
from zoo.tables import Plan, Recipe, Tables

from .benchmark_support import evaluation, jobs, row, write_tables

TIMES = ("wall_seconds", "cpu_seconds", "evaluation_seconds")


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return write_tables(tmp_path / "tables")


def benchmark(folder: Path) -> Benchmark:
    return Benchmark(folder / "rows.jsonl", folder / "runs")


def timeless(path: Path) -> list[dict[str, Any]]:
    rows = [dict(row) for row in read_rows(path).values()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def stop_when(condition: Callable[[int, str], bool], error: BaseException) -> Any:
    """A tick that raises, once."""
    left = [error]

    def tick(_: Display, updates: int, doing: str) -> None:
        if left and condition(updates, doing):
            raise left.pop()

    return tick


def test_row_holds_every_checkpoint_target_and_mode(tables: Tables, tmp_path: Path) -> None:
    [job] = jobs(tables, "--seeds", "3")
    made = Run(job.recipe, 3, tmp_path / "run").finish()
    points = [(e["updates"], e["mode"], e["target"]) for e in made["evaluations"]]
    own = [(updates, "staggered", target) for updates in (2, 4, 5) for target in (20, 10)]
    others = [(5, "recurrent", target) for target in (20, 10)]
    assert points == own + others
    assert (made["seed"], made["updates"], made["class_name"]) == (3, 5, "DeMa")
    assert made["hyperparameters"]["d_model"] == 8
    assert made["hyperparameters"]["d_state"] == 16  # a default
    first = made["evaluations"][0]
    assert len(first["returns"]) == 2
    assert first["mean"] == pytest.approx(sum(first["returns"]) / 2)
    low, high = made["reference_scores"] or [0.0, 0.0]
    assert first["normalised"] == pytest.approx(
        100 * (first["mean"] - low) / (high - low), abs=0.01
    )


@pytest.mark.parametrize(
    ("condition", "error", "goes_on_at"),
    [
        (lambda updates, doing: updates == 3, KeyboardInterrupt(), 3),
        (lambda updates, doing: updates == 4 and doing == "training", SystemExit(), 3),
        (lambda updates, doing: doing == "evaluating, staggered, 10", KeyboardInterrupt(), 2),
        (lambda updates, doing: doing == "evaluating, recurrent, 20", SystemExit(), 5),
    ],
    ids=["between checkpoints", "before a save", "between targets", "between modes"],
)
def test_killed_benchmark_resumes_to_the_rows_of_an_uninterrupted_one(
    condition: Callable[[int, str], bool],
    error: BaseException,
    goes_on_at: int,
    tables: Tables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    benchmark(tmp_path / "whole").perform(jobs(tables, "--seeds", "0"), quiet=True)
    with monkeypatch.context() as patched:
        patched.setattr(Display, "tick", stop_when(condition, error))
        with pytest.raises(type(error)):
            benchmark(tmp_path / "cut").perform(jobs(tables, "--seeds", "0"), quiet=True)
    assert not (tmp_path / "cut" / "rows.jsonl").exists()
    ticks: list[int] = []
    monkeypatch.setattr(Display, "tick", lambda _, updates, doing: ticks.append(updates))
    benchmark(tmp_path / "cut").perform(jobs(tables, "--seeds", "0"), quiet=True)
    assert timeless(tmp_path / "cut" / "rows.jsonl") == timeless(tmp_path / "whole" / "rows.jsonl")
    assert ticks[0] == goes_on_at


def test_finished_runs_are_skipped_until_redo(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, seeds = benchmark(tmp_path), ("--seeds", "0")
    work.perform(jobs(tables, *seeds), quiet=True)
    before = work.output.read_text()
    with monkeypatch.context() as patched:
        patched.setattr(Run, "finish", lambda self: pytest.fail("it was run again"))
        work.perform(jobs(tables, *seeds), quiet=True)
    assert work.output.read_text() == before
    work.perform(jobs(tables, *seeds), redo=True, quiet=True)
    assert len(work.output.read_text().splitlines()) == 2
    assert len(read_rows(work.output)) == 1
    work.perform(jobs(tables, *seeds, "--updates", "3"), quiet=True)  # another key
    assert [key.updates for key in read_rows(work.output)] == [5, 3]


def test_changed_recipe_of_a_finished_run_is_said(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = benchmark(tmp_path)
    work.perform(jobs(tables, "--seeds", "0"), quiet=True)
    changed = (tmp_path / "tables" / "tiny.yml").read_text().replace("d_model: 8", "d_model: 16")
    work.show(jobs(write_tables(tmp_path / "tables", tiny=changed), "--seeds", "0"))
    assert "another recipe (d_model 8 -> 16); --redo replaces it" in capsys.readouterr().out


def test_unfinished_run_of_another_recipe_begins_again(tables: Tables, tmp_path: Path) -> None:
    [job] = jobs(tables, "--seeds", "0")
    Run(job.recipe, 0, tmp_path / "run").finish()  # and its row is never written
    assert not Run(job.recipe, 0, tmp_path / "run").discarded
    text = (tmp_path / "tables" / "tiny.yml").read_text().replace("d_model: 8", "d_model: 16")
    [other] = jobs(write_tables(tmp_path / "tables", tiny=text), "--seeds", "0")
    again = Run(other.recipe, 0, tmp_path / "run")
    assert again.discarded
    assert again.finish()["hyperparameters"]["d_model"] == 16


def test_development_episodes_are_others_and_so_is_their_file(
    tables: Tables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds = []

    def evaluate(*_: Any, seed: int, **__: Any) -> None:
        seeds.append(seed)
        raise RuntimeError("seen enough")

    monkeypatch.setattr("zoo.benchmark_run.evaluate_policy", evaluate)
    [job] = jobs(tables, "--seeds", "0")
    for name in SEED_SETS:
        with pytest.raises(RuntimeError, match="enough"):
            Run(job.recipe, 0, tmp_path / name, seed_set=name).finish()
    assert seeds == [900_000, 10_000]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zoo.benchmark.RESULTS", tmp_path / "results")
    line = f"benchmark --tables {tmp_path}/tables --seeds 0 --nice 0 --seed-set development"
    assert main(line.split()) == 2
    assert "1 of 1 runs failed:\nTiny on cartpole" in capsys.readouterr().err
    assert (tmp_path / "results" / "benchmark-development.jsonl.lock").exists()
    assert (tmp_path / "runs" / "benchmark-development" / "Tiny").exists()


def test_two_benchmarks_do_not_write_the_same_rows(tables: Tables, tmp_path: Path) -> None:
    work = benchmark(tmp_path)
    for held in (tmp_path / "rows.jsonl.lock", tmp_path / "runs" / "lock"):
        with (
            lock(held),
            pytest.raises(ValueError, match=r"another benchmark \(process \d+\) holds"),
        ):
            work.perform(jobs(tables), quiet=True)
    work.perform(jobs(tables, "--seeds", "0"), quiet=True)  # free again


def test_failed_run_is_named_and_the_others_are_done(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tick(_: Display, updates: int, doing: str) -> None:
        if updates == 3 and not failed:
            failed.append(updates)
            raise RuntimeError("the environment broke")

    failed: list[int] = []
    monkeypatch.setattr(Display, "tick", tick)
    work = benchmark(tmp_path)
    [told] = work.perform(jobs(tables, "--seeds", "0", "1"), quiet=True)
    assert told.startswith("Tiny on cartpole/mixed-v0, seed 0, 5 updates: RuntimeError: the envi")
    assert [key.seed for key in read_rows(work.output)] == [1]
    assert "Traceback" in (tmp_path / "runs/Tiny/cartpole-mixed-v0-0/error.txt").read_text()
    assert work.perform(jobs(tables, "--seeds", "0", "1"), quiet=True) == []
    assert [key.seed for key in read_rows(work.output)] == [1, 0]


def test_runs_go_breadth_first(tmp_path: Path) -> None:
    plans = "default: {updates: 5, evaluate_every: 5, targets: [1]}\na-v0:\nb-v0:\n"
    tables = write_tables(
        tmp_path, datasets=plans, other="label: Other\nclass: DeMa\na-v0: false\n"
    )
    listed = [(j.seed, j.recipe.dataset, j.recipe.label) for j in jobs(tables, "--seeds", "1", "0")]
    everything = [("a-v0", "Tiny"), ("b-v0", "Other"), ("b-v0", "Tiny")]
    assert listed == [(seed, *pair) for seed in (1, 0) for pair in everything]
    with pytest.raises(ValueError, match="nothing to run"):
        jobs(tables, "--algorithms", "Other", "--datasets", "a-v0")


def test_command_runs_lists_and_writes_the_page(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = f"--tables {tmp_path}/tables --output {tmp_path}/rows.jsonl --runs {tmp_path}/runs"
    line = f"benchmark {places} --page {tmp_path}/RESULTS.md --nice 0 --seeds 0".split()
    assert main([*line, "--list"]) == 0
    assert "0 of 1 runs done; time left: unknown" in capsys.readouterr().out
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert "[1/1] Tiny on cartpole/mixed-v0, seed 0, 5 updates" in printed
    assert main([*line, "--list"]) == 0
    assert "1 of 1 runs done\n" in capsys.readouterr().out
    page = (tmp_path / "RESULTS.md").read_text()
    [entry] = read_rows(tmp_path / "rows.jsonl").values()
    last = next(e for e in entry["evaluations"] if e["updates"] == 5)
    assert f"| Tiny | **{last['mean']:.0f} ± {last['std']:.0f}** |" in page
    assert (tmp_path / "results" / "scores.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "RESULTS.md").unlink()
    assert main([*line, "--table"]) == 0
    assert (tmp_path / "RESULTS.md").read_text() == page


def test_wrong_label_is_one_message(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"benchmark --tables {tmp_path}/tables --algorithms Tinny --nice 0"
    assert main(line.split()) == 2
    assert "no table has the label 'Tinny'; did you mean 'Tiny'?" in capsys.readouterr().err


def test_time_left_comes_from_the_runs_most_alike() -> None:
    done = [
        row("A", "x", 0, [evaluation(100, [1.0])]),  # 150 seconds in all
        row("A", "y", 0, [evaluation(100, [1.0])], wall_seconds=270.0),  # 300
        row("B", "y", 0, [evaluation(100, [1.0])], wall_seconds=570.0),  # 600
    ]
    rows = {Key.of(r): r for r in done}
    assert total_seconds([Key("A", "x", 1, 200)], rows) == 300  # same system, same set
    assert total_seconds([Key("A", "z", 1, 100)], rows) == 225  # same system
    assert total_seconds([Key("C", "x", 1, 100)], rows) == 350  # anything
    assert total_seconds([Key("A", "x", 1, 200), Key("B", "y", 1, 100)], rows) == 900
    assert total_seconds([Key("A", "x", 1, 200)], {}) is None
    assert in_words(7_860) == "about 2 h 11 min"


def test_damaged_row_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, row("A", "x", 0, [evaluation(1, [1.0])]))
    with path.open("a") as file:
        file.write(json.dumps({"label": "A"}) + "\n")
    with pytest.raises(ValueError, match=r"line 2 is no row .*remove it"):
        read_rows(path)


def test_hyperparameters_that_came_later_leave_old_results_valid(tables: Tables) -> None:
    recipe = tables.recipe("Tiny", tables.datasets[0])
    known = settings(recipe)["hyperparameters"]
    assert not LATER.keys() & known.keys()
    for name, value in LATER.items():
        assert DeMa().hyperparameters()[name] == value
    changed = replace(recipe, hyperparameters={**recipe.hyperparameters, "precision": "bfloat16"})
    assert settings(changed)["hyperparameters"] == {**known, "precision": "bfloat16"}


def test_hyperparameters_that_the_shipped_rows_lack_are_known_to_have_come_later() -> None:
    rows = {r["class_name"]: r for r in read_rows(RESULTS / "benchmark.jsonl").values()}
    own = {name: r for name, r in rows.items() if name in BY_NAME}
    assert own.keys() >= {"BC", "DC", "DM", "DMM", "DT", "DeMa", "MambaDM"}
    plan = Plan(updates=1, evaluate_every=1, targets=(1.0,))
    for name, shipped in own.items():
        now = settings(Recipe(name, name, shipped["dataset"], {}, plan))["hyperparameters"]
        assert now.keys() <= shipped["hyperparameters"].keys(), name
