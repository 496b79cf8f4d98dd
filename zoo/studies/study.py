"""What a study is: cells that are measured once, kept as lines of a file, and shown together."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from zoo.benchmark_rows import append_row, fingerprint, lock, write_whole
from zoo.benchmark_run import versions
from zoo.progress import Tick, progress_bar

Row: TypeAlias = dict[str, Any]
"""A finished cell: its names, its settings, and what was measured, in JSON types."""


@dataclass(frozen=True)
class Cell:
    """One measurement of a study, such as one training.

    Attributes:
        names: What tells it from the other cells, in JSON types; they become entries of its row.
        settings: Everything else that decides its result.
        measure: Measures; told how many units are done since it was last told.
        units: Units of work, for the progress bar.
        again: Whether to measure in spite of a row that is there; the new one takes its place.
    """

    names: Mapping[str, Any]
    settings: Mapping[str, Any]
    measure: Callable[[Tick], Row]
    units: int = 1
    again: Callable[[Row], bool] = lambda row: False

    @property
    def mark(self) -> str:
        """Twelve hex digits that are the same for the same measurement only."""
        return fingerprint({"names": dict(self.names), "settings": dict(self.settings)})

    def __str__(self) -> str:
        """Says it in words."""
        return ", ".join(f"{name} {value}" for name, value in self.names.items())


class Study(Protocol):
    """A study is a module with these names.

    Attributes:
        SUMMARY: What it asks, in a sentence.
        EXAMPLES: Commands, each with a line that says what it does.
        FULL: Values of options that are not given; None leaves them to the tables.
        QUICK: The same with `--quick`.
    """

    SUMMARY: str
    EXAMPLES: str
    FULL: Mapping[str, Any]
    QUICK: Mapping[str, Any]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the study's own options."""

    def cells(self, arguments: argparse.Namespace) -> list[Cell]:
        """Lists what is to be measured; a ValueError says what is wrong with the options."""

    def facts(self, rows: Sequence[Row]) -> str:
        """Says in a few sentences how the rows were made."""

    def table(self, rows: Sequence[Row]) -> str:
        """Words the rows, of which there is at least one, as a Markdown table."""

    def draw(self, rows: Sequence[Row], path: Path) -> None:
        """Draws them; an ImportError says that matplotlib is not installed."""


def read_rows(path: Path) -> dict[str, Row]:
    """Reads finished cells by their marks; of two with the same mark the later one counts.

    A line that is no row, such as one that was cut when a disk was full, is passed over with a
    warning: its cell is measured again.
    """
    rows: dict[str, Row] = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            row = json.loads(line)
            rows[row["mark"]] = row
        except (ValueError, KeyError, TypeError) as error:
            warnings.warn(
                f"{path}, line {number} is no row ({error!r}) and is passed over", stacklevel=2
            )
    return rows


def finished(cells: Sequence[Cell], path: Path) -> list[Row]:
    """Rows of those cells that are done, in the order of the cells."""
    rows = read_rows(path)
    return [rows[cell.mark] for cell in cells if cell.mark in rows]


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keeps other processes from writing to a file of rows while the block runs.

    Raises:
        ValueError: Another one does already.
    """
    with ExitStack() as held:
        try:
            held.enter_context(lock(path.with_name(f".{path.name}.lock")))
        except ValueError as error:
            raise ValueError(f"another study writes to {path}: give another --output") from error
        yield


def perform(cells: Sequence[Cell], path: Path, *, quiet: bool = False) -> None:
    """Measures the cells that are not in the file yet, and adds a line for each; `hold` it.

    Args:
        cells: What is asked for.
        path: The file.
        quiet: Show neither a progress bar nor, where there is no terminal, a line a cell.

    Raises:
        ValueError: Some cells failed; the others are in the file.
        KeyboardInterrupt: Ctrl-C; the finished cells are in the file.
    """
    _end_last_line(path)
    rows = read_rows(path)
    waiting = [c for c in cells if c.mark not in rows or c.again(rows[c.mark])]
    failed: dict[str, list[str]] = {}
    with progress_bar("cells", len(waiting), not quiet) as ahead:
        for number, cell in enumerate(waiting, 1):
            said = f"[{number}/{len(waiting)}] {cell}"
            try:
                row: Any = _measured(cell, quiet)
                append_row(path, row)
                said += f": {row['seconds']:.0f} s"
            except Exception as error:  # environments raise anything; the other cells go on
                failed.setdefault(f"{type(error).__name__}: {error}", []).append(str(cell))
                said += f": FAILED, {error}"
            ahead(1)
            if not quiet and not sys.stderr.isatty():
                print(said, flush=True)
    if failed:
        count = sum(len(some) for some in failed.values())
        reasons = [f"{error} (in {'; '.join(some)})" for error, some in failed.items()]
        raise ValueError(f"{count} of {len(waiting)} cells failed:\n" + "\n".join(reasons))


def _end_last_line(path: Path) -> None:
    """Keeps the next row from being written behind a line that was cut."""
    text = path.read_text() if path.exists() else ""
    if text and not text.endswith("\n"):
        write_whole(path, f"{text}\n")


def _measured(cell: Cell, quiet: bool) -> Row:
    start = time.perf_counter()
    with progress_bar(str(cell), cell.units, not quiet) as tick:
        result = cell.measure(tick)
    return {
        "mark": cell.mark,
        **cell.names,
        **result,
        "seconds": round(time.perf_counter() - start, 1),
        "settings": dict(cell.settings),
        "versions": versions(),
    }
