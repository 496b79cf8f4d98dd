"""`python -m zoo in-context`: lets saved policies meet unseen tasks, and draws how they improve."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import decision_policies
from decision_policies import Histories, SequenceAlgorithm, evaluate_in_context
from decision_policies.analysis import plot_in_context
from decision_policies.data.minari_histories import names_histories
from decision_policies.data.minari_source import load_minari
from decision_policies.in_context import InContextEvaluation
from zoo.acting import is_here
from zoo.benchmark_rows import write_whole
from zoo.collect import one_torch_thread
from zoo.histories import parse_options
from zoo.history_set import Split, make_environment, read_split, simulator_of
from zoo.progress import progress_bar

RUNS = Path("runs") / "in-context"
UNKNOWN = ", so tasks that are played may have been trained on"

EXAMPLES = """\
Each policy plays every task for many episodes on end, with the weights that it has: if it learns
in context, its returns rise. By default the tasks are those that its dataset held out. A PNG shows
mean return against episode; a JSON of the same name holds all returns.

examples:
  the policy that ships with the package, at two goals that it was not trained on:
    python -m zoo in-context hub/darkroom --env Darkroom-v0 --option observation=box \\
      --tasks 41 25 --sample
  the held-out tasks of the set that a policy was trained on:
    python -m zoo in-context runs/ad
  two policies in one picture, 50 episodes of each task:
    python -m zoo in-context runs/dm-h runs/ad --episodes 50 --output runs/dm-h-and-ad.png
  both arms of a T-maze with a longer corridor than in training:
    python -m zoo in-context runs/ad --env PassiveTMaze-v0 --option corridor_length=200 --tasks 0 1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `in-context` to its parser."""
    add = parser.add_argument
    text = "saved policies: folders of checkpoints, or names on the Hub"
    add("checkpoints", nargs="+", metavar="NAME", help=text)
    add(
        "--dataset",
        metavar="ID",
        help="Minari id, or folder, of a set of histories that names environment and tasks "
        "(default: what the policies were trained on)",
    )
    add("--env", metavar="ID", help="another environment than the set's; needs --tasks")
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument of --env, such as observation=box; may be repeated",
    )
    text = "numbers of tasks (default: those that the set holds out)"
    add("--tasks", type=int, nargs="+", metavar="N", help=text)
    add("--episodes", type=int, default=20, metavar="N", help="of each task (default: 20)")
    add("--seed", type=int, default=0, metavar="N", help="of starts and samples (default: 0)")
    add("--sample", action="store_true", help="sample actions rather than take the likeliest")
    add("--target-return", type=float, metavar="R", help="(default: each policy's own)")
    text = f"the picture (default: {RUNS}/NAMES.png)"
    add("--output", type=Path, metavar="FILE", help=text)
    add("--quiet", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> None:
    """Evaluates what the command line asks for; prints, draws and writes what came of it.

    Raises:
        ValueError: An option is wrong, or the tasks were seen in training.
        OSError: There is no such checkpoint.
    """
    policies = load_policies(arguments.checkpoints)
    split = choose_tasks(arguments, policies)
    output = arguments.output or RUNS / f"{'-and-'.join(policies).replace(os.sep, '-')}.png"
    if output.suffix != ".png":
        raise ValueError(f"--output {output} is no PNG: end its name in .png")
    found: dict[str, InContextEvaluation] = {}
    with closing(make_environment(split.env_id, split.options)) as env, one_torch_thread():
        simulator = simulator_of(env)
        total = arguments.episodes * len(split.held_out)
        for name, algorithm in policies.items():
            with progress_bar(name, total, not arguments.quiet) as tick:
                found[name] = evaluate_in_context(
                    algorithm,
                    simulator,
                    split.held_out,
                    arguments.episodes,
                    seed=arguments.seed,
                    deterministic=not arguments.sample,
                    target_return=arguments.target_return,
                    trained_on=split.train,
                    on_episode=lambda tick=tick: tick(1),  # type: ignore[misc]
                )
            policy = algorithm.policy
            forgets = policy is not None and policy.spec.memory == "episode"
            print(f"{name}: {found[name]}{'; forgets between episodes' if forgets else ''}")
        descriptions = [simulator.describe(task) for task in split.held_out]
    write_results(found, output, facts(arguments, split) | {"descriptions": descriptions})


def load_policies(places: list[str]) -> dict[str, SequenceAlgorithm]:
    """Loads algorithms by the names of their folders, with what differs above where they agree."""
    whole = [Path(place).resolve() for place in places]
    names = [folder.name for folder in whole]
    if len(set(names)) < len(names):
        names = [str(folder.relative_to(os.path.commonpath(whole))) for folder in whole]
    if len(set(names)) < len(names):
        raise ValueError("a checkpoint is named twice")
    return {name: decision_policies.load(place) for name, place in zip(names, places, strict=True)}


def choose_tasks(arguments: argparse.Namespace, policies: Mapping[str, SequenceAlgorithm]) -> Split:
    """The environment; its tasks to play, as `held_out`; and those seen in training, as `train`.

    Raises:
        ValueError: It is not clear which.
    """
    if arguments.env is not None:
        if arguments.dataset is not None or not arguments.tasks:
            raise ValueError("--env takes the place of --dataset, and needs --tasks")
        options = parse_options(arguments.option)
        seen = _seen_in_training(arguments.env, options, policies)
        return Split(arguments.env, options, seen, arguments.tasks)
    if arguments.option:
        raise ValueError("--option belongs to --env; a set of histories names its own options")
    dataset = _dataset(arguments.dataset or _trained_on(policies))
    split = read_split(dataset)
    for name, algorithm in policies.items():
        _say_where_it_differs(name, algorithm, dataset)
    tasks = arguments.tasks or split.held_out
    if not tasks:
        raise ValueError("the set holds no task out: name --env and --tasks to play others")
    return replace(split, held_out=tasks)


def _seen_in_training(
    env_id: str, options: Mapping[str, Any], policies: Mapping[str, SequenceAlgorithm]
) -> list[int]:
    """The tasks of an environment that policies learnt from, by their sets, where these are here.

    Says of each other policy that it is not known.
    """
    seen: list[int] = []
    for name, algorithm in policies.items():
        dataset = algorithm.source.dataset
        if dataset is None or not is_here(dataset):
            called = "its training set" if dataset is None else repr(dataset)
            print(f"{name}: {called} is not here{UNKNOWN}")
        elif names_histories(load_minari(dataset)):
            split = read_split(dataset)
            if _world(split.env_id, split.options) == _world(env_id, options):
                seen += split.train
            _say_where_it_differs(name, algorithm, dataset)
    return seen


def _world(env_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What tells the tasks of an environment from those of another: not how they are observed."""
    with closing(make_environment(env_id, options)) as env:
        simulator = simulator_of(env)
    told = {"kind": type(simulator).__name__, **vars(simulator)}
    untold = {"observation", "horizon", "time", "penalty"}
    return {k: x for k, x in told.items() if isinstance(x, (int, str)) and k not in untold}


