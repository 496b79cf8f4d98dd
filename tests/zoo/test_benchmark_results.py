"""The page of results: its figures equal those computed otherwise from the same rows."""

from __future__ import annotations

import itertools
import re
import statistics
from pathlib import Path

import numpy as np
import pytest

from zoo.benchmark_rows import Key, Row
from zoo.results_chart import draw_chart
from zoo.results_figures import make_cells, mode_means, overall
from zoo.results_page import Layout, page, usual_cells, write_page
from zoo.tables import MODES

from .benchmark_support import evaluation, row

# Returns of two episodes a seed; 0 and 200 count as 0 and 100.
A0 = [
    evaluation(10, [150.0, 170.0]),
    evaluation(10, [10.0, 20.0], 50.0),
    evaluation(20, [100.0, 120.0]),
    evaluation(20, [40.0, 44.0], 50.0),
    evaluation(20, [90.0, 90.0], mode="recurrent"),
    evaluation(20, [20.0, 20.0], mode="staggered"),
]
A1 = [
    evaluation(10, [190.0, 130.0]),
    evaluation(20, [80.0, 100.0]),
    evaluation(20, [60.0, 64.0], 50.0),
    evaluation(20, [70.0, 70.0], mode="recurrent"),
    evaluation(20, [40.0, 40.0], mode="staggered"),
]
ROWS = [row("A", "one", 0, A0), row("A", "one", 1, A1, wall_seconds=240.0)]
LAYOUT = Layout(labels=["A", "B"], datasets=["one", "two"])


def line(text: str, name: str) -> list[str]:
    [found] = [x for x in text.splitlines() if x.startswith(f"| {name} |")]
    return [entry.strip() for entry in found.strip("|").split("|")]


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_line_of_a_system_has_the_figures_of_its_rows() -> None:
    last = [100.0, 120.0, 80.0, 100.0]
    best = statistics.mean([150, 170, 190, 130])
    middle = [40.0, 44.0, 60.0, 64.0]
    assert line(section(page(ROWS, LAYOUT), "one"), "A") == [
        "A",
        f"**{statistics.mean(last):.0f} ± {statistics.pstdev(last):.0f}**",
        f"{statistics.mean(last) / 2:.1f}",
        f"{best:.0f} (10)",
        f"50: {statistics.mean(middle):.0f} ± {statistics.pstdev(middle):.0f}",
        "2",
        "20",
        "1,234",
        "1.5",
        "3.0",
    ]


def test_set_says_what_each_step_asks_for() -> None:
    whole = {"return_mode": "constant"}
    made = [row("A", "one", 0, [evaluation(20, [1.0, 2.0])], hyperparameters=whole)]
    assert "Each step asks for the whole episode's return." in section(page(made, LAYOUT), "one")
    silent = [row("A", "one", 0, [evaluation(20, [1.0, 2.0], None)])]
    assert "Each step asks" not in section(page(silent, LAYOUT), "one")


def test_what_was_not_run_is_said() -> None:
    text = page(ROWS, LAYOUT)
    assert line(section(text, "one"), "B")[1] == "not run"
    assert "No system has been run on two." in section(text, "Not run")
    without = Layout(LAYOUT.labels, LAYOUT.datasets, left_out=frozenset({("B", "one")}))
    assert "| B |" not in section(page(ROWS, without), "one")
    assert "Nothing has been run yet." in page([], LAYOUT)


def test_development_rows_are_no_results() -> None:
    assert "Nothing has been run yet" in page(
        [row("A", "x", 0, A0, seed_set="development")], LAYOUT
    )


def many(scores: dict[str, list[list[float]]]) -> list[Row]:
    """Rows of systems with a normalised score for each seed (outer) and set (inner)."""
    return [
        row(label, f"set-{index}", seed, [evaluation(9, [2 * score - 2, 2 * score + 2])])
        for label, by_seed in scores.items()
        for seed, by_set in enumerate(by_seed)
        for index, score in enumerate(by_set)
    ]


def test_overall_mean_is_that_of_the_middle_half() -> None:
    scores = {
        "A": [[10.0, 20.0, 30.0, 40.0], [50.0, 60.0, 70.0, 80.0]],
        "B": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]],
    }
    result = overall(make_cells(many(scores)))
    assert result is not None
    assert result.datasets == [f"set-{i}" for i in range(4)]
    assert result.seeds == [0, 1]
    mean, low, high = result.means["A"]
    assert mean == pytest.approx(statistics.mean([30, 40, 50, 60]))
    # Independently: all outcomes of drawing two seeds anew within each set, exactly.
    columns = list(zip(*scores["A"], strict=True))
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    outcomes = [
        np.sort([c[i] for c, pair in zip(columns, draw, strict=True) for i in pair])[2:-2].mean()
        for draw in itertools.product(pairs, repeat=4)
    ]
    assert low == pytest.approx(np.quantile(outcomes, 0.025), abs=2.5)
    assert high == pytest.approx(np.quantile(outcomes, 0.975), abs=2.5)
    assert line(section(page(many(scores), Layout()), "Over all sets"), "A") == [
        "A",
        f"{mean:.1f}",
        f"{low:.1f} to {high:.1f}",
    ]


