"""The study of context length measures time and memory of processes, and scores on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoo.__main__ import main
from zoo.studies import context_length, one_context
from zoo.studies.study import read_rows

LONG = 150


def command(folder: Path, *words: str) -> int:
    small = "--algorithms DT --width 16 --layers 1 --batch 16 --repeats 3 --updates 2 --episodes 2"
    where = ["--seeds", "0", "--output", str(folder), "--nice", "0", "--quiet"]
    return main(["study", "context-length", *small.split(), *where, *words])


def test_long_context_takes_more_memory_and_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(tmp_path, "--contexts", "2", str(LONG)) == 0
    path = tmp_path / "context-length.jsonl"
    before = path.read_bytes()
    short, long = read_rows(path).values()
    assert (short["K"], long["K"]) == (2, LONG)
    assert all(row[name] > 0 for row in (short, long) for name in ("forward", "update", "window"))
    assert long["memory"] > short["memory"] + 2  # MiB; a batch has 75 times the tokens
    assert short["parameters"] > 0
    page = path.with_suffix(".md").read_text()
    assert "| K | system | forward pass of a batch, ms |" in page
    assert "score" not in page
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(context_length, "in_a_process", None)
    assert command(tmp_path, "--contexts", "2", str(LONG)) == 0
    assert path.read_bytes() == before


def fake(plan: one_context.Plan) -> dict[str, float]:
    names = ("update", "forward", "window", "recurrent", "parameters")
    return {**dict.fromkeys(names, 1.5), "peak": 100.0 + plan["hyperparameters"]["context_length"]}


def test_score_is_added_for_each_system_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_length, "in_a_process", fake)
    monkeypatch.setattr(context_length, "idle_memory", lambda *_: 100.0)
    words = ["--contexts", "3", "5", "--algorithms", "DeMa-rnn", "DeMa", "DT"]
    assert command(tmp_path, *words) == 0
    assert command(tmp_path, *words, "--score") == 0
    rows = list(read_rows(tmp_path / "context-length.jsonl").values())
    costs = [row for row in rows if row["measured"] == "cost"]
    trained = [row for row in rows if row["measured"] == "score"]
    assert [row["memory"] for row in costs] == [3.0, 3.0, 3.0, 5.0, 5.0, 5.0]
    assert len(trained) == 6
    kinds = [row["settings"]["hyperparameters"].get("kind") for row in trained[:3]]
    assert kinds == ["rnn", "transformer", None]
    assert {row["settings"]["hyperparameters"]["batch_size"] for row in trained} == {16}
    page = (tmp_path / "context-length.md").read_text()
    assert "| score |" in page
    assert "Scores: cartpole/mixed-v0; 2 updates of 16 windows of 3, 5 steps" in page


def test_costs_of_another_machine_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(context_length, "in_a_process", fake)
    monkeypatch.setattr(context_length, "idle_memory", lambda *_: 100.0)
    assert command(tmp_path, "--contexts", "3") == 0
    monkeypatch.setattr(context_length, "machine", lambda _: "another machine")
    assert command(tmp_path, "--contexts", "3", "--table") == 2
    assert "none of the 1 cells" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["rnn", "transformer"])
def test_measurement_is_of_the_system_that_is_asked_for(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, Any] = {"d_model": 8, "n_layers": 1, "context_length": 4, "batch_size": 2}
    seen: list[bool] = []
    forward = one_context._forward

    def spy(algorithm: Any, *rest: Any) -> Any:
        seen.append(algorithm.carries_state)
        return forward(algorithm, *rest)

    monkeypatch.setattr(one_context, "_forward", spy)
    found = one_context.measure(
        {
            "class_name": "DeMa",
            "hyperparameters": {**sizes, "kind": kind},
            "observation": 3,
            "action": 2,
            "repeats": 2,
        }
    )
    assert seen == [kind == "rnn"]
    assert set(found) == {"update", "peak", "forward", "window", "recurrent", "parameters"}
    assert min(found.values()) > 0


def test_words_of_a_failed_process_are_passed_on() -> None:
    plan: one_context.Plan = {
        "class_name": "DT",
        "hyperparameters": {"d_model": -1},
        "observation": 1,
        "action": 1,
        "repeats": 1,
    }
    with pytest.raises(RuntimeError, match=r"the measuring process failed: (.|\n)*d_model"):
        one_context.in_a_process(plan)
