"""What most studies do in a cell: train a system by its table and play evaluation episodes."""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml

from decision_policies import Histories, SequenceAlgorithm, Trajectories, evaluate_policy
from decision_policies.algorithms import BY_NAME
from zoo.benchmark_run import SEED_SETS, evaluation, machine, settings
from zoo.progress import Tick
from zoo.tables import FOLDER, Recipe, Tables

from .study import Row

FIRST_SEED = SEED_SETS["evaluation"]
"""Seed of the first episode that is played; recipes are chosen on others."""

SIZES = {"width": "d_model", "context": "context_length"}
"""Options that take the place of a hyper-parameter of all systems."""


def add_arguments(
    parser: argparse.ArgumentParser, *sizes: str, without: Collection[str] = ()
) -> None:
    """Adds the options that say what is trained, on what, and for how long.

    Args:
        parser: The parser.
        sizes: Keys of `SIZES` that the study does not vary itself.
        without: "dataset" and "episodes", where they mean nothing to the study.
    """
    add = parser.add_argument
    if "dataset" not in without:
        text = "Minari id; one that is in no table asks for its best return"
        add("--dataset", metavar="ID", help=text)
    add("--algorithms", "--algorithm", nargs="+", metavar="LABEL", help="labels of tables")
    add("--seeds", nargs="+", type=_seed, metavar="N", help="of weights and batches")
    add("--updates", type=int, metavar="N", help="gradient updates instead of the tables'")
    if "episodes" not in without:
        text = "episodes that are played instead of the tables'"
        add("--episodes", type=int, metavar="N", help=text)
    for size in sizes:
        add(f"--{size}", type=int, metavar="N", help=f"{SIZES[size]} instead of the tables'")
    add(
        "--set",
        nargs="+",
        type=_setting,
        default=[],
        metavar="NAME=VALUE",
        help="hyper-parameters of all systems instead of the tables'",
    )
    add("--tables", type=Path, default=FOLDER, metavar="DIR", help="folder of tables")


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError:
        equals = ""
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE such as d_state=8, got {text!r}")
    return name, found


def chosen(arguments: argparse.Namespace, **varied: Any) -> dict[str, Any]:
    """Hyper-parameters that options and study put in the place of the tables'.

    Args:
        arguments: Those of `add_arguments`.
        varied: What the study itself says.

    Raises:
        ValueError: An option names what the study says.
    """
    sizes = {name: getattr(arguments, size, None) for size, name in SIZES.items()}
    given = {name: size for name, size in sizes.items() if size is not None}
    for name, value in arguments.set:
        if name in varied:
            raise ValueError(f"--set {name}={value}: {name} is what this study varies itself")
        given[name] = value
    return given | varied


def check(label: str, class_name: str, hyperparameters: Mapping[str, Any]) -> None:
    """Raises a ValueError if a class does not take some hyper-parameters."""
    try:
        BY_NAME[class_name](**hyperparameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label}: {error}") from error


def make_recipe(arguments: argparse.Namespace, label: str, **hyperparameters: Any) -> Recipe:
    """Puts together what the tables and the options say of a system.

    Args:
        arguments: Those of `add_arguments`.
        label: A label of a table.
        hyperparameters: Take the place of the table's.

    Raises:
        ValueError: No such label or dataset, a peer's label, or a wrong value.
    """
    tables, dataset = Tables.read(arguments.tables), arguments.dataset
    if dataset not in tables.plans:
        best = float(Trajectories.from_minari(dataset).returns.max())
        tables = replace(tables, plans={**tables.plans, dataset: {"targets": [best]}})
    return recipe_of(arguments, tables, label, dataset, **hyperparameters)


