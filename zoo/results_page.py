"""Writes zoo/RESULTS.md out of the benchmark's rows; every figure of it comes from a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mode

import numpy as np

from .benchmark_rows import Key, Row
from .benchmark_run import SEED_SETS
from .results_figures import Cell, Overall, make_cells, mode_means, overall
from .tables import MODES, PEER_PREFIX

HEADER = """\
# Results
Written by `python -m zoo benchmark --table`; every figure comes from a line of
[results/benchmark.jsonl](results/benchmark.jsonl). Nothing here is taken from a paper.
"""

RULES = f"""\
## How to read it
- A figure is of the **last checkpoint**, unless a column says otherwise. The checkpoint that did
  best is shown as well, because scores swing between checkpoints; it is chosen after the fact, so
  it flatters, and no other figure is made from it.
- "Last" is the mean ± standard deviation of the return over all seeds and episodes, asking for the
  first target. "Middle" is what was obtained when the second target was asked for.
- "Normalised": 0 and 100 are the two reference scores that the set names for itself.
- Episodes start from seeds {SEED_SETS["evaluation"]:,} onwards, on which nothing is chosen. Recipes
  are chosen on seeds from {SEED_SETS["development"]:,} (`--seed-set development`).
- Systems act by the way to remember that their tables name. Behaviour cloning and the Q-learning
  peers are not told which return to reach.
- Time is of training one seed, without evaluations. CPU time is the fairer one: the machine may
  have had other work to do.
- d3rlpy's peers had the same data, updates, seeds, episodes and environments, and its defaults
  apart from what `zoo/hyperparameters/d3rlpy-*.yml` states. BC-10% of ours stands beside its BC.
"""

ASKED = {
    "constant": "the whole episode's return",
    "decrement": "the return still to go",
}
"""What a step asks for, by `return_mode`."""


@dataclass(frozen=True)
class Layout:
    """What the page shows beside what the rows hold.

    Attributes:
        labels: Systems in order; one without a row is "not run".
        datasets: Sets in order.
        planned: Updates that the tables want, by label and dataset; runs of another length are
            shown, but do not count in the overall comparison.
        left_out: Labels and datasets that do not belong together.
        outdated: Runs whose recipe differs from the tables as they are now.
        chart: Path of the chart as the page names it; None leaves it out.
    """

    labels: Sequence[str] = ()
    datasets: Sequence[str] = ()
    planned: Mapping[tuple[str, str], int] = field(default_factory=dict)
    left_out: frozenset[tuple[str, str]] = frozenset()
    outdated: frozenset[Key] = frozenset()
    chart: str | None = None


def write_page(rows: Iterable[Row], layout: Layout, path: Path) -> None:
    """Writes the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(rows, layout), encoding="utf-8")


def page(rows: Iterable[Row], layout: Layout) -> str:
    """Words the page.

    Args:
        rows: Finished runs, on evaluation seeds.
        layout: What to show beside them.
    """
    rows = [row for row in rows if row["seed_set"] == "evaluation"]
    if not rows:
        return HEADER + "\nNothing has been run yet.\n"
    cells = make_cells(rows)
    usual = usual_cells(cells, layout)
    parts = [HEADER + _what_was_run(rows)]
    if layout.chart is not None:
        parts.append(f"![Normalised scores of each system on each set]({layout.chart})\n")
    parts += [RULES, _overall_section(usual)]
    there = _in_order({cell.dataset for cell in cells}, layout.datasets)
    parts += [_dataset_section(name, cells, layout) for name in there]
    missing = [name for name in layout.datasets if name not in there]
    if missing:
        parts.append(f"## Not run\nNo system has been run on {', '.join(missing)}.\n")
    parts.append(_modes_section(usual))
    return "\n".join(parts)


def usual_cells(cells: Iterable[Cell], layout: Layout) -> list[Cell]:
    """One cell for a label and a dataset: of the planned length, else the longest."""
    best: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        key = (cell.label, cell.dataset)
        planned = layout.planned.get(key)
        if planned not in (None, cell.updates):
            continue
        if key not in best or best[key].updates < cell.updates:
            best[key] = cell
    order = _in_order({label for label, _ in best}, layout.labels)
    return sorted(best.values(), key=lambda cell: order.index(cell.label))


