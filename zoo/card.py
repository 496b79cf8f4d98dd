"""`python -m zoo card`: writes the model card of a saved policy, to be read before it is pushed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import decision_policies
from decision_policies import SequenceAlgorithm, evaluate_in_context, evaluate_policy, hub
from decision_policies.checkpoint import Checkpoint, open_checkpoint
from decision_policies.data.minari_histories import names_histories
from decision_policies.data.minari_source import load_minari
from decision_policies.envs import ENVIRONMENTS, Simulator
from decision_policies.errors import DatasetError
from decision_policies.evaluation import Evaluation
from decision_policies.in_context import InContextEvaluation

from .acting import Actor, as_target, chosen, is_here, load_actor
from .acting import add_arguments as add_actor
from .benchmark_rows import write_whole
from .benchmark_run import SEED_SETS
from .collect import one_torch_thread
from .experiments import Experiment
from .histories import command_of as histories_command
from .history_set import Split, make_environment, read_split, simulator_of
from .progress import progress_bar
from .training_run import FINAL

EPISODES = 20
ON_END = 10
"""Episodes from each seed of a policy that remembers them, where there is only one task."""
RESULTS = "results.json"

EXAMPLES = f"""\
The card says what the policy is, what it was trained on and how, what it earns, and holds code
that loads it. Figures come from {EPISODES} fresh episodes (seeds from
{SEED_SETS["evaluation"]} on), unless --episodes says otherwise; with --episodes 0 they are those
of a {RESULTS} beside the policy, if there is one. `push` writes the same card.

examples:
  print the card of a saved policy:
    python -m zoo card dema-cartpole --repo-id me/dema-cartpole
  of the best policy of the latest experiment, into a file:
    python -m zoo card --algo dema --env CartPole-v1 --load-best --output README.md
"""


@dataclass(frozen=True)
class Subject:
    """What a card is written of.

    Attributes:
        experiment: The folder of its training, where it is in one.
        path: What `decision_policies.load` takes.
        algorithm: What was loaded.
        actor: Who plays; None where nothing is played.
    """

    experiment: Experiment | None
    path: str
    algorithm: SequenceAlgorithm
    actor: Actor | None


@dataclass(frozen=True)
class Story:
    """What a card tells beside what the checkpoint itself knows.

    Attributes:
        evaluation: The episodes played; None: none were.
        stages: The last and the best policy of the training.
        command: The command lines that made its data, if they are histories, and trained it.
        options: What the environment was made with beside its id.
        tasks: The task of each episode, where the environment has several.
        note: What to say of the episodes.
    """

    evaluation: Evaluation | None
    stages: list[hub.Stage]
    command: str | None
    options: Mapping[str, Any] = field(default_factory=dict)
    tasks: Sequence[int] = ()
    note: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `card` to its parser."""
    add_actor(parser, seed=SEED_SETS["evaluation"])
    add_measuring(parser)
    add = parser.add_argument
    text = "what the card's code loads (default: the folder itself)"
    add("--repo-id", metavar="OWNER/NAME", help=text)
    add("-o", "--output", type=Path, metavar="FILE", help="(default: print it)")


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what is measured for a card."""
    add = parser.add_argument
    text = f"fresh episodes to play; 0: none, and so no figures (default: {EPISODES})"
    add("--episodes", type=int, default=EPISODES, metavar="N", help=text)
    add("--target-return", type=as_target, metavar="R", help="(default: as in training)")
    add("--quiet", action="store_true", help="show no progress")


def run(arguments: argparse.Namespace) -> None:
    """Writes the card that the command line asks for.

    Raises:
        ValueError: It names nothing that there is.
        OSError: There is no such checkpoint.
    """
    subject = load_subject(arguments)
    story = tell(subject, arguments)
    saved = open_checkpoint(hub.resolve(subject.path))
    results = results_beside(saved.folder) if story.evaluation is None else None
    if story.evaluation is not None and subject.actor is not None:
        results = figures(saved, story, story.evaluation, subject.actor)
    card = hub.model_card(
        saved,
        arguments.repo_id or subject.path,
        type(subject.algorithm),
        results=results,
        stages=story.stages,
        command=story.command,
        note=story.note,
    )
    if arguments.output is None:
        print(card, end="")
    else:
        write_whole(arguments.output, card)
        print(f"written: {arguments.output}")


def figures(
    saved: Checkpoint, story: Story, evaluation: Evaluation, actor: Actor
) -> dict[str, Any]:
    """The content of results.json for episodes that were played."""
    return hub.measured(
        saved,
        evaluation,
        actor.environment,
        options=story.options,
        tasks=story.tasks,
        target_return=actor.asked(),
        deterministic=actor.deterministic,
    )


def load_subject(arguments: argparse.Namespace) -> Subject:
    """Loads what a card is to be written of; nobody acts where no episode is asked for.

    Raises:
        ValueError: It names nothing that there is, or not how it acts where it is loaded.
        OSError: There is no such checkpoint.
    """
    if arguments.inference is not None:
        raise ValueError(
            "--inference changes nothing of what is saved, and so belongs in no card; `evaluate` "
            "compares ways to remember"
        )
    if arguments.episodes < 0:
        raise ValueError(f"--episodes is {arguments.episodes}; 0 plays none")
    experiment, path = chosen(arguments)
    if arguments.episodes == 0:
        algorithm = decision_policies.load(path, device=arguments.device)
        return Subject(experiment, path, algorithm, None)
    try:
        actor = load_actor(arguments, arguments.target_return)
    except ValueError as error:
        raise ValueError(f"{error}; or play nothing: --episodes 0") from error
    return Subject(experiment, path, actor.algorithm, actor)


def tell(subject: Subject, arguments: argparse.Namespace) -> Story:
    """Plays the episodes that are asked for, and reads how the policy was trained."""
    experiment, actor = subject.experiment, subject.actor
    dataset = subject.algorithm.source.dataset
    split = _split(dataset)
    stages = [] if experiment is None else stages_of(experiment)
    command = None if experiment is None else command_of(experiment)
    if command is not None and dataset is not None and split is not None:
        command = f"{histories_command(dataset)}\n{command}"
    untold = Story(None, stages, command)
    with one_torch_thread():
        if actor is None:
            return untold
        if actor.policy.spec.memory == "episode":
            return replace(untold, evaluation=_episodes(actor, arguments))
        if split is not None and split.held_out and actor.environment == split.env_id:
            return _at_tasks(actor, split, arguments, untold)
        if actor.environment not in ENVIRONMENTS:
            return _from_seeds(actor, arguments, untold)
        print("it remembers over episodes, and tasks to measure it at are not here: no figures")
        return untold


def _episodes(actor: Actor, arguments: argparse.Namespace) -> Evaluation:
    with progress_bar("evaluating", arguments.episodes, not arguments.quiet) as tick:
        return evaluate_policy(
            actor.policy,
            lambda: actor.make(None),
            arguments.episodes,
            target_return=actor.asked(),
            seed=arguments.seed,
            deterministic=actor.deterministic,
            on_episode=lambda: tick(1),
        )


def _at_tasks(actor: Actor, split: Split, arguments: argparse.Namespace, story: Story) -> Story:
    """Plays the tasks that the dataset holds out, and takes each one's last episode."""
    tasks = split.held_out
    with closing(make_environment(split.env_id, split.options)) as env:
        simulator = simulator_of(env)
        played = _on_end(actor, simulator, tasks, arguments.episodes, arguments, split.train)
    assert played.optimal is not None, "simulators know what is optimal"
    where = ", the lines below it of all episodes" if story.stages else ""
    note = (
        "It remembers over episodes, and learns a task while it plays. Tasks that it was not "
        f"trained on were played for many episodes on end: {played}. The optimum there is "
        f"{played.optimal.mean():.2f}, and random actions earn {played.random:.2f}. The table is "
        f"of each task's last episode{where}."
    )
    last = _last(played, arguments.seed)
    return replace(story, evaluation=last, options=split.options, tasks=tasks, note=note)


