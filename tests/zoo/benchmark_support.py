"""What the tests of the benchmark share: tables of a training of a tenth of a second, and rows."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

from zoo.benchmark import add_arguments, make_jobs
from zoo.benchmark_rows import Evaluation, Row
from zoo.tables import Tables

PLANS = """
default: {updates: 5, evaluate_every: 2, episodes: 2, modes: [recurrent]}
cartpole/mixed-v0: {targets: [20, 10]}
"""
TINY = """
label: Tiny
class: DeMa
default: {d_model: 8, n_layers: 1, context_length: 4, batch_size: 4, learning_rate: lin_1e-2}
"""
SET = "cartpole/mixed-v0"


def write_tables(folder: Path, **files: str) -> Tables:
    """Writes tables; the plans and the system Tiny are there unless they are replaced."""
    folder.mkdir(exist_ok=True)
    for name, text in {"datasets": PLANS, "tiny": TINY, **files}.items():
        (folder / f"{name}.yml").write_text(text)
    return Tables.read(folder)


def options(*words: str) -> argparse.Namespace:
    """The command line of the verb."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def jobs(tables: Tables, *words: str) -> Any:
    """The runs that a command line asks for."""
    return make_jobs(tables, options(*words))


def evaluation(
    updates: int, returns: list[float], target: float | None = 100.0, mode: str = "window"
) -> Evaluation:
    """An evaluation without the figures that the page does not read."""
    return {
        "updates": updates,
        "mode": mode,
        "target": target,
        "returns": returns,
        "mean": 0.0,
        "std": 0.0,
        "normalised": None,
    }


def row(label: str, dataset: str, seed: int, evaluations: list[Evaluation], **changes: Any) -> Row:
    """A row as the benchmark writes it."""
    values: dict[str, Any] = {
        "label": label,
        "class_name": "d3rlpy.DT" if label.startswith("d3rlpy") else label,
        "dataset": dataset,
        "seed": seed,
        "updates": max(e["updates"] for e in evaluations),
        "seed_set": "evaluation",
        "hyperparameters": {},
        "plan": {"targets": [100.0, 50.0], "episodes": 2, "clip_rewards": False},
        "hash": "same",
        "parameters": 1234,
        "mode": "window",
        "wall_seconds": 120.0,
        "cpu_seconds": 90.0,
        "evaluation_seconds": 30.0,
        "environment": "Some-v1",
        "reference_scores": [0.0, 200.0],
        "data": "digest",
        "versions": {"torch": "2.0"},
        "machine": "a machine",
        "evaluations": evaluations,
    }
    return cast("Row", values | changes)
