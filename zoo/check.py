"""`python -m zoo check`: says whether a dataset can be learnt from, and what it is like."""

from __future__ import annotations

import argparse
from pathlib import Path

from decision_policies import Trajectories, check_dataset
from decision_policies.analysis import draw_returns

EXAMPLES = """\
Everything is read as training would read it. The first thing that cannot be learnt from ends the
check, with the number of its episode and step; what deserves a look is listed at the end.

examples:
  a set that ships with the package:
    python -m zoo check cartpole/mixed-v0
  a dataset's folder, and a histogram of its returns:
    python -m zoo check ~/.minari/datasets/mujoco/hopper/medium-v0 --picture returns.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `check` to its parser."""
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a Minari id, a dataset's folder, or a D4RL-style file")
    add("--picture", type=Path, metavar="FILE", help="draw a histogram of the returns")


def run(arguments: argparse.Namespace) -> None:
    """Checks the dataset that the command line names, and prints the report.

    Raises:
        ValueError: It cannot be learnt from.
        OSError: The picture cannot be written.
    """
    path = Path(arguments.dataset).expanduser()
    if path.is_file():
        report = check_dataset(Trajectories.from_d4rl(path))
    else:
        report = check_dataset(path if path.is_dir() else arguments.dataset)
    print(report)
    if arguments.picture is None:
        return
    try:
        draw_returns(report).savefig(arguments.picture)
    except ImportError as error:
        raise ValueError(str(error)) from error
    print(f"\npicture: {arguments.picture}")
