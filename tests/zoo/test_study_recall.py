"""The study of recall plays both mazes, says which trainings were given up, and repeats those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decision_policies import DMHybrid
from zoo.__main__ import main
from zoo.studies import in_context, recall
from zoo.studies.study import Row, read_rows
from zoo.studies.training import Training
from zoo.tables import Tables

from .benchmark_support import write_tables

SIZES = "d_model: 16, n_layers: 1, n_heads: 2, batch_size: 8, learning_rate: lin_1e-2"
HYBRID = "memory_layers: 1, context_episodes: 1, chunk_length: 3, align_coef: 1.0, dropout: 0.0"
TABLES = {
    "dmhybrid": f"class: DMHybrid\ndefault: {{{SIZES}, {HYBRID}, warmup_steps: 5}}\n",
    "dt": f"class: DT\ndefault: {{{SIZES}, max_ep_len: 0, inference: recurrent}}\n",
    "datasets": "default: {evaluate_every: 1, targets: [1]}\n"
    "tmaze-4: {updates: 2}\ntmaze-8: {updates: 3}\n",
}


@pytest.fixture(autouse=True)
def _tables(tmp_path: Path) -> None:
    write_tables(tmp_path / "tables", **TABLES)
    (tmp_path / "tables" / "tiny.yml").unlink()


def study(folder: Path, *words: str) -> int:
    where = ["--tables", str(folder / "tables"), "--output", str(folder / "out"), "--nice", "0"]
    chosen = [] if "--algorithms" in words else ["--algorithms", "DMHybrid", "DT"]
    lengths = [] if "--lengths" in words else ["--lengths", "4"]
    return main(["study", "recall", "--quiet", "--seeds", "0", *chosen, *lengths, *where, *words])


def rows_of(folder: Path) -> list[Row]:
    return list(read_rows(folder / "out" / "recall.jsonl").values())


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it was done again")


def test_study_writes_rows_table_and_picture_and_runs_no_cell_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert study(tmp_path, "--lengths", "8", "3") == 0
    rows = rows_of(tmp_path)
    assert [(row["length"], row["algorithm"]) for row in rows] == [
        (3, "DMHybrid"),
        (3, "DT"),
        (8, "DMHybrid"),
        (8, "DT"),
    ]
    for row in rows:
        assert len(row["successes"]) == 2
        assert row["settings"]["hyperparameters"]["context_length"] == row["length"] + 1
    page, image = (tmp_path / "out" / f"recall.{end}" for end in ("md", "png"))
    assert "2 updates at 3 steps, 3 updates at 8 steps" in page.read_text()
    assert image.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(Training, "train", never)
    assert study(tmp_path, "--lengths", "3", "8") == 0


def test_a_system_that_recalls_is_paid_in_both_mazes(tmp_path: Path) -> None:
    words = ["--algorithms", "DMHybrid", "--lengths", "8", "--updates", "60"]
    assert study(tmp_path, *words, "--set", "max_grad_norm=1.0") == 0
    assert rows_of(tmp_path)[0]["successes"] == [True, True]


def test_it_is_learnt_from_the_optimal_episode_of_either_maze() -> None:
    histories = recall.optimal_histories(6)
    data = histories.trajectories
    assert histories.tasks.tolist() == [0, 1]
    assert data.lengths.tolist() == [7, 7]
    assert data.returns.tolist() == [1.0, 1.0]
    one, other = data.observations.reshape(2, 7, -1)
    assert (one[0] != other[0]).any()
    np.testing.assert_array_equal(one[1:], other[1:])
    left, right = data.actions.reshape(2, 7)
    np.testing.assert_array_equal(left[:-1], right[:-1])
    assert left[-1] != right[-1]


def test_training_that_is_given_up_is_said_and_repeated_with_more_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(recall, "evaluate_in_context", never)
        assert study(tmp_path, "--minutes", "1e-9") == 0
    cut = rows_of(tmp_path)
    assert [(row["successes"], row["updates"]) for row in cut] == [(None, 1)] * 2
    page = tmp_path / "out" / "recall.md"
    assert "| 4 | DT | given up (1 updates in 1e-09 CPU minutes) | 2 |" in page.read_text()
    with monkeypatch.context() as patched:
        patched.setattr(Training, "train", never)
        assert study(tmp_path, "--minutes", "1e-10") == 0
    assert study(tmp_path, "--minutes", "5", "--algorithms", "DT") == 0
    assert [row["successes"] is None for row in rows_of(tmp_path)] == [True, False]
    monkeypatch.setattr(Training, "train", never)
    assert study(tmp_path, "--minutes", "9", "--algorithms", "DT") == 0
    assert "given up" not in page.read_text()


def test_interrupted_training_leaves_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DMHybrid, "learn", lambda self, *_, **__: self)  # as after Ctrl-C
    assert study(tmp_path, "--algorithms", "DMHybrid") == 130
    assert not (tmp_path / "out" / "recall.jsonl").exists()


def made_up(seed: int, successes: list[bool] | None) -> Row:
    return {
        "length": 40,
        "algorithm": "DT",
        "seed": seed,
        "successes": successes,
        "updates": 100 if successes else 7,
        "minutes": 2.0,
        "cpu_seconds": 60.0,
        "settings": {"updates": 100, "hyperparameters": {"batch_size": 8}},
    }


def test_table_counts_the_mazes_of_trainings_that_were_finished() -> None:
    rows = [made_up(0, [True, True]), made_up(1, [True, False])]
    assert "| 40 | DT | 75 [50 to 100] % | 100 | 8 | 1.0 |" in recall.table(rows)
    said = "75 [50 to 100] %; given up (1 of 3, 7 updates in 2.0 CPU minutes)"
    assert f"| 40 | DT | {said} | 100 | 8 | 1.0 |" in recall.table([*rows, made_up(2, None)])


def test_picture_leaves_out_what_was_given_up(tmp_path: Path) -> None:
    recall.draw([made_up(0, None)], tmp_path / "none.png")
    recall.draw([made_up(0, None), made_up(1, [True, True])], tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "none.png").read_bytes()


@pytest.mark.parametrize(
    ("length", "block"), [(1, 40), (40, 40), (41, 200), (999, 1000), (5000, 1000)]
)
def test_length_is_trained_as_the_next_longer_one_of_the_tables(length: int, block: int) -> None:
    assert recall.block_of(length, ["tmaze-1000", "darkroom", "tmaze-40", "tmaze-200"]) == (
        f"tmaze-{block}"
    )


def test_tables_without_a_corridor_are_refused() -> None:
    with pytest.raises(ValueError, match="no plan of a corridor"):
        recall.block_of(4, ["darkroom", "tmaze", "large-tmaze-4"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lengths", "0"], "expected a whole number of at least 1, got '0'"),
        (["--minutes", "0"], "expected a number above 0, got '0'"),
        (["--minutes", "soon"], "expected a number above 0, got 'soon'"),
        (["--episodes", "3"], "unrecognized arguments: --episodes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_word_that_cannot_be_read_is_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["study", "recall", *words])
    assert message in capsys.readouterr().err


def test_what_the_study_varies_cannot_be_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, "--set", "context_length=4") == 2
    assert "context_length is what this study varies itself" in capsys.readouterr().err


def test_committed_tables_have_every_default_length() -> None:
    tables = Tables.read(in_context.TABLES)
    for asked in (recall.FULL, recall.QUICK):
        for length in asked["lengths"]:
            assert f"tmaze-{length}" in tables.datasets
        assert set(asked["algorithms"]) <= set(tables.labels)
