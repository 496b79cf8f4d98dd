"""`python -m zoo tune`: searches hyper-parameters by optuna, in one process or several."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import torch
import yaml

from decision_policies import Histories, Trajectories
from decision_policies.algorithms import BY_NAME
from decision_policies.errors import TrainingDivergedError

from .benchmark_rows import write_whole
from .experiments import safe_name
from .progress import progress_bar, say
from .studies.report import PALETTE, dress, picture
from .tables import Recipe
from .train import hyperparams
from .training_run import CHOOSING, FRESH, learn_until
from .training_setup import Judge, Subject, choose_recipe
from .tuning_space import SPACE, USUAL, choose, draw

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

    from .tuning import SharedStudy

TUNING = 500_000
"""Seed of the first episode of each evaluation here."""


def _lines(names: Iterable[str]) -> str:
    return fill(", ".join(names), 96, initial_indent="  ", subsequent_indent="  ")


EXAMPLES = f"""\
A trial is a training with values that optuna draws (TPE) in the place of the table's. It is
evaluated on the way, on the same episodes as every other, from seed {TUNING} on: not those by which
`train` chooses ({CHOOSING} on), nor those that results are reported on ({FRESH} on). A trial below
the median of the others at the same update is stopped. Its value is the mean return of its last
evaluation.

The same command in a second terminal works at the same study: --trials counts those of all
processes. After Ctrl-C, or whatever ended a process, the same command goes on: a trial that was cut
off is run again from its beginning, with the values that it had. The storage is a file of JSON
lines, optuna's journal: no database, and locks that end with the process that holds them. All
processes need to be on one machine.

Beside it are left: a table of the best values, <study>.yml, which `train --conf-file` takes, and a
picture of the values of all trials, <study>.png.

These can be searched:
{_lines(SPACE)}
The usual ones are
{_lines(USUAL)}

