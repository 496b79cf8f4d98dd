"""From the words of `zoo train` to what is trained on what, and how its policies are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import numpy as np

from decision_policies import (
    Histories,
    SequencePolicy,
    Trajectories,
    evaluate_in_context,
    evaluate_policy,
)
from decision_policies.algorithms import BY_NAME
from decision_policies.data.minari_histories import names_histories
from decision_policies.data.minari_source import load_minari
from decision_policies.data.reading import as_histories
from decision_policies.evaluation import Evaluation
from decision_policies.inputs import check_same_space
from decision_policies.learning.hyperparameters import check_names

from .benchmark_run import environment_of, read_data
from .experiments import close_to
from .history_set import Split, make_environment, read_split, simulator_of
from .studies.in_context import TABLES as IN_CONTEXT
from .studies.in_context import WORLDS
from .studies.training import check
from .tables import FOLDER, PEER_PREFIX, Recipe, Tables

if TYPE_CHECKING:
    from minari import MinariDataset

UPDATES = 1000
"""Length of a training on a set of histories that has no plan."""
N_ENVS = 10
"""Environments that are stepped together."""
EVALUATIONS = 4
"""Of a training on a set of histories."""


class Judge(Protocol):
    """Plays episodes with a policy, always in the same way."""

    @property
    def name(self) -> str:
        """Id of the environment."""

    def __call__(
        self,
        policy: SequencePolicy,
        episodes: int,
        seed: int,
        target_return: float | None,
        on_episode: Callable[[], None],
    ) -> Evaluation:
        """Plays."""


@dataclass(frozen=True)
class EpisodeJudge:
    """Plays episodes of one environment.

    Attributes:
        name: Id of the environment.
        make: Makes it.
        deterministic: Act by the likeliest action rather than sample.
    """

    name: str
    make: Callable[[], gym.Env[Any, Any]]
    deterministic: bool = True

    def check(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        """Makes the environment, to see that it can be made and is the data's.

        Raises:
            ValueError: It cannot be made, or its spaces have other shapes.
        """
        env = self.make()
        try:
            check_same_space(env.observation_space, observation_space, "observation")
            check_same_space(env.action_space, action_space, "action")
        finally:
            env.close()

    def __call__(
        self,
        policy: SequencePolicy,
        episodes: int,
        seed: int,
        target_return: float | None,
        on_episode: Callable[[], None],
    ) -> Evaluation:
        """Plays episodes from `seed` on, in parallel, each without memory of another."""
        return evaluate_policy(
            policy,
            self.make,
            episodes,
            target_return=target_return,
            seed=seed,
            n_envs=episodes if policy.spec.memory == "lifetime" else N_ENVS,
            deterministic=self.deterministic,
            on_episode=on_episode,
        )


@dataclass(frozen=True)
class TaskJudge:
    """Plays episodes of each task that a set of histories holds out, one after the other.

    Attributes:
        split: The set's environment and tasks.
        deterministic: Act by the likeliest action rather than sample.
    """

    split: Split
    deterministic: bool = False

    @property
    def name(self) -> str:
        """Id of the environment."""
        return self.split.env_id

    def __call__(
        self,
        policy: SequencePolicy,
        episodes: int,
        seed: int,
        target_return: float | None,
        on_episode: Callable[[], None],
    ) -> Evaluation:
        """Plays `episodes` of each task; returns task by task, and no lengths (zeros)."""
        env = make_environment(self.split.env_id, self.split.options)
        played = evaluate_in_context(
            policy,
            simulator_of(env),
            self.split.held_out,
            episodes,
            seed=seed,
            deterministic=self.deterministic,
            target_return=target_return,
            trained_on=self.split.train,
            on_episode=on_episode,
        )
        env.close()
        returns = played.returns.reshape(-1)
        return Evaluation(returns, np.zeros(len(returns), np.int64), np.full(len(returns), seed))


@dataclass(frozen=True)
class Subject:
    """A dataset as the verb was given it.

    Attributes:
        id: Its Minari id.
        folder: Where it is; None: where Minari looks for it.
        environment: Id of the environment that it records; None: it records none.
        split: Its tasks, if it is a set of histories.
    """

    id: str
    folder: Path | None
    environment: str | None
    split: Split | None

    @classmethod
    def of(cls, word: str) -> Subject:
        """Looks a Minari id, or the path of a dataset's folder, up.

        Raises:
            DatasetError: There is no such dataset.
        """
        folder = Path(word) if (Path(word) / "data" / "metadata.json").is_file() else None
        loaded: MinariDataset = load_minari(folder or word)
        spec = loaded.env_spec
        split = read_split(folder or word) if names_histories(loaded) else None
        recorded = None if spec is None else spec.id
        return cls(loaded.id, folder, recorded if split is None else split.env_id, split)

    def read(self, recipe: Recipe) -> Trajectories | Histories:
        """Reads what a system learns from; held-out tasks are left out."""
        if self.split is not None:
            return Histories.from_minari(self.folder or self.id).train
        if BY_NAME[recipe.class_name](**recipe.hyperparameters).remembers_episodes:
            return as_histories(self.folder or self.id)
        return read_data(recipe, self.folder)

    def judge(self, recipe: Recipe, env: str | None) -> Judge | None:
        """Chooses how to judge; None where no environment is known.

        Args:
            recipe: Whose plan says how.
            env: Id of an environment to take the place of the dataset's own.

        Raises:
            ValueError: gymnasium does not know the id.
        """
        plan = recipe.plan
        if env is not None:
            recipe = replace(recipe, plan=replace(plan, game=None, environment={}))
            make = environment_of(recipe, partial(known_environment, env))
            return EpisodeJudge(env, make, plan.deterministic)
        if self.split is not None and self.split.held_out:
            return TaskJudge(self.split, plan.deterministic)
        if self.environment is None:
            return None
        make = environment_of(recipe, self.folder or self.id)
        return EpisodeJudge(self.environment, make, plan.deterministic)


def known_environment(env_id: str, **options: Any) -> gym.Env[Any, Any]:
    """Makes a registered environment; ids of `decision_policies.envs` are registered here.

    Raises:
        ValueError: There is none of that id, or its package is missing; says what to do.
    """
    import decision_policies.envs  # noqa: F401 - importing it registers its ids

    try:
        return gym.make(env_id, **options)
    except gym.error.DependencyNotInstalled as error:
        raise ValueError(f"{env_id} cannot be made: {error}") from error
    except gym.error.UnregisteredEnv as error:
        hint = close_to(env_id, gym.registry) if "/" not in env_id else ""
        hint = hint if "did you mean" in hint else ""
        raise ValueError(
            f"gymnasium knows no environment {env_id!r}{hint or ': is its package installed?'}"
        ) from error


def choose_recipe(
    algo: str, subject: Subject, given: Mapping[str, Any], **changes: Any
) -> tuple[Recipe, list[str]]:
    """Puts together what the tables and the options say of a system on a dataset.

    Args:
        algo: Label of a table or name of a class, in any case.
        subject: The dataset.
        given: Hyper-parameters that take the place of the table's.
        changes: Keys of the plan that take the place of the table's.

    Returns:
        The recipe, and what the user should know of how it came about.

    Raises:
        ValueError: There is no such system or hyper-parameter, or a value is wrong.
    """
    tables, notes = _with_plan(_tables(subject.split), subject)
    label = _label(algo, tables)
    if not tables.systems[label]:
        notes.append(f"{label} has no table in zoo/hyperparameters: it has its class's defaults")
    recipe = tables.recipe(label, subject.id, **changes)
    check_names(BY_NAME[recipe.class_name], given)
    # The return that is asked for in evaluations is the policy's own, for whoever loads it.
    asked = {"target_return": float(recipe.plan.targets[0])}
    recipe = replace(recipe, hyperparameters={**asked, **recipe.hyperparameters, **given})
    check(label, recipe.class_name, recipe.hyperparameters)
    return recipe, notes


def _tables(split: Split | None) -> Tables:
    """All tables in one; those that were made for such a dataset come first."""
    first, second = Tables.read(FOLDER), Tables.read(IN_CONTEXT)
    if split is not None:
        first, second = second, first
    bare = {name: name for name in BY_NAME if name not in {**second.classes, **first.classes}}
    return Tables(
        plans=first.plans,
        systems={**{name: {} for name in bare}, **second.systems, **first.systems},
        classes={**bare, **second.classes, **first.classes},
        left_out={},
    )


def _with_plan(tables: Tables, subject: Subject) -> tuple[Tables, list[str]]:
    """Adds a plan for a dataset that has none, and says so."""
    if subject.split is not None:
        return _with_world(tables, subject, subject.split)
    if subject.id in tables.plans:
        return tables, []
    best = float(Trajectories.from_minari(subject.folder or subject.id).returns.max())
    note = (
        f"{subject.id} has no plan in zoo/hyperparameters/datasets.yml: defaults, and the best "
        f"return of the data, {best:g}, is asked for"
    )
    return replace(tables, plans={**tables.plans, subject.id: {"targets": [best]}}), [note]


def _with_world(tables: Tables, subject: Subject, split: Split) -> tuple[Tables, list[str]]:
    """Gives a set of histories the blocks of its environment, if the tables have any."""
    names = [name for name, world in WORLDS.items() if world["env_id"] == split.env_id]
    name = names[0] if names else ""
    plan = {"updates": UPDATES, "deterministic": False, **tables.plans.get(name, {})}
    plan["evaluate_every"] = max(1, plan["updates"] // EVALUATIONS)
    systems = {
        label: {**blocks, subject.id: blocks[name]} if name in blocks else blocks
        for label, blocks in tables.systems.items()
    }
    notes = [] if name else [f"{split.env_id} has no plan: {UPDATES} updates, and defaults"]
    plans = {**tables.plans, subject.id: plan}
    return replace(tables, plans=plans, systems=systems), notes


def _label(algo: str, tables: Tables) -> str:
    """The label that a word means, in any case.

    Raises:
        ValueError: There is none; names close ones.
    """
    by_lower = {label.lower(): label for label in tables.systems}
    label = by_lower.get(algo.lower())
    ours = [x for x in by_lower.values() if not tables.classes[x].startswith(PEER_PREFIX)]
    if label is None:
        raise ValueError(f"there is no algorithm {algo!r}{close_to(algo, sorted(ours))}")
    if label not in ours:
        raise ValueError(f"{label} is trained by d3rlpy: python -m zoo benchmark")
    return label
