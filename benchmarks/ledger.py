"""What the benchmarks have measured, row by row, and how it compares with what is stored."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FALLEN = 0.8
"""A row has fallen if its ratio is below this share of the stored one."""


@dataclass(frozen=True)
class Row:
    """Two sides that were measured in one run.

    Attributes:
        what: What was done.
        ours: Seconds of our side, of CPU time unless `what` says otherwise; or what `unit` says.
        peer: Name of the other side.
        theirs: The same of that side.
        spread: Quartiles of the rounds' ratios; None where a row has none.
        at_least: How many times as fast, or as small, we want to be; None where nothing is wanted.
        unit: "s", or any other in which less is better.
    """

    what: str
    ours: float
    peer: str
    theirs: float
    spread: tuple[float, float] | None = None
    at_least: float | None = None
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """How many times as fast, or as small, we are."""
        return self.theirs / self.ours

    def line(self) -> str:
        """Write the row of a Markdown table."""
        spread = "" if self.spread is None else " ({:.3g} to {:.3g})".format(*self.spread)
        wanted = verdict = ""
        if self.at_least is not None:
            wanted, verdict = f"{self.at_least:.3g}", "yes" if self.ratio >= self.at_least else "no"
        ours, theirs = (
            _time(value) if self.unit == "s" else f"{value:.3g} {self.unit}"
            for value in (self.ours, self.theirs)
        )
        times = f"{ours} | {self.peer} | {theirs}"
        return f"| {self.what} | {times} | {self.ratio:.3g}{spread} | {wanted} | {verdict} |"


HEAD = """\
| what | ours | peer | theirs | times as fast, small or exact (quartiles) | wanted | met |
|---|---|---|---|---|---|---|"""

_ROWS: list[Row] = []


def note(row: Row) -> None:
    """Take a row down."""
    _ROWS.append(row)


def rows() -> list[Row]:
    """List what has been taken down."""
    return list(_ROWS)


def write(path: Path, measured: list[Row], machine: dict[str, str]) -> None:
    """Keep rows as JSON."""
    value = {"machine": machine, "rows": [asdict(row) for row in measured]}
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def read(path: Path) -> list[Row]:
    """Read what `write` has kept."""
    stored = json.loads(path.read_text())["rows"]
    return [Row(**{**row, "spread": row["spread"] and tuple(row["spread"])}) for row in stored]


def fallen(measured: list[Row], stored: list[Row]) -> list[str]:
    """Name the rows whose ratio has fallen, or that are no longer measured, a line each."""
    now = {(row.what, row.peer): row for row in measured}
    lines = []
    for row in stored:
        found = now.get((row.what, row.peer))
        if found is None:
            lines.append(f"{row.what} against {row.peer}: no longer measured")
        elif found.ratio < FALLEN * row.ratio:
            change = f"{found.ratio:.3g} times as fast, was {row.ratio:.3g}"
            lines.append(f"{row.what} against {row.peer}: {change}")
    return lines


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
