"""Who acts, and where: what `evaluate`, `enjoy` and `record` have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import minari

import decision_policies
from decision_policies import SequenceAlgorithm, SequencePolicy
from decision_policies.data.minari_source import SHIPPED
from decision_policies.errors import DatasetError
from decision_policies.returns import check_word
from decision_policies.spec import Inference

from .benchmark_run import environment_of
from .experiments import LOGS, Experiment, find_experiment, find_experiments
from .tables import MODES, Plan, Recipe, Tables
from .training_run import Settings
from .training_setup import Subject, known_environment

VIDEO_CURE = "pip install 'decision-policies[video]'"
NO_PLAN = Plan(updates=1, evaluate_every=1, targets=(0.0,))


class Played(NamedTuple):
    """What came of an episode.

    Attributes:
        total: Its return.
        steps: Its length.
        ended: Whether it came to its end.
    """

    total: float
    steps: int
    ended: bool


@dataclass(frozen=True)
class Actor:
    """A policy, and the environment to act in.

    Attributes:
        name: What to call it.
        algorithm: What was loaded.
        policy: Its policy, with the way to remember that was asked for.
        environment: Id of the environment.
        make: Makes it, for a render mode of gymnasium's.
        deterministic: Act by the likeliest action rather than sample.
        target_return: The return to ask for; None is the policy's own, or that it asks for none.
    """

    name: str
    algorithm: SequenceAlgorithm
    policy: SequencePolicy
    environment: str
    make: Callable[[str | None], gym.Env[Any, Any]]
    deterministic: bool
    target_return: float | None

    def asked(self) -> float | None:
        """The return that is asked for; None where the policy asks for none."""
        if not self.policy.spec.uses_returns:
            return None
        own = float(self.policy.target_return)
        return own if self.target_return is None else self.target_return

    def number(self, target: float | str) -> float:
        """The return that a number, or a word such as "p90", asks for."""
        asking = self.policy.fork()
        asking.reset(target)
        return float(asking.target_return)

    def played(self, episode: Played) -> str:
        """Says what came of an episode."""
        asked = self.asked()
        said = f"return {episode.total:.1f} in {episode.steps} steps"
        said += "" if asked is None else f", asked for {asked:g}"
        return said if episode.ended else f"{said}; it was not over"


def as_target(text: str) -> float | str:
    """Reads an option's return to ask for: a number, or a word such as "p90".

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    with suppress(ValueError):
        return float(text)
    try:
        check_word(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def add_arguments(parser: argparse.ArgumentParser, seed: int) -> None:
    """Adds the options that say who acts, where and how.

    Args:
        parser: The parser.
        seed: Default seed of the first episode.
    """
    add = parser.add_argument
    text = "a saved policy: the folder of a checkpoint or an experiment, or a name on the Hub"
    add("name", nargs="?", metavar="NAME", help=f"{text}; in place of --algo")
    text = "label of a system with experiments in --folder, in any case"
    add("--algo", metavar="NAME", help=text)
    text = "of the experiment; with NAME, an environment other than the one it was trained for"
    add("--env", metavar="ID", help=text)
    add("-f", "--folder", type=Path, default=LOGS, metavar="DIR", help="(default: logs)")
    add("--exp-id", type=int, default=0, metavar="N", help="(default: 0, the latest)")
    which = parser.add_mutually_exclusive_group()
    text = "the policy with the best evaluation rather than the last one"
    which.add_argument("--load-best", action="store_true", help=text)
    text = "the policy that --save-freq kept after N updates"
    which.add_argument("--load-checkpoint", type=int, metavar="N", help=text)
    text = f"seed of the first episode; the others follow (default: {seed})"
    add("--seed", type=int, default=seed, metavar="N", help=text)
    text = "how to remember (default: the policy's own)"
    add("--inference", choices=MODES, metavar="MODE", help=f"{', '.join(MODES)}: {text}")
    how = parser.add_mutually_exclusive_group()
    text = "take the likeliest action, or sample (default: as the tables say of the dataset)"
    how.add_argument("--deterministic", action="store_true", default=None, help=text)
    how.add_argument(
        "--stochastic", action="store_false", dest="deterministic", default=None, help="sample"
    )
    add("--device", default="auto", metavar="NAME", help="cpu, cuda, ... (default: a GPU if any)")


def load_actor(arguments: argparse.Namespace, target_return: float | str | None = None) -> Actor:
    """Loads what the command line names.

    Args:
        arguments: Those of `add_arguments`.
        target_return: The return to ask for, a number or a word; None is what the training's
            evaluations asked for, else the policy's own.

    Raises:
        ValueError: It names nothing, or nothing that there is; or there is no environment.
        OSError: There is no such checkpoint.
    """
    experiment, path = chosen(arguments)
    algorithm = decision_policies.load(path, device=arguments.device)
    assert algorithm.policy is not None, "what is loaded has a policy"
    settings = None if experiment is None else Settings.of(experiment)
    other = arguments.env if arguments.name is not None else None
    plan, make, environment = _environment(algorithm, settings, other)
    uses = algorithm.policy.spec.uses_returns
    if target_return is not None and not uses:
        raise ValueError(f"{type(algorithm).__name__} asks for no return: leave --target-return")
    if target_return is None and settings is not None and uses:
        target_return = settings.target_return
    deterministic = plan.deterministic if plan is not None else True
    given: bool | None = arguments.deterministic
    mode: Inference | None = arguments.inference
    policy = algorithm.policy.fork(inference=mode, seed=arguments.seed)
    policy.reset(target_return)
    return Actor(
        name=_title(experiment, path),
        algorithm=algorithm,
        policy=policy,
        environment=environment,
        make=partial(rendered, make),
        deterministic=deterministic if given is None else given,
        target_return=None if target_return is None else float(policy.target_return),
    )


def chosen(arguments: argparse.Namespace) -> tuple[Experiment | None, str]:
    """The experiment, if it is one, and what `decision_policies.load` takes."""
    if (arguments.name is None) == (arguments.algo is None):
        raise ValueError("name a saved policy, or an experiment by --algo and --env; not both")
    if arguments.algo is not None:
        experiment = _experiment(arguments)
    else:
        folder = Path(arguments.name)
        if not (folder / "args.yml").is_file():
            if arguments.load_best or arguments.load_checkpoint is not None:
                raise ValueError("--load-best and --load-checkpoint are for experiments")
            inside = (folder.parent / "args.yml").is_file() and folder.is_dir()
            return (Experiment(folder.resolve().parent) if inside else None), arguments.name
        experiment = Experiment(folder.resolve())
    path = experiment.best if arguments.load_best else experiment.last
    if arguments.load_checkpoint is not None:
        path = experiment.copy(arguments.load_checkpoint)
        if not path.exists():
            kept = ", ".join(map(str, experiment.copies())) or "none"
            raise ValueError(
                f"{experiment.folder} keeps no policy after {arguments.load_checkpoint} updates; "
                f"it keeps {kept} (`train --save-freq`)"
            )
    if not path.exists():
        raise ValueError(f"{experiment.folder} holds no {path.name} (yet)")
    return experiment, str(path)


def _experiment(arguments: argparse.Namespace) -> Experiment:
    if arguments.env is not None:
        return find_experiment(arguments.folder, arguments.algo, arguments.env, arguments.exp_id)
    names = {e.name for e in find_experiments(arguments.folder, arguments.algo)}
    if len(names) > 1:
        raise ValueError(f"--env says which experiment: there is {', '.join(sorted(names))}")
    return find_experiment(arguments.folder, arguments.algo, names.pop(), arguments.exp_id)


def _title(experiment: Experiment | None, path: str) -> str:
    if experiment is None:
        folder = Path(path).resolve()
        return folder.name if folder.is_dir() else path.replace("/", "-").replace("@", "-")
    which = Path(path).name
    name = f"{experiment.folder.parent.name}-{experiment.folder.name}"
    return name if which == experiment.name else f"{name}-{which}"


def _environment(
    algorithm: SequenceAlgorithm, settings: Settings | None, other: str | None
) -> tuple[Plan | None, Callable[[], gym.Env[Any, Any]], str]:
    """The plan of what a policy was trained on, what makes its environment, and its id.

    A checkpoint may come from anywhere: of the environment that it names only the id is used, and
    a dataset that it names only if it is here already.
    """
    source = algorithm.source
    word = settings.dataset if settings is not None else source.dataset
    plan = _plan(settings, source.dataset)
    other = other or (settings.other_env if settings is not None else None)
    recipe = Recipe("", "", word or "", {}, plan or NO_PLAN)
    if other is not None:
        recipe = replace(recipe, plan=replace(recipe.plan, game=None, environment={}))
        return plan, environment_of(recipe, partial(known_environment, other)), other
    if word is not None and (settings is not None or is_here(word)):
        try:
            subject = Subject.of(word)
        except DatasetError:
            subject = None  # it was there when the training began
        if subject is not None and subject.environment is not None:
            split = subject.split
            if split is not None:
                make = partial(known_environment, split.env_id, **split.options)
                return plan, make, split.env_id
            return plan, environment_of(recipe, subject.folder or subject.id), subject.environment
    own = source.environment
    if own is None or ":" in own:
        raise ValueError("the policy names no environment to act in: name the policy and --env")
    return plan, environment_of(recipe, partial(known_environment, own)), own


def _plan(settings: Settings | None, dataset: str | None) -> Plan | None:
    if settings is not None:
        return settings.recipe("", {}).plan
    tables = Tables.read()
    if dataset not in tables.plans:
        return None
    assert dataset is not None, "no plan is called None"
    return tables.recipe(tables.labels[0], dataset).plan


def is_here(dataset: str) -> bool:
    """Whether a Minari dataset is on this machine, and so needs no download."""
    return dataset in minari.list_local_datasets() or (SHIPPED / dataset / "data").is_dir()


def rendered(make: Callable[[], gym.Env[Any, Any]], mode: str | None) -> gym.Env[Any, Any]:
    """Makes an environment that renders.

    Args:
        make: Makes it without.
        mode: gymnasium's render mode; None makes it as it is.

    Raises:
        ValueError: It cannot be rendered so.
    """
    env = make()
    if mode is None:
        return env
    spec, modes = env.spec, env.metadata.get("render_modes", [])
    env.close()
    if spec is None or mode not in modes:
        known = ", ".join(map(str, modes)) or "nothing"
        raise ValueError(f"the environment cannot be rendered as {mode}; it renders {known}")
    return gym.make(spec, render_mode=mode)


@contextmanager
def cured() -> Iterator[None]:
    """Says what to install where rendering misses a package.

    Raises:
        ValueError: It does.
    """
    try:
        yield
    except gym.error.DependencyNotInstalled as error:
        raise ValueError(f"{error} (or {VIDEO_CURE})") from error


def play(
    actor: Actor,
    env: gym.Env[Any, Any],
    seed: int,
    *,
    episodes: int | None,
    timesteps: int | None = None,
    on_step: Callable[[gym.Env[Any, Any]], None] = lambda env: None,
) -> Iterator[Played]:
    """Plays episodes one after the other, each from a seed of its own.

    A policy that remembers over episodes stays at the first one's task, so only that is seeded.

    Args:
        actor: Who plays.
        env: Made by `actor.make`; it is closed in the end.
        seed: Of the first episode.
        episodes: How many; None: until `timesteps`.
        timesteps: Steps in all; None: until `episodes`.
        on_step: Told after each reset and step.

    Yields:
        What came of each episode; the last one may not have ended.
    """
    policy, left, number = actor.policy, timesteps, 0
    forgets = policy.spec.memory == "episode"
    with cured():
        wrapped = policy.wrap(env)
        try:
            while (episodes is None or number < episodes) and left != 0:
                first = seed + number if forgets or number == 0 else None
                observation, _ = wrapped.reset(seed=first)
                on_step(env)
                total, steps, done = 0.0, 0, False
                while not done and left != 0:
                    action, _ = policy.predict(observation, deterministic=actor.deterministic)
                    observation, reward, terminated, truncated, _ = wrapped.step(action)
                    on_step(env)
                    total, steps, done = total + float(reward), steps + 1, terminated or truncated
                    left = None if left is None else left - 1
                number += 1
                yield Played(total, steps, done)
        finally:
            with suppress(AttributeError):  # MuJoCo's, of a viewer that could not be opened
                env.close()
