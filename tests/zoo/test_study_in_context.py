"""The study of in-context learning trains on some tasks, plays the others, and adds up fairly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decision_policies import evaluate_in_context
from zoo.__main__ import main
from zoo.history_set import Recipe, read_split
from zoo.studies import in_context
from zoo.studies.study import Row, read_rows
from zoo.studies.training import Training
from zoo.tables import Tables

from .benchmark_support import write_tables

WORLD = {
    "env_id": "Darkroom-v0",
    "tasks": 6,
    "held_out": 2,
    "repeats": 2,
    "episodes": 7,
    "options": {"size": 3, "horizon": 5},
}
SIZES = "default: {d_model: 8, n_layers: 1, n_heads: 2, batch_size: 2, context_length: 5"
TABLES = {
    "dmhybrid": f"class: DMHybrid\n{SIZES}, context_episodes: 2, memory_layers: 1}}\n",
    "ad": f"label: AD-mamba\nclass: AD\n{SIZES}, backbone: mamba}}\n",
    "dt": f"class: DT\n{SIZES}}}\n",
    "datasets": "default: {updates: 2, evaluate_every: 1, episodes: 6, targets: [4]}\nsmall: {}\n",
}
LABELS = ["DMHybrid", "AD-mamba", "DT"]


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_context, "WORLDS", {"small": WORLD})
    write_tables(tmp_path / "tables", **TABLES)
    (tmp_path / "tables" / "tiny.yml").unlink()


def study(folder: Path, *words: str) -> int:
    where = ["--tables", str(folder / "tables"), "--output", str(folder / "out"), "--nice", "0"]
    chosen = [] if "--algorithms" in words else ["--algorithms", *LABELS]
    seeds = [] if "--seeds" in words else ["--seeds", "0"]
    small = ["--environments", "small", *chosen, *seeds, "--quiet"]
    return main(["study", "in-context", *small, *where, *words])


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it was done again")


def test_study_writes_rows_table_and_picture_and_makes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert study(tmp_path) == 0
    lines, page, image = (tmp_path / "out" / f"in-context.{end}" for end in ("jsonl", "md", "png"))
    rows = list(read_rows(lines).values())
    assert [row["algorithm"] for row in rows] == LABELS
    for row in rows:
        assert np.shape(row["sampled"]) == np.shape(row["greedy"]) == (2, 6)
        assert row["updates"] == 2
    assert "2 histories of search at each of 4 tasks, 7 episodes long; 2 upd" in page.read_text()
    assert image.read_bytes().startswith(b"\x89PNG")
    before = lines.read_text()
    with monkeypatch.context() as patched:
        patched.setattr(Training, "train", never)
        assert study(tmp_path) == 0
    assert lines.read_text() == before
    monkeypatch.setattr(in_context, "make_histories", never)
    assert study(tmp_path, "--algorithms", "DT", "--seeds", "1") == 0


def test_what_is_played_was_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[set[int]] = []
    played: list[dict[str, Any]] = []
    train = Training.train

    def learn(work: Training, data: Any, *rest: Any) -> Any:
        trained.append(set(data.tasks.tolist()))
        return train(work, data, *rest)

    def play(policy: Any, env: Any, tasks: list[int], episodes: int, **options: Any) -> Any:
        played.append({"tasks": tasks, **options})
        return evaluate_in_context(policy, env, tasks, episodes, **options)

    monkeypatch.setattr(Training, "train", learn)
    monkeypatch.setattr(in_context, "evaluate_in_context", play)
    assert study(tmp_path, "--algorithms", "AD-mamba", "DT") == 0
    folder = next((tmp_path / "out" / "histories" / "in-context").glob("small-*"))
    split = read_split(folder)
    assert trained == [set(split.train)] * 2
    assert all(call["tasks"] == split.held_out for call in played)
    assert not set(split.held_out) & set(split.train)
    assert [call["deterministic"] for call in played] == [False, True] * 2
    assert [call["target_return"] for call in played] == [None, None, 4, 4]
    assert {call["seed"] for call in played} == {900_000}


def test_row_of_other_histories_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert study(tmp_path, "--algorithms", "DT") == 0
    monkeypatch.setattr(in_context, "WORLDS", {"small": {**WORLD, "repeats": 3}})
    assert study(tmp_path, "--algorithms", "DT", "--table") == 2


def test_another_recipe_of_histories_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    one = in_context.recipe_of_histories("small")
    assert one == in_context.recipe_of_histories("small")
    assert one.options == {"observation": "box", "size": 3, "horizon": 5}
    assert one.keep == one.episodes == 7
    monkeypatch.setattr(in_context, "WORLDS", {"small": {**WORLD, "seed": 1}})
    assert in_context.recipe_of_histories("small").dataset_id != one.dataset_id


def made_up(label: str, seed: int, returns: list[list[float]]) -> Row:
    return {
        "environment": "darkroom",
        "algorithm": label,
        "seed": seed,
        "sampled": returns,
        "greedy": [[0.0] * len(returns[0])] * len(returns),
        "optimal": [10.0, 6.0],
        "random": 0.5,
        "updates": 7,
        "cpu_seconds": 90.0,
    }


def test_table_takes_tasks_over_seeds_together(tmp_path: Path) -> None:
    rows = [
        made_up("AD", 0, [[0, 8, 8, 8, 8, 8], [2, 4, 4, 4, 4, 4]]),
        made_up("AD", 1, [[0, 0, 0, 0, 0, 10], [2, 4, 4, 4, 4, 4]]),
    ]
    joined = in_context.joined(rows)
    assert joined.returns.shape == (2, 6)
    late = in_context.last_episodes(joined)
    np.testing.assert_allclose(late.returns[:, 0], [5, 4])
    low, high = late.interval[0]
    said = f"| 1.00 | 6.50 (81 %) | 4.50 (56 %) | {low:.2f} to {high:.2f} | 0.00 (0 %) | 0, 1 | 7 "
    assert f"| darkroom | AD {said}| 1.5 |" in in_context.table(rows)
    twice = in_context.last_episodes(in_context.joined(rows * 2))
    np.testing.assert_array_equal(twice.interval, late.interval)  # it is no more than is known
    in_context.draw([*rows, made_up("DT", 0, [[1.0] * 6] * 2)], tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--algorithms", "Nope"], "no table has the label 'Nope'"),
        (["--updates", "0"], "updates must be a whole number of at least 1"),
        (["--episodes", "0"], "episodes must be a whole number of at least 1"),
        (["--set", "speed=3"], "'speed'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_option_is_refused_before_anything_is_made(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unknown_environment_and_dataset_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--environments", "lightroom"], ["--dataset", "cartpole/mixed-v0"]):
        with pytest.raises(SystemExit):
            main(["study", "in-context", *words])
        assert words[1] in capsys.readouterr().err


def test_committed_tables_and_worlds_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    tables = Tables.read(in_context.TABLES)
    assert set(in_context.WORLDS) <= set(tables.datasets)
    for label in tables.labels:
        for environment in tables.datasets:
            tables.recipe(label, environment)
    for environment in in_context.WORLDS:
        recipe = in_context.recipe_of_histories(environment)
        assert isinstance(recipe, Recipe)
        hybrid = tables.recipe("DMHybrid", environment).hyperparameters
        assert hybrid["context_episodes"] <= recipe.keep
    for asked in (in_context.FULL, in_context.QUICK):
        assert set(asked["environments"]) <= set(in_context.WORLDS)
        assert set(asked["algorithms"]) <= set(tables.labels)
