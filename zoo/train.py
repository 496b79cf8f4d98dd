"""`python -m zoo train`: trains a policy by its table, into logs/<algo>/<env>_<N>; resumable."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from decision_policies.algorithms import BY_NAME
from decision_policies.data.reading import as_trajectories

from .benchmark_rows import write_whole
from .benchmark_run import NOT_HYPERPARAMETERS
from .experiments import (
    LOGS,
    Experiment,
    find_experiment,
    find_experiments,
    new_experiment,
    safe_name,
)
from .histories import parse_options
from .tables import read_table
from .training_run import CHOOSING, FINAL, FRESH, Settings, TrainingRun
from .training_setup import EpisodeJudge, Subject, TaskJudge, choose_recipe

EXAMPLES = f"""\
Hyper-parameters, length of training and the return to ask for come from zoo/hyperparameters, where
each system has a table; a dataset that is in none is trained on with the table's defaults. The
environment is the one that the dataset records. A timestep is a gradient update.

The folder logs/<algo>/<env>_<N> is made anew for each training and holds
  <env>/                 the policy as it was last, with all that an exact resume needs
  best_model/            the policy with the best evaluation on the way
  rl_model_<n>_steps/    what --save-freq keeps
  evaluations.npz        timesteps, results and ep_lengths, as Stable-Baselines3 writes them
  {FINAL}  fresh episodes of the last and the best policy
  progress.csv           losses
  config.yml, args.yml, command.txt
  *.zip                  each policy in one file, as rl_zoo3's scripts load it
The best policy is chosen by episodes from seed {CHOOSING} on; at the end the last and the best play
fresh episodes, from seed {FRESH} on. Ctrl-C saves; --resume goes on as if nothing had happened.

examples:
  the shipped CartPole set, a minute:
    python -m zoo train --algo dema --dataset cartpole/mixed-v0
  a short try with other hyper-parameters:
    python -m zoo train --algo dt --dataset cartpole/mixed-v0 --n-timesteps 500 \\
      --hyperparams d_model=32 learning_rate=lin_2e-3
  with the best values that a search has found (python -m zoo tune):
    python -m zoo train --algo dt --dataset cartpole/mixed-v0 --conf-file tuning/dt-cartpole.yml
  go on with an interrupted training: the latest, or experiment 3
    python -m zoo train --algo dema --env CartPole-v1 --resume
    python -m zoo train --algo dema --env CartPole-v1 --resume --exp-id 3
  train a finished one for longer:
    python -m zoo train --algo dema --env CartPole-v1 --resume --n-timesteps 4000