def _what_was_run(rows: Sequence[Row]) -> str:
    machines = sorted({row["machine"] for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    episodes = sorted({row["plan"]["episodes"] for row in rows})
    versions: dict[str, set[str]] = {}
    for row in rows:
        for name, number in row["versions"].items():
            versions.setdefault(name, set()).add(number)
    named = ", ".join(f"{name} {' and '.join(sorted(n))}" for name, n in sorted(versions.items()))
    return (
        f"\n{len(rows)} runs, training seeds {', '.join(map(str, seeds))}, "
        f"{' or '.join(map(str, episodes))} episodes an evaluation; on {'; '.join(machines)}. "
        f"{named}.\n"
    )


def _overall_section(cells: Sequence[Cell]) -> str:
    """Interquartile means: of our systems, and of all where that is another comparison."""
    own = overall(cell for cell in cells if not cell.is_peer)
    # A peer of a single seed would take the others' sets and intervals down to that seed's.
    peers = {cell.label for cell in cells if cell.is_peer}
    single = {cell.label for cell in cells if cell.is_peer and len(cell.seeds) == 1}
    few = single if single < peers else set()
    everything = overall(cell for cell in cells if cell.label not in few)
    text = (
        "## Over all sets\nInterquartile mean of the normalised scores, one a seed and set, with "
        "stratified bootstrap 95 % intervals\n(seeds are drawn anew within each set). With few "
        "seeds the interval says little about seeds that were not run.\n"
    )
    if own is None and everything is None:
        return text + "\nThere is no set yet that every system has been run on.\n"
    with_peers = everything is not None and (own is None or set(everything.means) != set(own.means))
    if own is not None and (everything is None or everything.datasets != own.datasets):
        text += _overall_table("Our systems", own)
    if everything is not None:
        text += _overall_table(
            "Our systems and d3rlpy's" if with_peers else "Our systems", everything
        )
    elif own is not None:
        text += "\nThere is no set yet that the peers have been run on as well.\n"
    return text + (
        f"\nOf one seed on some set, and so left out: {', '.join(sorted(few))}.\n" if few else ""
    )


def _overall_table(title: str, result: Overall) -> str:
    sets, seeds = ", ".join(result.datasets), ", ".join(map(str, result.seeds))
    ranked = sorted(result.means.items(), key=lambda item: -item[1][0])
    lines = [f"| {label} | {m:.1f} | {a:.1f} to {b:.1f} |" for label, (m, a, b) in ranked]
    head = "| system | interquartile mean | 95 % interval |\n|---|---|---|\n"
    return f"\n{title}, on {sets} (all that each of them has); seeds {seeds}:\n\n{head}" + (
        "\n".join(lines) + "\n"
    )


def _dataset_section(dataset: str, cells: Sequence[Cell], layout: Layout) -> str:
    here = [cell for cell in cells if cell.dataset == dataset]
    labels = _in_order({*layout.labels, *(cell.label for cell in here)}, layout.labels)
    asking = [cell for cell in here if cell.asks]
    first = here[0]
    facts = f"Environment {first.rows[0]['environment']}"
    if first.reference_scores is not None:
        low, high = first.reference_scores
        facts += f"; returns {low:g} and {high:g} count as 0 and 100"
    if asking:
        asked = [target for i in (0, 1) if (target := asking[0].target(i)) is not None]
        facts += f"; targets {' and '.join(f'{target:g}' for target in asked)}"
    given = {str(cell.rows[0]["hyperparameters"].get("return_mode")) for cell in asking}
    if asked_for := sorted(given & {*ASKED}):
        facts += f". Each step asks for {' or '.join(ASKED[way] for way in asked_for)}"
    if ways := sorted({cell.rows[0]["mode"] for cell in asking if not cell.is_peer}):
        facts += f". Our systems that are asked act by way of {' or '.join(ways)}"
    if first.rows[0]["plan"]["clip_rewards"]:
        facts += ". Targets count clipped rewards, returns raw ones"
    lines = [
        "| system | last | normalised | best checkpoint (flattering) | middle: asked, obtained "
        "| seeds | updates | parameters | CPU min | wall min |",
        "|---" * 10 + "|",
    ]
    outdated = False
    for label in labels:
        if (label, dataset) in layout.left_out:
            continue
        mine = sorted((c for c in here if c.label == label), key=lambda cell: -cell.updates)
        if not mine:
            lines.append(f"| {label} | not run |" + " |" * 8)
        for cell in mine:
            old = any(Key.of(row) in layout.outdated for row in cell.rows)
            outdated |= old
            lines.append(_line(cell, label + (" †" if old else "")))
    note = "\n† Run by an earlier recipe than the tables have now.\n" if outdated else ""
    return f"## {dataset}\n{facts}.\n\n" + "\n".join(lines) + "\n" + note


def _line(cell: Cell, name: str) -> str:
    """A line of a set's table."""
    last, (best, at) = cell.last(), cell.best()
    scores, middle = cell.scores(), cell.target(1)
    obtained = "" if middle is None else "not evaluated"
    if middle is not None and (each := cell.returns(middle)):
        pooled = np.concatenate(each)
        obtained = f"{middle:g}: {pooled.mean():.0f} ± {pooled.std():.0f}"
    entries = [
        name,
        f"**{last.mean():.0f} ± {last.std():.0f}**",
        "" if scores is None else f"{sum(scores.values()) / len(scores):.1f}",
        f"{best:.0f} ({at})",
        obtained,
        str(len(cell.rows)),
        str(cell.updates),
        f"{cell.rows[0]['parameters']:,}",
        f"{cell.mean_of(lambda row: row['cpu_seconds']) / 60:.1f}",
        f"{cell.mean_of(lambda row: row['wall_seconds']) / 60:.1f}",
    ]
    return "| " + " | ".join(entries) + " |"


def _modes_section(cells: Sequence[Cell]) -> str:
    """How the ways to remember compare, which decides each system's own."""
    found = mode_means([cell for cell in cells if not cell.is_peer], MODES)
    text = (
        "## Ways to remember\nMean normalised score at the last checkpoint, first target, by the "
        "way in which the same weights act:\nre-encoding the last steps (window), carrying a state "
        "(recurrent), or carrying two that restart in turn\n(staggered). The system's own way on "
        "most of these sets is bold."
    )
    if not found:
        return text + "\n\nNo system has been evaluated in all three ways yet.\n"
    own = {x: mode([c.rows[0]["mode"] for c in cells if c.label == x]) for x in found}
    lines = [f"| system | {' | '.join(MODES)} | sets |", "|---" * (len(MODES) + 2) + "|"]
    for label, means in found.items():
        each = [
            f"**{means[way]:.1f}**" if own[label] == way else f"{means[way]:.1f}" for way in MODES
        ]
        lines.append(f"| {label} | {' | '.join(each)} | {means['sets']:.0f} |")
    return text + "\n\n" + "\n".join(lines) + "\n"


def _in_order(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Sorts names by an order; those that it lacks come after it, peers last."""
    there = set(names)
    listed = [*(name for name in order if name in there), *sorted(there - set(order))]
    return sorted(listed, key=lambda name: name.startswith(PEER_PREFIX.rstrip(".")))