def _say_where_it_differs(name: str, algorithm: SequenceAlgorithm, dataset: str | Path) -> None:
    """Says that a set is not the one that a policy was trained on, though it has its name."""
    histories = Histories.from_minari(dataset)
    own = {histories.trajectories.source.digest}
    if not histories.held_out.all():
        own.add(histories.train.trajectories.source.digest)
    if histories.trajectories.source.dataset == algorithm.source.dataset:
        if algorithm.source.digest not in own:
            print(f"{name}: {dataset} is not what it was trained on, or not all of it{UNKNOWN}")
    else:
        print(f"{name}: it was trained on {algorithm.source.dataset!r}, not on {dataset}{UNKNOWN}")


def _dataset(word: str) -> str | Path:
    return Path(word) if Path(word).is_dir() else word


def _trained_on(policies: Mapping[str, SequenceAlgorithm]) -> str:
    """The one dataset that all policies were trained on."""
    named = {algorithm.source.dataset for algorithm in policies.values()}
    dataset = named.pop()
    if named or dataset is None:
        raise ValueError(
            "the checkpoints do not name one set that all were trained on: name it with --dataset"
        )
    if not is_here(dataset):  # nor is it fetched because a checkpoint names it
        raise ValueError(
            f"{dataset!r}, which the policies were trained on, is not here: name what to play by "
            "--env, --option and --tasks (`in-context hub/darkroom --env Darkroom-v0 --option "
            "observation=box --tasks 41 25`); or make the set, or fetch it"
        )
    return dataset


def facts(arguments: argparse.Namespace, split: Split) -> dict[str, Any]:
    """What decided the returns, beside the policies."""
    return {
        "env": split.env_id,
        "options": dict(split.options),
        "tasks": split.held_out,
        "episodes": arguments.episodes,
        "seed": arguments.seed,
        "sample": arguments.sample,
        "target_return": arguments.target_return,
    }


def write_results(
    found: Mapping[str, InContextEvaluation], picture: Path, said: Mapping[str, Any]
) -> None:
    """Writes the returns as JSON, and the picture beside them where matplotlib is installed.

    Args:
        found: Evaluations by name, of the same tasks and episodes.
        picture: The PNG; the JSON has its name.
        said: What else to write.
    """
    one = next(iter(found.values()))
    assert one.optimal is not None, "simulators know what is optimal"
    values = {
        **said,
        "random": one.random,
        "optimal": one.optimal.tolist(),
        "returns": {name: evaluation.returns.tolist() for name, evaluation in found.items()},
    }
    data = picture.with_suffix(".json")
    write_whole(data, json.dumps(values) + "\n")
    print(f"random actions {one.random:.3g}, optimum {one.optimal.mean():.3g}; written: {data}")
    try:
        plot_in_context(found).savefig(picture)
        print(f"picture: {picture}")
    except ImportError:
        print("no picture: it needs matplotlib, pip install 'decision-policies[plots]'")