def recipe_of(
    arguments: argparse.Namespace,
    tables: Tables,
    label: str,
    dataset: str,
    **hyperparameters: Any,
) -> Recipe:
    """Puts together what given tables and the options say of a system on a set.

    Args:
        arguments: Those of `add_arguments`.
        tables: The tables.
        label: A label of a table.
        dataset: One that has a plan.
        hyperparameters: Take the place of the table's.

    Raises:
        ValueError: No such label or dataset, a peer's label, or a wrong value.
    """
    given = {"updates": arguments.updates, "episodes": getattr(arguments, "episodes", None)}
    changes = {name: value for name, value in given.items() if value is not None}
    recipe = tables.recipe(label, dataset, **changes)
    if recipe.is_peer:
        raise ValueError(f"studies train systems of decision_policies, and {label} is d3rlpy's")
    others = chosen(arguments, **hyperparameters)
    recipe = replace(recipe, hyperparameters={**recipe.hyperparameters, **others})
    check(label, recipe.class_name, recipe.hyperparameters)
    return recipe


@dataclass(frozen=True)
class Training:
    """A training of a study.

    Attributes:
        recipe: What to train on what.
        seed: Of weights and batches.
    """

    recipe: Recipe
    seed: int

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides its result beside the seed and what the study changes.

        Raises:
            DatasetError: There is no such set.
        """
        return {
            "dataset": self.recipe.dataset,
            "data": Trajectories.from_minari(self.recipe.dataset).source.digest,
            **self.own_settings,
        }

    @property
    def own_settings(self) -> Mapping[str, Any]:
        """The same without the data."""
        return {
            "class": self.recipe.class_name,
            "updates": self.recipe.plan.updates,
            "first_seed": FIRST_SEED,
            **settings(self.recipe),
        }

    def run(
        self,
        data: Trajectories,
        environment: Callable[[], gym.Env[Any, Any]],
        tick: Tick,
        targets: Sequence[float] = (),
    ) -> Row:
        """Trains, plays, and words both for a row.

        Args:
            data: What to learn from.
            environment: Makes the environment to play in.
            tick: Told of each update.
            targets: Returns to ask for; the plan's first where none is given.

        Returns:
            Parameters, data, CPU seconds, and an evaluation for each target (one for a system that
            is not told what to reach).

        Raises:
            KeyboardInterrupt: Ctrl-C while it was training.
        """
        start = time.process_time()
        algorithm = self.train(data, tick)
        policy, plan = algorithm.policy, self.recipe.plan
        assert policy is not None, "it has been trained"
        asked = (targets or plan.targets[:1]) if policy.spec.uses_returns else (None,)
        played = [
            evaluate_policy(
                policy,
                environment,
                plan.episodes,
                target_return=target,
                seed=FIRST_SEED,
                n_envs=plan.episodes,
                deterministic=plan.deterministic,
            )
            for target in asked
        ]
        references = data.source.reference_scores
        return {
            "parameters": sum(p.numel() for p in policy.model.parameters()),
            "steps": data.n_steps,
            "data": data.source.digest,
            "references": None if references is None else list(references),
            "evaluations": [
                {
                    **evaluation(plan.updates, policy.inference, target, episodes, references),
                    "lengths": episodes.lengths.tolist(),
                }
                for target, episodes in zip(asked, played, strict=True)
            ],
            "cpu_seconds": round(time.process_time() - start, 1),
            "machine": machine(str(algorithm.torch_device())),
        }

    def train(
        self, data: Trajectories | Histories, tick: Tick, seconds: float = math.inf
    ) -> SequenceAlgorithm:
        """Trains; fewer updates than the plan's are made only where the time was over.

        Args:
            data: What to learn from.
            tick: Told of each update.
            seconds: CPU time after which to stop.

        Raises:
            KeyboardInterrupt: Ctrl-C.
        """
        recipe, end = self.recipe, time.process_time() + seconds
        over = False

        def count(_: Mapping[str, Any], __: Mapping[str, Any]) -> bool:
            nonlocal over
            tick(1)
            over = time.process_time() >= end
            return not over

        algorithm = BY_NAME[recipe.class_name](seed=self.seed, **recipe.hyperparameters)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "interrupted after")  # the cell is not kept
            algorithm.learn(data, recipe.plan.updates, callback=count)
        if algorithm.num_timesteps < recipe.plan.updates and not over:
            raise KeyboardInterrupt
        return algorithm


def score(row: Row) -> float:
    """The score of a row: normalised where the set has reference scores, else the mean return."""
    first = row["evaluations"][0]
    return float(first["mean"] if first["normalised"] is None else first["normalised"])