def _from_seeds(actor: Actor, arguments: argparse.Namespace, story: Story) -> Story:
    """Plays some episodes on end from each seed, and takes the last ones."""
    seeds = range(arguments.seed, arguments.seed + arguments.episodes)
    played = _on_end(actor, lambda _: actor.make(None), seeds, ON_END, arguments)
    where = ", the lines below it of first ones" if story.stages else ""
    each = ", ".join(f"{mean:.0f}" for mean in played.mean)
    note = (
        f"It remembers over episodes. From each seed {ON_END} were played on end, which earned "
        f"{each} on average. The table is of the last ones{where}."
    )
    return replace(story, evaluation=_last(played, arguments.seed), note=note)


def _on_end(
    actor: Actor,
    env: Simulator | Callable[[Any], Any],
    tasks: Sequence[int],
    episodes: int,
    arguments: argparse.Namespace,
    trained_on: Sequence[int] = (),
) -> InContextEvaluation:
    """Plays episodes on end at each task, or from each seed."""
    with progress_bar("evaluating", episodes * len(tasks), not arguments.quiet) as tick:
        return evaluate_in_context(
            actor.policy,
            env,
            tasks,
            episodes,
            seed=arguments.seed,
            deterministic=actor.deterministic,
            target_return=actor.asked(),
            trained_on=trained_on,
            on_episode=lambda: tick(1),
        )


def _last(played: InContextEvaluation, seed: int) -> Evaluation:
    """The last episodes, whose lengths nobody counted."""
    returns = played.returns[:, -1]
    rows = np.arange(len(returns))
    return Evaluation(returns, np.zeros_like(rows), seed + rows)


def _split(dataset: str | None) -> Split | None:
    """The tasks of a set of histories, where it is here: a checkpoint's word fetches nothing."""
    if dataset is None or not is_here(dataset):
        return None
    try:
        named = names_histories(load_minari(dataset))
    except DatasetError:
        return None
    return read_split(dataset) if named else None


def stages_of(experiment: Experiment) -> list[hub.Stage]:
    """The last and the best policy of a training, as its final evaluation found them."""
    path = experiment.folder / FINAL
    if not path.exists():
        return []
    final: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return [
        hub.Stage(name, found["updates"], found["mean"], found["std"], len(found["returns"]))
        for name, found in final.items()
    ]


def command_of(experiment: Experiment) -> str | None:
    """The command lines that trained a policy."""
    path = experiment.folder / "command.txt"
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def results_beside(folder: Path) -> dict[str, Any] | None:
    """The figures that came with a policy.

    Raises:
        ValueError: They are not as `push` writes them.
    """
    path = folder / RESULTS
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    kinds = {"mean_reward": float, "std_reward": float, "returns": list, "seeds": list}
    kinds |= {"environment": str, "n_eval_episodes": int, "is_deterministic": bool, "tasks": list}
    if not isinstance(found, dict) or not all(
        isinstance(found.get(name, [] if name == "tasks" else None), kind)
        for name, kind in kinds.items()
    ):
        raise ValueError(f"{path} is not as `push` writes it: leave --episodes 0 out")
    return found