"""

RECORDED = {
    "dataset": "dataset",
    "seed": "seed",
    "eval_freq": "eval_freq",
    "eval_episodes": "eval_episodes",
    "save_freq": "save_freq",
    "target_return": "target_return",
}
"""Options that a training which is resumed must have been begun with, as args.yml names them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `train` to its parser."""
    add = parser.add_argument
    text = "label of a table in zoo/hyperparameters, or a class; in any case"
    add("--algo", required=True, metavar="NAME", help=text)
    add("--dataset", metavar="ID", help="Minari id, or a dataset's folder; needed unless --resume")
    text = "environment to evaluate in (default: the one that the dataset records)"
    add("--env", metavar="ID", help=text)
    text = "gradient updates (default: the table's)"
    add("-n", "--n-timesteps", type=_count, metavar="N", help=text)
    add("--seed", type=_count, metavar="N", help="of weights and batches (default: 0)")
    text = "updates between two evaluations; 0: none (default: the table's)"
    add("--eval-freq", type=_frequency, metavar="N", help=text)
    text = "episodes of an evaluation, of each task for sets of histories (default: the table's)"
    add("--eval-episodes", type=_count, metavar="N", help=text)
    text = "updates between two checkpoints that are kept (default: none)"
    add("--save-freq", type=_frequency, metavar="N", help=text)
    text = "return to ask for in evaluations (default: the table's)"
    add("--target-return", type=float, metavar="R", help=text)
    add(
        "-params",
        "--hyperparams",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="take the place of the table's, such as d_model=64 ema_decay=null",
    )
    text = "a table whose hyper-parameters go before those of zoo/hyperparameters"
    add("-conf", "--conf-file", type=Path, metavar="FILE", help=text)
    add("-f", "--folder", type=Path, default=LOGS, metavar="DIR", help="(default: logs)")
    add("--resume", action="store_true", help="go on with the latest experiment that fits")
    add("--exp-id", type=_count, default=0, metavar="N", help="with --resume: experiment N")
    text = "folder for TensorBoard; the loss and evaluations are in progress.csv in any case"
    add("-tb", "--tensorboard-log", metavar="DIR", help=text)
    add("--device", default="auto", metavar="NAME", help="cpu, cuda, ... (default: a GPU if any)")
    add("--num-threads", type=_count, default=1, metavar="N", help="of torch (default: 1)")
    shown = parser.add_mutually_exclusive_group()
    text = "insist on a progress bar; a terminal shows one anyway"
    shown.add_argument("-P", "--progress", action="store_true", help=text)
    shown.add_argument("--quiet", action="store_true", help="print what came of it only")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def _frequency(text: str) -> int:
    return 0 if text == "-1" else _count(text)  # rl_zoo3 says never by -1


def run(arguments: argparse.Namespace) -> None:
    """Trains what the command line asks for, and says what came of it.

    Raises:
        ValueError: An option, the table or the dataset is wrong; or the training diverged.
        KeyboardInterrupt: Ctrl-C; what was learnt is saved.
    """
    _check_extras(arguments)
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, arguments.num_threads))
    try:
        experiment = _resumed(arguments) if arguments.resume else _begun(arguments)
        settings = Settings.of(experiment)
        work = TrainingRun(experiment, settings, arguments.quiet, arguments.device)
        resume = (
            f"{arguments.program} train --algo {settings.algo} --env {settings.env}"
            f"{_elsewhere(arguments.folder)} --resume --exp-id {experiment.number}"
        )
        if work.done and not arguments.quiet:
            print(f"going on after {work.done} of {settings.n_timesteps} updates")
        try:
            work.finish()
        except KeyboardInterrupt:
            made = f"{work.done} of {settings.n_timesteps} updates"
            print(f"saved after {made}; go on by\n  {resume}")
            raise
        _report(work, arguments)
    finally:
        torch.set_num_threads(before)


def _check_extras(arguments: argparse.Namespace) -> None:
    """Raises a ValueError for an option whose package is not installed."""
    wanted = {"tqdm": arguments.progress, "tensorboard": arguments.tensorboard_log is not None}
    for package, extra in (("tqdm", "progress"), ("tensorboard", "tensorboard")):
        if wanted[package] and find_spec(package) is None:
            raise ValueError(f"{package} is missing: pip install 'decision-policies[{extra}]'")


def _begun(arguments: argparse.Namespace) -> Experiment:
    """Makes the folder of a new training, with all that decides it."""
    if arguments.dataset is None:
        raise ValueError("--dataset says what to learn from; only --resume does without")
    if arguments.exp_id:
        raise ValueError("--exp-id belongs to --resume; a new training takes the next number")
    given = hyperparams(arguments.hyperparams)
    subject = Subject.of(arguments.dataset)
    options = {"updates": arguments.n_timesteps, "episodes": arguments.eval_episodes}
    changes = {name: value for name, value in options.items() if value is not None}
    table = arguments.conf_file
    kind, values = read_table(table, subject.id) if table is not None else (None, {})
    given = {**values, **given}
    recipe, notes = choose_recipe(arguments.algo, subject, given, **changes)
    if kind not in (None, recipe.class_name):
        raise ValueError(f"{table} is a table of {kind}, and --algo says {recipe.class_name}")
    judge, plan = subject.judge(recipe, arguments.env), recipe.plan
    if judge is None:
        notes.append(f"{subject.id} records no environment: nothing is evaluated without --env")
    elif isinstance(judge, EpisodeJudge):
        data = as_trajectories(subject.read(recipe))
        judge.check(data.observation_space, data.action_space)
    asked = plan.targets[0] if arguments.target_return is None else arguments.target_return
    freq = plan.evaluate_every if arguments.eval_freq is None else arguments.eval_freq
    settings = Settings(
        algo=recipe.label,
        class_name=recipe.class_name,
        dataset=arguments.dataset,
        env=safe_name(subject.id if judge is None else judge.name),
        other_env=arguments.env,
        seed=arguments.seed or 0,
        n_timesteps=plan.updates,
        eval_freq=0 if judge is None else freq,
        eval_episodes=plan.episodes,
        save_freq=arguments.save_freq or 0,
        target_return=float(asked),
        hyperparams=given,
        tensorboard_log=arguments.tensorboard_log,
        plan=plan.to_json(),
    )
    algorithm = BY_NAME[recipe.class_name](seed=settings.seed, **recipe.hyperparameters)
    experiment = new_experiment(arguments.folder, settings.algo, settings.env)
    left_out = [name for name in NOT_HYPERPARAMETERS if name != "seed"]
    config = {k: v for k, v in algorithm.hyperparameters().items() if k not in left_out}
    experiment.write("config.yml", config)
    experiment.write("args.yml", settings.to_yaml())
    _note_command(experiment, arguments)
    if not arguments.quiet:
        print(*notes, f"training in {experiment.folder}", sep="\n", flush=True)
    return experiment


def hyperparams(words: list[str]) -> dict[str, Any]:
    """Reads the words of --hyperparams.

    Raises:
        ValueError: One is not of the form NAME=VALUE, or is none of the class's to tell.
    """
    given = parse_options(words, "--hyperparams")
    for name in NOT_HYPERPARAMETERS:
        if name in given:
            raise ValueError(f"--hyperparams {name}=...: {name} is an option of its own, or none")
    return given


def _resumed(arguments: argparse.Namespace) -> Experiment:
    """Finds the experiment to go on with: the latest that was begun with the same options.

    Raises:
        ValueError: There is none.
    """
    found = find_experiments(arguments.folder, arguments.algo, arguments.env)
    if arguments.exp_id and arguments.env is not None:
        found = [find_experiment(arguments.folder, arguments.algo, arguments.env, arguments.exp_id)]
    elif arguments.exp_id:
        raise ValueError("--exp-id needs --env: each environment's experiments have their own")
    names = sorted({e.name for e in found})
    if len(names) > 1:
        raise ValueError(f"--env says which experiment: there is {', '.join(names)}")
    each = {experiment: Settings.of(experiment) for experiment in found}
    fits = [e for e, settings in each.items() if not _differences(arguments, settings)]
    if not fits:
        known = "\n".join(
            f"  {e.folder}: {'; '.join(_differences(arguments, settings))}"
            for e, settings in each.items()
        )
        raise ValueError(
            "no experiment was begun with these options; leave --resume out to begin one, or "
            f"leave out what differs:\n{known}"
        )
    experiment = fits[-1]
    total = arguments.n_timesteps
    if total is not None and total != each[experiment].n_timesteps:
        changed = replace(each[experiment], n_timesteps=total)
        experiment.write("args.yml", changed.to_yaml())
        (experiment.folder / FINAL).unlink(missing_ok=True)
    _note_command(experiment, arguments)
    return experiment


def _differences(arguments: argparse.Namespace, settings: Settings) -> list[str]:
    """Where the options that were given differ from those that a training was begun with."""
    said = []
    for option, name in RECORDED.items():
        value, recorded = getattr(arguments, option), getattr(settings, name)
        if value is not None and value != recorded:
            said.append(f"{option} is {recorded}")
    given = hyperparams(arguments.hyperparams)
    if given and given != dict(settings.hyperparams):
        said.append(f"hyperparams are {dict(settings.hyperparams)}")
    return said


def _note_command(experiment: Experiment, arguments: argparse.Namespace) -> None:
    """Adds the command to command.txt, without what only this machine or moment is about."""
    words = ["train"]
    skipped = ("verb", "run", "program", "progress", "quiet", "num_threads")
    for name, value in vars(arguments).items():
        if name in skipped or value in (None, [], False) or (name, value) == ("exp_id", 0):
            continue
        if (name, value) in (("folder", LOGS), ("device", "auto")):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words += map(str, value) if isinstance(value, list) else [str(value)]
    path = experiment.folder / "command.txt"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_whole(path, f"{before}python -m zoo {shlex.join(words)}\n")


def _elsewhere(folder: Path) -> str:
    return "" if folder == LOGS else f" -f {shlex.quote(str(folder))}"


def _report(work: TrainingRun, arguments: argparse.Namespace) -> None:
    """Says what came of a training, where it is, and what to do next."""
    experiment, settings = work.experiment, work.settings
    path = experiment.folder / FINAL
    if path.exists():
        final: Mapping[str, Any] = json.loads(path.read_text())
        same = final["last"]["updates"] == final["best"]["updates"]
        for name in ["last"] if same else ["last", "best"]:
            print(f"{name if not same else 'last and best'}: {_played(final[name])}")
    else:
        print(f"{work.done} updates made; not evaluated")
    print(f"saved: {experiment.last}")
    where = f"--algo {settings.algo} --env {settings.env}{_elsewhere(arguments.folder)}"
    if find_experiment(arguments.folder, settings.algo, settings.env) != experiment:
        where += f" --exp-id {experiment.number}"
    if isinstance(work.judge, TaskJudge):
        print(f"next: {arguments.program} in-context {experiment.last}")
    elif work.judge is not None:
        print(f"next: {arguments.program} enjoy {where}")
    print(f"      {arguments.program} push {where} OWNER/NAME")


def _played(final: Mapping[str, Any]) -> str:
    asked = "" if final["target"] is None else f", asked for {final['target']:g}"
    score = "" if final["normalised"] is None else f" (normalised {final['normalised']:.1f})"
    n, first = len(final["returns"]), final["first_seed"]
    return (
        f"{final['mean']:.1f} ± {final['std']:.1f}{score} over {n} fresh episodes from seed "
        f"{first} on{asked}, after {final['updates']} updates"
    )
