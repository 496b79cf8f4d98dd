"""Rows of the benchmark: their form, the file of JSON lines that holds them, and its lock."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypedDict


class Evaluation(TypedDict):
    """What one checkpoint obtained in one mode at one target.

    Attributes:
        updates: Updates of the checkpoint.
        mode: How the policy remembered; "" for peers, which have one way each.
        target: Return that was asked for; None where the system asks for none.
        returns: Return of each episode.
        mean: Mean of the returns.
        std: Their standard deviation.
        normalised: 0 and 100 are the set's two reference scores; None where it has none.
    """

    updates: int
    mode: str
    target: float | None
    returns: list[float]
    mean: float
    std: float
    normalised: float | None


class Row(TypedDict):
    """One finished run.

    Attributes:
        label: Name of the system.
        class_name: Its class.
        dataset: Minari id.
        seed: Of weights and batches.
        updates: Of the whole training.
        seed_set: "evaluation" or "development"; which episodes were played.
        hyperparameters: All of them, defaults included.
        plan: The plan; see `zoo.tables.Plan`.
        hash: Of hyper-parameters and plan.
        parameters: Number of trained weights.
        mode: The system's own way to remember.
        wall_seconds: Of training.
        cpu_seconds: Of training, all threads.
        evaluation_seconds: Wall time of the evaluations.
        environment: Id of the environment.
        reference_scores: Returns that count as 0 and 100.
        data: SHA-256 of the data.
        versions: Of the packages that matter.
        machine: Class of machine.
        evaluations: Of all checkpoints, in order.
    """

    label: str
    class_name: str
    dataset: str
    seed: int
    updates: int
    seed_set: str
    hyperparameters: dict[str, Any]
    plan: dict[str, Any]
    hash: str
    parameters: int
    mode: str
    wall_seconds: float
    cpu_seconds: float
    evaluation_seconds: float
    environment: str
    reference_scores: list[float] | None
    data: str
    versions: dict[str, str]
    machine: str
    evaluations: list[Evaluation]


class Key(NamedTuple):
    """What makes two rows the same run."""

    label: str
    dataset: str
    seed: int
    updates: int

    @classmethod
    def of(cls, row: Row) -> Key:
        """The key of a row."""
        return cls(row["label"], row["dataset"], row["seed"], row["updates"])

    def __str__(self) -> str:
        """Says it in words."""
        return f"{self.label} on {self.dataset}, seed {self.seed}, {self.updates} updates"


def read_rows(path: Path) -> dict[Key, Row]:
    """Reads a file of rows; of two with the same key the later one counts.

    Raises:
        ValueError: A line is no row.
    """
    rows: dict[Key, Row] = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            row: Row = json.loads(line)
            key = Key.of(row)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no row ({error!r}): remove it") from error
        rows.pop(key, None)  # a later one stands where it was written
        rows[key] = row
    return rows


def append_row(path: Path, row: Row) -> None:
    """Adds a line to a file; after a crash it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if path.exists() else ""
    write_whole(path, before + json.dumps(row) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Replaces a file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def fingerprint(values: Mapping[str, Any]) -> str:
    """Twelve hex digits that change with any of the values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(old: Row, values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Says where a row's hyper-parameters and plan differ from those given.

    Args:
        old: The row.
        values: `hyperparameters` and `plan` as they are now.
    """
    said = []
    recorded = {"hyperparameters": old["hyperparameters"], "plan": old["plan"]}
    for part, now in values.items():
        then = recorded[part]
        for name in [*then, *(n for n in now if n not in then)]:
            before, after = then.get(name, "nothing"), now.get(name, "nothing")
            if before != after:
                said.append(f"{name} {before} -> {after}")
    return said


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds a lock file while the block runs; a process that dies lets go of it.

    Raises:
        ValueError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise ValueError(
                f"another benchmark (process {file.read().strip() or 'unknown'}) holds {path}: "
                "wait for it, stop it, or name other files with --output and --runs"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
