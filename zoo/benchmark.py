"""`python -m zoo benchmark`: trains and evaluates a table of systems, sets and seeds; resumable."""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .benchmark_progress import Display, in_words, seconds_of, total_seconds
from .benchmark_rows import (
    Key,
    Row,
    append_row,
    differences,
    fingerprint,
    lock,
    read_rows,
    write_whole,
)
from .benchmark_run import SEED_SETS, Run, settings
from .peers_run import PeerRun
from .results_chart import draw_chart
from .results_figures import make_cells
from .results_page import Layout, usual_cells, write_page
from .tables import FOLDER, Recipe, Tables

ZOO = Path(__file__).parent
HOME = ZOO if (ZOO.parent / "pyproject.toml").is_file() else Path()
"""Where rows and page are: in the zoo of a clone; of an installed package, where it is run from."""
RESULTS, PAGE = HOME / "results", HOME / "RESULTS.md"
RUNS = Path("runs")

EXAMPLES = """\
A run is a system, a set and a seed. Finished runs are lines of results/benchmark.jsonl and are not
run again; an interrupted one goes on from its last checkpoint when the command is repeated. That
file and RESULTS.md are in zoo/ of a clone, and where there is no clone in the current folder.

examples:
  one system on one set, two seeds:
    python -m zoo benchmark --algorithms DeMa --datasets cartpole/mixed-v0 --seeds 0 1
  what is done, what is open, and how long it will take:
    python -m zoo benchmark --list
  try a recipe: choose on development seeds, never on those that are reported:
    python -m zoo benchmark --seed-set development --algorithms DeMa --updates 1000
  peers, after `make peers`:
    python -m zoo benchmark --algorithms d3rlpy-DT d3rlpy-BC
  only write RESULTS.md anew:
    python -m zoo benchmark --table
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `benchmark` to its parser."""
    add = parser.add_argument
    add("--algorithms", nargs="+", metavar="LABEL", help="labels of tables (default: all)")
    add("--datasets", nargs="+", metavar="ID", help="Minari ids (default: all in datasets.yml)")
    add("--seeds", nargs="+", type=int, default=[0, 1], metavar="N", help="(default: 0 1)")
    add("--updates", type=int, metavar="N", help="another length of training than the tables'")
    add("--redo", action="store_true", help="run what is done already again, and replace its row")
    add(
        "--seed-set",
        choices=list(SEED_SETS),
        default="evaluation",
        help="episodes to evaluate on; development seeds have a results file of their own, for "
        "choosing recipes (default: %(default)s)",
    )
    add("--list", action="store_true", help="say what is done and open, and run nothing")
    add("--table", action="store_true", help="only write RESULTS.md and its chart anew")
    add("--nice", type=int, default=10, metavar="N", help="lower the priority (default: 10)")
    add("--quiet", action="store_true", help="show no progress")
    add("--tables", type=Path, default=FOLDER, metavar="DIR", help="folder of tables")
    add("--output", type=Path, metavar="FILE", help="rows (default: results/benchmark.jsonl)")
    add("--page", type=Path, default=PAGE, metavar="FILE", help="(default: RESULTS.md)")
    add("--runs", type=Path, metavar="DIR", help="checkpoints (default: runs/benchmark)")


def run(arguments: argparse.Namespace) -> None:
    """Runs what the command line asks for.

    Raises:
        ValueError: A table, label or dataset is wrong, another benchmark is at work, or some runs
            failed (the others were done all the same).
    """
    development = arguments.seed_set == "development"
    name = "benchmark-development" if development else "benchmark"
    work = Benchmark(
        output=arguments.output or RESULTS / f"{name}.jsonl",
        runs=arguments.runs or RUNS / name,
        seed_set=arguments.seed_set,
    )
    tables = Tables.read(arguments.tables)
    failed: list[str] = []
    if not arguments.table:
        jobs = make_jobs(tables, arguments)
        if arguments.list:
            work.show(jobs)
            return
        os.nice(arguments.nice)
        torch.set_num_threads(1)
        failed = work.perform(jobs, redo=arguments.redo, quiet=arguments.quiet)
    if not development:
        write_results(read_rows(work.output), tables, arguments.page)
    if failed:
        raise ValueError("\n".join([f"{len(failed)} of {len(jobs)} runs failed:", *failed]))


def write_results(rows: Mapping[Key, Row], tables: Tables, path: Path) -> None:
    """Writes the page, and its chart beside it where matplotlib is installed."""
    layout = make_layout(rows, tables)
    chart = path.parent / "results" / "scores.png"
    try:
        drawn = draw_chart(usual_cells(make_cells(rows.values()), layout), chart)
    except ImportError:
        print("no chart: it needs matplotlib, pip install 'decision-policies[plots]'")
        drawn = chart.exists()
    shown = str(chart.relative_to(path.parent)) if drawn else None
    write_page(rows.values(), replace(layout, chart=shown), path)
    print(f"written: {path}")


def make_layout(rows: Mapping[Key, Row], tables: Tables) -> Layout:
    """Says what the page shows beside the rows: what the tables want."""
    pairs = [(label, name) for label in tables.labels for name in tables.datasets]
    recipes = {pair: tables.recipe(*pair) for pair in pairs if not tables.leaves_out(*pair)}
    marks = {pair: fingerprint(settings(recipe)) for pair, recipe in recipes.items()}
    return Layout(
        labels=tables.labels,
        datasets=tables.datasets,
        planned={pair: recipe.plan.updates for pair, recipe in recipes.items()},
        left_out=frozenset(pair for pair in pairs if pair not in recipes),
        outdated=frozenset(
            key
            for key, row in rows.items()
            if marks.get((key.label, key.dataset), row["hash"]) != row["hash"]
        ),
    )


