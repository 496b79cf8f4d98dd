"""context-length: time, memory and score of systems whose context is longer and longer."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zoo.benchmark_run import environment_of, machine, read_data
from zoo.progress import Tick

from . import report, training
from .one_context import Plan, idle_memory, in_a_process
from .study import Cell, Row
from .training import Training, score

SUMMARY = "what does a longer context cost in time and memory, and what does it bring?"
EXAMPLES = """\
Time and memory are of random data: one torch thread, CPU time of the fastest call, each system and
context in a process of its own; another class of machine measures them anew. DeMa-rnn carries its
state along the trajectory (a context is a segment of it), DeMa and DT see independent windows.
"window" re-encodes the context at each predict, "recurrent" carries a state (DT: its keys and
values).

examples:
  short contexts and a small model:
    python -m zoo study context-length --quick
  as far as the paper, at its width:
    python -m zoo study context-length --contexts 5 10 20 50 100 200 500 --width 128
  with the score that each context reaches after a short training:
    python -m zoo study context-length --quick --score
"""
FULL: Mapping[str, Any] = {
    "dataset": "cartpole/mixed-v0",
    "algorithms": ["DeMa-rnn", "DeMa", "DT"],
    "seeds": [0, 1, 2],
    "contexts": [5, 10, 20, 50, 100, 200],
    "width": 64,
    "layers": 3,
    "batch": 64,
    "repeats": 21,
}
QUICK: Mapping[str, Any] = {
    **FULL,
    "seeds": [0, 1],
    "updates": 300,
    "width": 32,
    "batch": 16,
    "repeats": 11,
}
SYSTEMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "DeMa-rnn": ("DeMa", {"kind": "rnn", "balance_returns": False}),
    "DeMa": ("DeMa", {}),
    "DT": ("DT", {}),
}
MEASURES = {
    "forward": "forward pass of a batch, ms",
    "update": "training update, ms",
    "window": "predict, window, ms",
    "recurrent": "predict, recurrent, ms",
    "memory": "peak memory, MiB",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of training, and the sizes of what is timed."""
    training.add_arguments(parser, "width")
    add = parser.add_argument
    add("--contexts", nargs="+", type=int, metavar="K", help="in steps (default: 5 to 200)")
    add("--layers", type=int, metavar="N", help="number of blocks (default: 3)")
    add("--batch", type=int, metavar="B", help="windows in a batch")
    add("--repeats", type=int, metavar="N", help="timed calls, of which the fastest counts")
    add("--score", action="store_true", help="train and play as well, on --dataset")
    parser.set_defaults(observation=11, action=3)  # the sizes of D4RL's Hopper


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """A process for each system and context, and with `--score` a training for each seed."""
    for name in arguments.algorithms:
        if name not in SYSTEMS:
            raise ValueError(f"this study knows {', '.join(SYSTEMS)}; got {name!r}")
    if arguments.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {arguments.repeats}")
    pairs = [(name, k) for k in arguments.contexts for name in arguments.algorithms]
    found = [_timing(name, k, arguments) for name, k in pairs]
    for seed in arguments.seeds if arguments.score else ():
        for name, context in pairs:
            label, changes = SYSTEMS[name]
            recipe = training.make_recipe(
                arguments,
                label,
                **changes,
                context_length=context,
                n_layers=arguments.layers,
                batch_size=arguments.batch,
            )
            work = Training(recipe, seed)
            names = {"algorithm": name, "K": context, "measured": "score", "seed": seed}
            found.append(Cell(names, work.settings, partial(_play, work), recipe.plan.updates))
    return found


def _play(work: Training, tick: Tick) -> Row:
    return work.run(read_data(work.recipe), environment_of(work.recipe), tick)


def _timing(name: str, context: int, arguments: argparse.Namespace) -> Cell:
    label, changes = SYSTEMS[name]
    hyper = training.chosen(
        arguments,
        **changes,
        context_length=context,
        n_layers=arguments.layers,
        batch_size=arguments.batch,
    )
    training.check(name, label, hyper)
    plan: Plan = {
        "class_name": label,
        "hyperparameters": hyper,
        "observation": arguments.observation,
        "action": arguments.action,
        "repeats": arguments.repeats,
    }
    names = {"algorithm": name, "K": context, "measured": "cost"}
    return Cell(names, {**plan, "machine": machine("cpu")}, partial(_cost, plan))