examples:
  the shipped CartPole set, some minutes:
    python -m zoo tune --algo dema --dataset cartpole/mixed-v0 --trials 20 -n 300
  train with the best values:
    python -m zoo train --algo dema --dataset cartpole/mixed-v0 \\
      --conf-file tuning/dema-cartpole-mixed-v0.yml
  two hyper-parameters only, others as given or as the table says; in two terminals:
    python -m zoo tune --algo dt --dataset cartpole/mixed-v0 --search learning_rate dropout \\
      --hyperparams d_model=32 --study-name dt-rates
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tune` to its parser."""
    add = parser.add_argument
    text = "label of a table in zoo/hyperparameters, or a class; in any case"
    add("--algo", "--algorithm", required=True, metavar="NAME", help=text)
    add("--dataset", required=True, metavar="ID", help="Minari id, or a dataset's folder")
    text = "environment to evaluate in (default: the one that the dataset records)"
    add("--env", metavar="ID", help=text)
    text = "of the study in all, over all processes (default: 20)"
    add("--trials", type=_positive, default=20, metavar="N", help=text)
    text = "drawn at random before the search begins, and not stopped early (default: 5)"
    add("--startup-trials", type=_positive, default=5, metavar="N", help=text)
    text = "gradient updates of a trial (default: the table's)"
    add("-n", "--n-timesteps", type=_positive, metavar="N", help=text)
    add("--evaluations", type=_positive, default=4, metavar="N", help="of a trial (default: 4)")
    text = "episodes of an evaluation, of each task for sets of histories (default: the table's)"
    add("--eval-episodes", type=_positive, metavar="N", help=text)
    text = "hyper-parameters to search (default: the usual ones, below)"
    add("--search", nargs="+", metavar="NAME", help=text)
    text = "values for all trials, such as d_model=64"
    add("-params", "--hyperparams", nargs="+", default=[], metavar="NAME=VALUE", help=text)
    text = "of draws, weights and batches (default: 0)"
    add("--seed", type=int, default=0, metavar="N", help=text)
    add("--study-name", metavar="NAME", help="(default: made of system and dataset)")
    text = "the journal (default: tuning/<study>.journal)"
    add("--storage", type=Path, metavar="FILE", help=text)
    add("--device", default="auto", metavar="NAME", help="cpu, cuda, ... (default: a GPU if any)")
    add("--num-threads", type=_positive, default=1, metavar="N", help="of torch (default: 1)")
    add("--quiet", action="store_true", help="print the table only")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


@dataclass(frozen=True)
class Objective:
    """What a trial is: a training and its evaluations.

    Attributes:
        recipe: The system, with the values that are the same in all trials.
        data: What is learnt from.
        judge: Plays the episodes.
        seed: Of weights and batches.
        device: Where to compute.
        shown: Whether to show a bar.
    """

    recipe: Recipe
    data: Trajectories | Histories
    judge: Judge
    seed: int
    device: str
    shown: bool

    def __call__(self, trial: Trial, values: Mapping[str, Any]) -> float | None:
        """Trains and evaluates; None where the trial is stopped early.

        Raises:
            KeyboardInterrupt: Ctrl-C.
        """
        plan = self.recipe.plan
        given = {**self.recipe.hyperparameters, **values, "seed": self.seed, "device": self.device}
        algorithm = BY_NAME[self.recipe.class_name](**given)
        with progress_bar(f"trial {trial.number}", plan.updates, self.shown) as tick:
            for stop in plan.checkpoints():
                try:
                    learn_until(stop, plan.updates, algorithm, self.data, tick)
                except TrainingDivergedError:
                    return None
                policy = algorithm.policy
                assert policy is not None, "it has been trained"
                asked = plan.targets[0] if policy.spec.uses_returns else None
                played = self.judge(policy, plan.episodes, TUNING, asked, lambda: None)
                trial.report(played.mean, stop)
                if stop < plan.updates and trial.should_prune():
                    return None
        return float(played.mean)


def run(arguments: argparse.Namespace) -> None:
    """Runs trials until the study has as many as were asked for, and says what came of it.

    Raises:
        ValueError: An option is wrong, or optuna is missing.
        KeyboardInterrupt: Ctrl-C; the same command goes on.
    """
    if find_spec("optuna") is None:
        raise ValueError("optuna is missing: pip install 'decision-policies[tuning]'")
    objective, study = prepare(arguments)
    before = torch.get_num_threads()
    torch.set_num_threads(arguments.num_threads)
    try:
        while (trial := study.claim(arguments.trials)) is not None:
            try:
                value = objective(trial, draw(trial, study.search))
            except BaseException:
                study.leave(trial)
                raise
            study.tell(trial, value)
            if not arguments.quiet:
                say(f"trial {trial.number}: {_value(value)}, {_words(trial.params)}")
    except KeyboardInterrupt:
        print(f"{len(study.finished())} of {arguments.trials} trials; the same command goes on")
        raise
    finally:
        torch.set_num_threads(before)
    report(study, objective.recipe, arguments)


def prepare(arguments: argparse.Namespace) -> tuple[Objective, SharedStudy]:
    """Puts together what the options say, and joins or begins the study.

    Raises:
        ValueError: An option is wrong, or there is no environment to evaluate in.
    """
    from .tuning import SharedStudy

    subject, fixed = Subject.of(arguments.dataset), hyperparams(arguments.hyperparams)
    options = {"updates": arguments.n_timesteps, "episodes": arguments.eval_episodes}
    changes = {name: value for name, value in options.items() if value is not None}
    recipe, _ = choose_recipe(arguments.algo, subject, fixed, **changes)
    kind = BY_NAME[recipe.class_name]
    search = choose(kind, arguments.search, fixed)
    every = max(1, recipe.plan.updates // arguments.evaluations)
    recipe = replace(recipe, plan=replace(recipe.plan, evaluate_every=every))
    judge = subject.judge(recipe, arguments.env)
    if judge is None:
        raise ValueError(f"{subject.id} records no environment: name one by --env")
    settings = {
        "class": recipe.class_name,
        "dataset": subject.id,
        "environment": judge.name,
        "hyperparameters": dict(recipe.hyperparameters),
        "plan": recipe.plan.to_json(),
        "search": search,
        "seed": arguments.seed,
        "startup_trials": arguments.startup_trials,
    }
    name = safe_name(arguments.study_name or f"{recipe.label.lower()}-{subject.id}")
    study = SharedStudy(
        storage=arguments.storage or Path("tuning") / f"{name}.journal",
        name=name,
        settings=settings,
        search=search,
        seed=arguments.seed,
        startup=arguments.startup_trials,
    )
    objective = Objective(
        recipe=recipe,
        data=subject.read(recipe),
        judge=judge,
        seed=arguments.seed,
        device=arguments.device,
        shown=not arguments.quiet,
    )
    return objective, study


def report(study: SharedStudy, recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Prints all trials, and leaves a table of the best and a picture."""
    trials = study.finished()
    whole = [trial for trial in trials if trial.value is not None]
    print(table(trials))
    if not whole:
        print("no trial came to its end: nothing is recommended")
        return
    best = max(whole, key=lambda trial: (trial.value, -trial.number))
    path = study.storage.with_name(f"{study.name}.yml")
    write_whole(path, as_table(study, recipe, best, len(trials)))
    print(f"best: trial {best.number}, {best.value:.1f}\nwritten: {path}")
    try:
        draw_history(trials, study.name, path.with_suffix(".png"))
        print(f"written: {path.with_suffix('.png')}")
    except ImportError:
        print("no picture: it needs matplotlib, pip install 'decision-policies[plots]'")
    words = f"--algo {recipe.label.lower()} --dataset {arguments.dataset} --conf-file {path}"
    print(f"next: {arguments.program} train {words}")


def table(trials: list[FrozenTrial]) -> str:
    """A line a trial: its value, its updates where it was stopped, and what was drawn."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    rows = [["trial", "return", "updates", *names]]
    for trial in trials:
        at = str(trial.last_step or 0)
        drawn = [_short(trial.params.get(name)) for name in names]
        rows.append([str(trial.number), _value(trial.value), at, *drawn])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (" ".join(x.rjust(w) for x, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(lines)


def as_table(study: SharedStudy, recipe: Recipe, best: FrozenTrial, trials: int) -> str:
    """The best values as a table of zoo/hyperparameters, with where they come from."""
    from optuna.trial import FixedTrial

    values = {**recipe.hyperparameters, **draw(FixedTrial(best.params), study.search)}
    values.pop("target_return", None)  # the plan's, which `train` asks by itself
    plan = recipe.plan
    said = (
        f"# The best of {trials} trials of {plan.updates} updates (study {study.name}, trial "
        f"{best.number}): {best.value:.1f},\n# the mean of {plan.episodes} episodes from seed "
        f"{TUNING} on.\n"
    )
    block: dict[str, Any] = {"class": recipe.class_name}
    if recipe.label != recipe.class_name:
        block["label"] = recipe.label
    return said + yaml.safe_dump({**block, recipe.dataset: values}, sort_keys=False)


def draw_history(trials: list[FrozenTrial], title: str, path: Path) -> None:
    """Draws the value of each trial, and the best so far.

    Raises:
        ImportError: matplotlib is not installed.
    """
    whole = [(trial.number, trial.value) for trial in trials if trial.value is not None]
    numbers, values = zip(*whole, strict=True)
    best = [max(values[: place + 1]) for place in range(len(values))]
    with picture(path, 1, 1, (5.0, 3.4)) as (ax,):
        dress(ax, title, "trial", "mean return of the last evaluation")
        ax.plot(numbers, values, "o", color=PALETTE[0], label="a trial")
        ax.step(numbers, best, where="post", color=PALETTE[1], label="the best so far")
        ax.legend(frameon=False, fontsize=8)


def _value(value: float | None) -> str:
    return "stopped" if value is None else f"{value:.1f}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _words(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_short(value)}" for name, value in values.items())
