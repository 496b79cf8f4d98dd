"""`python -m zoo targets`: asks a policy for little and for much, and draws what it obtains."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from decision_policies.analysis import draw_targets
from decision_policies.analysis.targets import TargetSweep, sweep_targets

from .acting import add_arguments as add_actor
from .acting import as_target, load_actor
from .benchmark_rows import write_whole
from .benchmark_run import SEED_SETS
from .collect import one_torch_thread
from .progress import progress_bar

EXAMPLES = """\
Which return should one ask for? Each is asked for on the same seeds; docs/returns.md says how to
read what comes of it.

examples:
  ten returns, from the lowest to the highest of the training data, and a picture:
    python -m zoo targets --algo dema --env CartPole-v1 --output targets.png
  returns of your own, 20 episodes each:
    python -m zoo targets dema-cartpole --ask 50 100 p90 max --episodes 20
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `targets` to its parser."""
    add_actor(parser, seed=SEED_SETS["evaluation"])
    add = parser.add_argument
    text = "returns to ask for: numbers, max, p90, mean_top10 (default: --number of them)"
    add("--ask", type=as_target, nargs="+", metavar="R", help=text)
    text = "returns, evenly from the data's lowest to its highest (default: 10)"
    add("--number", type=int, default=10, metavar="N", help=text)
    add("--episodes", type=int, default=10, metavar="N", help="for each return (default: 10)")
    add("--n-envs", type=int, default=10, metavar="N", help="environments at once (default: 10)")
    add("--output", type=Path, metavar="FILE", help="the picture; a JSON of its name lies beside")
    add("--quiet", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> None:
    """Sweeps over the returns that the command line asks for; prints, draws and writes them.

    Raises:
        ValueError: It names nothing that there is, or nothing that can be asked for.
        OSError: There is no such checkpoint, or a file cannot be written.
    """
    actor = load_actor(arguments)
    targets = arguments.ask or arguments.number
    total = arguments.episodes * (len(arguments.ask) if arguments.ask else arguments.number)
    with one_torch_thread(), progress_bar("asking", total, not arguments.quiet) as tick:
        sweep = sweep_targets(
            actor.policy,
            lambda: actor.make(None),
            targets,
            arguments.episodes,
            seed=arguments.seed,
            n_envs=arguments.n_envs,
            deterministic=actor.deterministic,
            on_episode=lambda: tick(1),
        )
    first, last = arguments.seed, arguments.seed + arguments.episodes - 1
    print(f"{actor.name} in {actor.environment}: seeds {first} to {last}, {actor.policy.inference}")
    if sweep.data is not None:
        print(f"training data: {sweep.data}")
    print(sweep)
    if arguments.output is not None:
        _write(sweep, arguments.output, arguments.seed)


def _write(sweep: TargetSweep, picture: Path, seed: int) -> None:
    """Writes the figures, and the picture where matplotlib is installed."""
    data = picture.with_suffix(".json")
    values = {
        "asked": sweep.asked.tolist(),
        "returns": sweep.returns.tolist(),
        "first_seed": seed,
        "best": sweep.best,
        "data": None if sweep.data is None else sweep.data.to_json(),
    }
    write_whole(data, json.dumps(values, indent=2) + "\n")
    print(f"written: {data}")
    try:
        draw_targets(sweep).savefig(picture)
    except ImportError as error:
        raise ValueError(str(error)) from error
    print(f"picture: {picture}")