def test_overall_compares_only_what_all_have() -> None:
    rows = many({"A": [[10.0, 20.0], [30.0, 40.0]], "B": [[1.0], [2.0]], "d3rlpy-DT": [[5.0]]})
    rows.append(row("d3rlpy-BC", "set-9", 0, [evaluation(9, [0.0, 0.0])]))
    cells = make_cells(rows)
    own = overall(cell for cell in cells if not cell.is_peer)
    assert own is not None and (own.datasets, own.seeds) == (["set-0"], [0, 1])
    assert own.means["A"][0] == pytest.approx(20.0)  # of seeds 10 and 30
    assert overall(cells) is None
    text = section(page(rows, Layout()), "Over all sets")
    assert "Our systems, on set-0 (all that each of them has); seeds 0, 1" in text
    assert "no set yet that the peers have been run on as well" in text


def test_a_peer_of_one_seed_is_left_out_of_the_comparison_and_named() -> None:
    two = {"A": [[10.0, 20.0], [30.0, 40.0]], "d3rlpy-BC": [[5.0, 6.0], [7.0, 8.0]]}
    text = section(page(many({**two, "d3rlpy-DT": [[1.0]]}), Layout()), "Over all sets")
    assert "on set-0, set-1 (all that each of them has); seeds 0, 1" in text
    assert "| d3rlpy-BC |" in text and "| d3rlpy-DT |" not in text
    assert "Of one seed on some set, and so left out: d3rlpy-DT." in text
    assert "left out" not in page(many(two), Layout())
    alone = many({"A": [[10.0, 20.0]], "d3rlpy-DT": [[1.0, 2.0]]})  # all have one seed
    assert "| d3rlpy-DT |" in section(page(alone, Layout()), "Over all sets")


def test_shorter_trainings_are_shown_but_not_compared() -> None:
    rows = [
        row("A", "one", 0, [evaluation(20, [20.0, 20.0])]),
        row("A", "one", 0, [evaluation(40, [60.0, 60.0])]),
        row("A", "one", 0, [evaluation(80, [90.0, 90.0])]),
    ]
    planned = Layout(planned={("A", "one"): 40})
    assert [cell.updates for cell in usual_cells(make_cells(rows), planned)] == [40]
    assert [cell.updates for cell in usual_cells(make_cells(rows), Layout())] == [80]
    text = section(page(rows, planned), "one")
    assert re.findall(r"\*\*(\d+) ± 0\*\*", text) == ["90", "60", "20"]
    assert line(section(page(rows, planned), "Over all sets"), "A")[1] == "30.0"


def test_modes_are_compared_at_the_last_checkpoint_and_the_own_one_is_bold() -> None:
    rows = [*ROWS, row("B", "one", 0, [evaluation(20, [1.0, 1.0])])]  # B was tried in one way only
    means = mode_means(make_cells(rows), MODES)
    assert list(means) == ["A"]
    assert means["A"] == pytest.approx(
        {"window": 50.0, "recurrent": 40.0, "staggered": 15.0, "sets": 1}
    )
    text = section(page(rows, LAYOUT), "Ways to remember")
    assert line(text, "A") == ["A", "**50.0**", "40.0", "15.0", "1"]


def test_way_to_act_on_a_set_is_named_and_that_on_most_sets_is_bold() -> None:
    usual = [row("A", name, 0, A0) for name in ("one", "two")]
    other = row("A", "three", 0, [evaluation(20, [1.0, 1.0], mode="staggered")], mode="staggered")
    text = page([*usual, other], Layout())
    assert "act by way of window." in section(text, "two")
    assert "act by way of staggered." in section(text, "three")
    assert line(section(text, "Ways to remember"), "A")[1] == "**55.0**"


def test_run_of_an_earlier_recipe_is_marked() -> None:
    text = page(ROWS, Layout(outdated=frozenset({Key.of(ROWS[1])})))
    assert line(section(text, "one"), "A †")
    assert "† Run by an earlier recipe" in text
    assert "†" not in page(ROWS, LAYOUT)


def test_system_that_asks_for_nothing_and_set_without_scores_leave_cells_empty() -> None:
    plain = [evaluation(20, [3.0, 5.0], None)]
    rows = [row("BC", "one", 0, plain, reference_scores=None)]
    text = page(rows, Layout())
    assert line(section(text, "one"), "BC")[1:5] == ["**4 ± 1**", "", "4 (20)", ""]
    assert "no set yet that every system has been run on" in text


def test_chart_is_drawn_where_there_are_scores(tmp_path: Path) -> None:
    cells = make_cells(many({"A": [[10.0, 20.0]], "B": [[30.0, 140.0]], "d3rlpy-DT": [[5.0]]}))
    assert draw_chart(cells, tmp_path / "new" / "chart.png")
    assert (tmp_path / "new" / "chart.png").read_bytes().startswith(b"\x89PNG")
    nothing = make_cells([row("A", "one", 0, A0, reference_scores=None)])
    assert not draw_chart(nothing, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_page_names_its_chart(tmp_path: Path) -> None:
    write_page(ROWS, Layout(chart="results/scores.png"), tmp_path / "RESULTS.md")
    assert "](results/scores.png)" in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "![" not in page(ROWS, LAYOUT)
