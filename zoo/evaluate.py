"""`python -m zoo evaluate`: plays episodes, and sets what was obtained against what was asked."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from decision_policies import evaluate_policy

from .acting import Actor, as_target, load_actor
from .acting import add_arguments as add_actor
from .benchmark_rows import write_whole
from .benchmark_run import SEED_SETS, evaluation, versions
from .collect import one_torch_thread
from .progress import progress_bar

EXAMPLES = f"""\
Episode i starts from seed --seed + i, whatever else is chosen; by default from
{SEED_SETS["evaluation"]} on, where no recipe and no best policy was chosen.

examples:
  the latest experiment, at the return that its training's evaluations asked for:
    python -m zoo evaluate --algo dema --env CartPole-v1
  a saved policy: does it do as it is told?
    python -m zoo evaluate dema-cartpole --target-return 100 250 500
  the best policy of experiment 2, remembering another way, with all figures in a file:
    python -m zoo evaluate --algo dema --env CartPole-v1 --exp-id 2 --load-best \\
      --inference recurrent --episodes 50 --output evaluation.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `evaluate` to its parser."""
    add_actor(parser, seed=SEED_SETS["evaluation"])
    add = parser.add_argument
    add("--episodes", type=int, default=20, metavar="N", help="for each return (default: 20)")
    text = "returns to ask for: numbers, max, p90, mean_top10 (default: as in training)"
    add("--target-return", type=as_target, nargs="+", metavar="R", help=text)
    add("--n-envs", type=int, default=10, metavar="N", help="environments at once (default: 10)")
    add("--output", type=Path, metavar="FILE", help="a JSON of all figures")
    add("--quiet", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> None:
    """Evaluates what the command line asks for; prints a table, and writes it if asked to.

    Raises:
        ValueError: It names nothing that there is, or nothing that can be judged so.
        OSError: There is no such checkpoint.
    """
    targets = arguments.target_return or [None]
    actor = load_actor(arguments, targets[0])
    if actor.policy.spec.memory == "lifetime":
        line = f"{arguments.program} in-context {arguments.name or 'FOLDER'}"
        raise ValueError(
            f"{type(actor.algorithm).__name__} remembers over episodes, so that its first ones say "
            f"little: `{line}` shows how it learns"
        )
    with one_torch_thread():
        rows = [_play(actor, asked, arguments) for asked in targets]
    print(f"{actor.name} in {actor.environment}: {_conditions(actor, arguments)}")
    print(table(rows))
    if arguments.output is not None:
        write_whole(arguments.output, json.dumps(_facts(actor, arguments, rows), indent=2) + "\n")
        print(f"written: {arguments.output}")


def _play(actor: Actor, asked: float | str | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """Plays the episodes of one target, in words and figures."""
    number = actor.asked() if asked is None else actor.number(asked)
    with progress_bar("evaluating", arguments.episodes, not arguments.quiet) as tick:
        episodes = evaluate_policy(
            actor.policy,
            lambda: actor.make(None),
            arguments.episodes,
            target_return=number,
            seed=arguments.seed,
            n_envs=arguments.n_envs,
            deterministic=actor.deterministic,
            on_episode=lambda: tick(1),
        )
    scores = actor.algorithm.source.reference_scores
    updates = actor.algorithm.num_timesteps
    words = evaluation(updates, actor.policy.inference, number, episodes, scores)
    return {**words, "lengths": episodes.lengths.tolist()}


def _conditions(actor: Actor, arguments: argparse.Namespace) -> str:
    n, first = arguments.episodes, arguments.seed
    how = "likeliest actions" if actor.deterministic else "sampled actions"
    return f"{n} episodes, seeds {first} to {first + n - 1}, {actor.policy.inference}, {how}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of evaluations: asked against obtained.

    Args:
        rows: As `evaluation` words them, with `lengths`.
    """
    scored = any(row["normalised"] is not None for row in rows)
    head = ["asked", "obtained", "lowest", "highest", "steps", *(["normalised"] if scored else [])]
    lines = [head]
    for row in rows:
        each = [
            "-" if row["target"] is None else f"{row['target']:g}",
            f"{row['mean']:.1f} ± {row['std']:.1f}",
            f"{min(row['returns']):.1f}",
            f"{max(row['returns']):.1f}",
            f"{sum(row['lengths']) / len(row['lengths']):.0f}",
        ]
        lines.append([*each, *([f"{row['normalised']:.1f}"] if scored else [])])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _facts(
    actor: Actor, arguments: argparse.Namespace, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """All that decided the figures, and the figures."""
    source = actor.algorithm.source
    return {
        "policy": arguments.name or actor.name,
        "class": type(actor.algorithm).__name__,
        "dataset": source.dataset,
        "environment": actor.environment,
        "first_seed": arguments.seed,
        "episodes": arguments.episodes,
        "deterministic": actor.deterministic,
        "reference_scores": source.reference_scores,
        "versions": versions(),
        "evaluations": list(rows),
    }
