"""The study in-context as its page shows it: its figures are those of the rows that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.studies.in_context import FULL, facts, table
from zoo.studies.study import Row, read_rows

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "studies.md"
KEPT = REPOSITORY / "zoo" / "results" / "in-context.jsonl"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(read_rows(KEPT).values())


def test_lines_of_the_page_are_made_of_the_rows(rows: list[Row]) -> None:
    shown = PAGE.read_text().splitlines()
    made = table(rows).strip().splitlines()
    assert len(made) > 6 and set(made) <= set(shown)
    said = [line for line in facts(rows).splitlines() if line]
    assert len(said) > 2 and set(said) <= set(shown)


def test_returns_rise_where_the_page_says_so(rows: list[Row]) -> None:
    for row in rows:
        assert row["tasks"] and len(set(row["tasks"])) == len(row["tasks"]) == 16
        assert len(row["sampled"][0]) == 20
        rises = row["algorithm"] in ("DMHybrid", "AD-mamba")
        if rises and row["environment"] != "large-key-to-door":  # of which it says that they do not
            first, last = (sum(task[at] for task in row["sampled"]) for at in (0, -1))
            assert last > first, (row["environment"], row["algorithm"], row["seed"])
    seeds = {row["seed"] for row in rows if row["environment"] == "darkroom"}
    assert seeds == set(FULL["seeds"])