@dataclass(frozen=True)
class Job:
    """A run that is asked for.

    Attributes:
        recipe: The system on the set.
        seed: The seed.
        usual: Whether it has as many updates as the tables say.
    """

    recipe: Recipe
    seed: int
    usual: bool = True

    @property
    def key(self) -> Key:
        """What makes it the same as another."""
        return Key(self.recipe.label, self.recipe.dataset, self.seed, self.recipe.plan.updates)

    @property
    def folder(self) -> Path:
        """Its folder below that of all runs."""
        name = f"{self.recipe.dataset.replace('/', '-')}-{self.seed}"
        suffix = "" if self.usual else f"-{self.recipe.plan.updates}-updates"
        return Path(self.recipe.label) / (name + suffix)


def make_jobs(tables: Tables, arguments: argparse.Namespace) -> list[Job]:
    """Lists the runs that are asked for: one seed of everything before the next seed of anything.

    Raises:
        ValueError: A table, label or dataset is wrong.
    """
    labels, datasets = arguments.algorithms or tables.labels, arguments.datasets or tables.datasets
    changes = {} if arguments.updates is None else {"updates": arguments.updates}
    recipes = [
        tables.recipe(label, dataset, **changes)
        for dataset in datasets
        for label in labels
        if not tables.leaves_out(label, dataset)
    ]
    if not recipes:
        raise ValueError("nothing to run: the tables of these systems leave these datasets out")
    return [Job(recipe, seed, not changes) for seed in arguments.seeds for recipe in recipes]


@dataclass(frozen=True)
class Benchmark:
    """Where the rows and the runs are.

    Attributes:
        output: File of rows.
        runs: Folder of the runs.
        seed_set: A key of `SEED_SETS`.
    """

    output: Path
    runs: Path
    seed_set: str = "evaluation"

    def perform(self, jobs: list[Job], *, redo: bool = False, quiet: bool = False) -> list[str]:
        """Runs what is not done yet, in order.

        Returns:
            What failed, in words; the other runs are done all the same.

        Raises:
            ValueError: Another benchmark is at work.
            KeyboardInterrupt: Ctrl-C; the same command goes on where it was.
        """
        with ExitStack() as held:
            held.enter_context(lock(self.output.with_name(f"{self.output.name}.lock")))
            held.enter_context(lock(self.runs / "lock"))
            rows = read_rows(self.output)
            waiting = [job for job in jobs if redo or job.key not in rows]
            display = Display(len(waiting), quiet)
            held.callback(display.close)
            for job in jobs:
                if not redo and job.key in rows:
                    self._compare(job, rows[job.key], display.say)
            failed: list[str] = []
            for index, job in enumerate(waiting):
                left = total_seconds([j.key for j in waiting[index:]], rows)
                display.begin(job.key, left)
                try:
                    rows[job.key] = self._finish(job, display)
                    display.end(summary(rows[job.key]))
                except Exception as error:  # environments and peers raise anything
                    trace = self.runs / job.folder / "error.txt"
                    write_whole(trace, traceback.format_exc())
                    failed.append(f"{job.key}: {type(error).__name__}: {error} ({trace})")
                    display.end(f"FAILED {failed[-1]}")
        return failed

    def show(self, jobs: list[Job]) -> None:
        """Prints what is done and what is open, with the time that it will take."""
        rows = read_rows(self.output)
        for job in jobs:
            if job.key in rows:
                print(f"done  {summary(rows[job.key])}")
                self._compare(job, rows[job.key], print)
            else:
                seconds = seconds_of(job.key, rows.values())
                begun = " (begun)" if (self.runs / job.folder / "run.json").exists() else ""
                print(f"open  {job.key}{begun}: {in_words(seconds)}")
        left = [job.key for job in jobs if job.key not in rows]
        time = f"; time left: {in_words(total_seconds(left, rows))}" if left else ""
        print(f"{len(jobs) - len(left)} of {len(jobs)} runs done{time}")

    def _finish(self, job: Job, display: Display) -> Row:
        kind = PeerRun if job.recipe.is_peer else Run
        work = kind(job.recipe, job.seed, self.runs / job.folder, self.seed_set, display.tick)
        if work.discarded:
            display.say(f"      {job.key} was begun by another recipe, and begins again")
        row = work.finish()
        append_row(self.output, row)
        work.mark_complete()
        return row

    def _compare(self, job: Job, row: Row, say: Callable[[str], None]) -> None:
        """Says where a finished run was made by another recipe than the tables have now."""
        now = settings(job.recipe)
        if fingerprint(now) != row["hash"]:
            changed = "; ".join(differences(row, now)) or "unknown"
            say(f"      {job.key} was run by another recipe ({changed}); --redo replaces it")


def summary(row: Row) -> str:
    """Says in a line what a run obtained at its last checkpoint."""
    last = [
        e for e in row["evaluations"] if e["updates"] == row["updates"] and e["mode"] == row["mode"]
    ]
    said = [
        f"{e['mean']:.0f} ± {e['std']:.0f}"
        + ("" if e["target"] is None else f" at {e['target']:g}")
        for e in last
    ]
    return f"{Key.of(row)}: {', '.join(said)} ({in_words(row['wall_seconds'])} of training)"
