"""`python -m zoo study NAME`: one question, a grid of small runs, a table and a picture."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from .benchmark_rows import write_whole
from .studies import (
    context_length,
    data_scaling,
    delayed_reward,
    goal_maze,
    in_context,
    model_scaling,
    recall,
)
from .studies.study import Row, Study, finished, hold, perform

STUDIES: Mapping[str, Study] = {
    "delayed-reward": delayed_reward,
    "goal-maze": goal_maze,
    "context-length": context_length,
    "model-scaling": model_scaling,
    "data-scaling": data_scaling,
    "in-context": in_context,
    "recall": recall,
}
RUNS = Path("runs") / "studies"

EXAMPLES = """\
A study changes one thing, holds the rest, and writes NAME.jsonl (a line for each finished cell of
its grid), NAME.md (the table) and NAME.png into its folder. What is in the lines is not run again:
repeat an interrupted command to go on, add seeds or sizes to it to enlarge the grid. A line counts
only for the options, hyper-parameters and data that it was measured with; others may stand in the
same file. Episodes are played from seed 900,000 on, where no recipe was chosen.

examples:
  what a study asks, and its options:
    python -m zoo study delayed-reward --help
  minutes on the shipped CartPole set:
    python -m zoo study delayed-reward --quick
  three more seeds for the same table:
    python -m zoo study delayed-reward --quick --seeds 0 1 2 3 4
  another set, system and length of training:
    python -m zoo study data-scaling --dataset sb3zoo/hopper/medium-v0 --algorithms DT --seeds 0
  other hyper-parameters than the tables':
    python -m zoo study delayed-reward --quick --set batch_size=32 remove_act_embs=false
  only write table and picture anew, of the cells that these options name:
    python -m zoo study delayed-reward --quick --table
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a subcommand for each study to the verb's parser."""
    names = parser.add_subparsers(dest="study", metavar="NAME", required=True)
    for name, study in STUDIES.items():
        each = names.add_parser(
            name,
            help=study.SUMMARY,
            description=f"{study.SUMMARY[0].upper()}{study.SUMMARY[1:]}",
            epilog=study.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add = each.add_argument
        add("--quick", action="store_true", help="a small grid and short runs: minutes")
        add("--output", type=Path, metavar="DIR", help=f"(default: {RUNS / name})")
        add("--table", action="store_true", help="only write the table and the picture anew")
        add("--nice", type=int, default=10, metavar="N", help="lower the priority (default: 10)")
        add("--quiet", action="store_true", help="show no progress")
        study.add_arguments(each)


def run(arguments: argparse.Namespace) -> None:
    """Measures what is not done yet, and writes the table and the picture.

    Raises:
        ValueError: An option is wrong, another process writes to the same file, or some cells
            failed (the others are shown all the same).
    """
    study: Study = STUDIES[arguments.study]
    fill(arguments, study.QUICK if arguments.quick else study.FULL)
    arguments.output = arguments.output or RUNS / arguments.study
    cells = list({cell.mark: cell for cell in study.cells(arguments)}.values())
    path = arguments.output / f"{arguments.study}.jsonl"
    with nullcontext() if arguments.table else hold(path):
        try:
            if not arguments.table:
                os.nice(arguments.nice)
                torch.set_num_threads(1)
                perform(cells, path, quiet=arguments.quiet)
        finally:
            rows = finished(cells, path)
            if rows:
                write_results(arguments.study, rows, len(cells), path)
    if not rows:
        raise ValueError(
            f"none of the {len(cells)} cells that these options name is in {path}: leave --table "
            "out to run them, or repeat the options that they were run with"
        )


def fill(arguments: argparse.Namespace, values: Mapping[str, Any]) -> None:
    """Gives options that were left out the study's values."""
    for name, value in values.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def write_results(name: str, rows: Sequence[Row], wanted: int, path: Path) -> None:
    """Writes table and picture beside the lines, and prints the table.

    Args:
        name: Of the study.
        rows: Finished cells.
        wanted: Number of cells that were asked for.
        path: The file of lines.
    """
    study, image = STUDIES[name], path.with_suffix(".png")
    text, shown = page(name, rows, wanted), ""
    try:
        study.draw(rows, image)
        shown = f"\n![{name}]({image.name})\n"
    except ImportError:
        print("no picture: it needs matplotlib, pip install 'decision-policies[plots]'")
    write_whole(path.with_suffix(".md"), text + shown)
    print(text + f"\nwritten: {path.with_suffix('.md')}")


def page(name: str, rows: Sequence[Row], wanted: int) -> str:
    """Words a study: its question, how it was run, and its table."""
    study = STUDIES[name]
    done = "" if len(rows) == wanted else f"{len(rows)} of {wanted} cells are done.\n"
    question = f"{study.SUMMARY[0].upper()}{study.SUMMARY[1:]}"
    return f"# {name}\n{question}\n\n{study.facts(rows)}{done}\n{study.table(rows)}"