def _cost(plan: Plan, tick: Tick) -> Row:
    found = in_a_process(plan)
    idle = idle_memory(plan["class_name"], plan["observation"], plan["action"])
    memory = round(found.pop("peak") - idle, 1)
    tick(1)
    costs = {name: round(value, 3) for name, value in found.items()}
    return {**costs, "memory": memory}


def facts(rows: Sequence[Row]) -> str:
    """Says how times and memory were measured, and how scores were obtained, if they were."""
    costs = [row for row in rows if row["measured"] == "cost"]
    said = ""
    if costs:
        plan = costs[0]["settings"]
        hyper = plan["hyperparameters"]
        said = (
            f"Random data ({plan['observation']} observations, {plan['action']} actions), width "
            f"{hyper['d_model']}, {hyper['n_layers']} layers, batches of {hyper['batch_size']}; "
            f"CPU time of the fastest of {plan['repeats']} calls, {plan['machine']}; peak memory "
            "is of training, over that of an idle process.\n"
        )
    trained = [row for row in rows if row["measured"] == "score"]
    return said + (f"Scores: {report.training_facts(trained)}" if trained else "")


def table(rows: Sequence[Row]) -> str:
    """Times, memory and, where it was asked for, score of each system at each context."""
    scored = any(row["measured"] == "score" for row in rows)
    lines = []
    for (context, name), mine in report.grouped(rows, "K", "algorithm").items():
        cost = next((row for row in mine if row["measured"] == "cost"), None)
        entries = ["" if cost is None else _three(cost[key]) for key in MEASURES]
        scores = [score(row) for row in mine if row["measured"] == "score"]
        last = [report.over_seeds(scores, 1) if scores else ""] if scored else []
        lines.append([str(context), name, *entries, *last])
    head = ["K", "system", *MEASURES.values(), *(["score"] if scored else [])]
    return report.markdown(head, lines)


def _three(value: float) -> str:
    """Says a number with about three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Forward pass, update, predict and memory over the context; score where there is one."""
    scored = any(row["measured"] == "score" for row in rows)
    lines = 2 + scored
    with report.picture(path, lines, 2, (7.6, 2.6 * lines)) as axes:
        contexts = sorted(report.different(rows, "K"))
        for index, ((name,), mine) in enumerate(report.grouped(rows, "algorithm").items()):
            _draw_system(axes, name, mine, report.PALETTE[index % len(report.PALETTE)])
        for ax, title in zip(axes, TITLES, strict=False):
            report.dress(ax, title, "context, in steps")
            ax.set_xscale("log")
            ax.set_xticks(contexts, [str(context) for context in contexts])
            ax.minorticks_off()
        for ax in axes[:4]:
            report.log_scale(ax)
        axes[0].legend(fontsize=8, frameon=False)
        axes[2].text(0.03, 0.9, "solid: recurrent, dashed: window", transform=axes[2].transAxes)
        if scored:
            report.from_zero(axes[4])
        for ax in axes[4 + scored :]:
            ax.set_visible(False)


TITLES = (
    "forward pass of a batch, ms",
    "training update, ms",
    "predict in one environment, ms",
    "peak memory of training, MiB",
    "score",
)


def _draw_system(axes: Sequence[Any], name: str, rows: Sequence[Row], colour: str) -> None:
    costs = sorted((row for row in rows if row["measured"] == "cost"), key=lambda row: row["K"])
    shown = (("forward", 0, "-"), ("update", 1, "-"), ("recurrent", 2, "-"), ("window", 2, "--"))
    for key, panel, style in (*shown, ("memory", 3, "-")):
        contexts, values = [row["K"] for row in costs], [row[key] for row in costs]
        look: dict[str, Any] = {"marker": "o", "markersize": 4, "color": colour, "label": name}
        axes[panel].plot(contexts, values, style, **look)
    trained = report.grouped((row for row in rows if row["measured"] == "score"), "K")
    if trained:
        points = [(k, [score(row) for row in some]) for (k,), some in trained.items()]
        report.line_over_seeds(axes[4], points, colour, name)
