"""One run of the benchmark: train a system on a set from checkpoint to checkpoint, and evaluate."""

from __future__ import annotations

import json
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import gymnasium as gym
from gymnasium.wrappers import FrameStackObservation

import decision_policies
from decision_policies import SequenceAlgorithm, SequencePolicy, Trajectories, evaluate_policy
from decision_policies.algorithms import BY_NAME
from decision_policies.data import recover_environment
from decision_policies.envs import make_atari
from decision_policies.evaluation import Evaluation as Episodes
from decision_policies.evaluation import normalized_score

from .benchmark_rows import Evaluation, Row, fingerprint, write_whole
from .tables import Recipe

SEED_SETS = {"evaluation": 900_000, "development": 10_000}
"""First seed of each set. Recipes are chosen on development seeds; nothing on evaluation seeds."""

Tick: TypeAlias = Callable[[int, str], None]
"""Told how many updates were made in all, and what is going on."""

NOT_HYPERPARAMETERS = ("seed", "device", "verbose", "tensorboard_log")
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "ale-py")

LATER: dict[str, Any] = {
    "gradient_accumulation_steps": 1,
    "precision": "float32",
    "torch_compile": False,
    "features_extractor_class": None,
    "features_extractor_kwargs": None,
    "reward_coef": 1.0,
}
"""Hyper-parameters that came after the first results, at the value that they had then: left out, so
that those results hold."""


class Progress(TypedDict):
    """What a run's folder knows beside the policy.

    Attributes:
        hash: Of hyper-parameters and plan; another one starts anew.
        seconds: Wall and CPU seconds of each stretch of training, by its last update.
        evaluation_seconds: Wall time of the evaluations so far.
        evaluations: Those made so far.
        complete: Whether the row has been handed over.
    """

    hash: str
    seconds: dict[str, tuple[float, float]]
    evaluation_seconds: float
    evaluations: list[Evaluation]
    complete: bool


def settings(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """What decides a run beside its key: hyper-parameters, defaults included, and plan."""
    plan = recipe.plan.to_json()
    del plan["updates"]
    if recipe.is_peer:
        return {"hyperparameters": dict(recipe.hyperparameters), "plan": plan}
    given = BY_NAME[recipe.class_name](**recipe.hyperparameters).hyperparameters()
    hyper = {k: v for k, v in given.items() if k not in NOT_HYPERPARAMETERS}
    hyper = {k: v for k, v in hyper.items() if (k, v) not in LATER.items()}
    return {"hyperparameters": hyper, "plan": plan}


def read_data(recipe: Recipe, folder: Path | None = None) -> Trajectories:
    """Reads the data as the plan wants them.

    Args:
        recipe: Names the set.
        folder: Where the set is, if Minari does not find it by its id.

    Raises:
        DatasetError: There is no such set, or it has no frames to stack or shift.
    """
    data = Trajectories.from_minari(folder or recipe.dataset)
    if recipe.plan.frame_stack is not None:
        data = data.stack_frames(recipe.plan.frame_stack)
    if recipe.plan.image_shift:
        data = data.shift_images(recipe.plan.image_shift)
    return data.clip_rewards() if recipe.plan.clip_rewards else data


def environment_of(
    recipe: Recipe, source: str | Path | Callable[[], gym.Env[Any, Any]] | None = None
) -> Callable[[], gym.Env[Any, Any]]:
    """A function that makes the environment of a recipe's set, as its data want it.

    Args:
        recipe: Names the set, and says what its data want.
        source: The set's id or folder, if it is not the recipe's; or what makes the environment
            before it is adapted.

    Raises:
        DatasetError: The set names none.
    """
    plan = recipe.plan
    if plan.game is not None:
        return partial(make_atari, plan.game, frame_stack=plan.frame_stack or 1)
    recover = source if callable(source) else recover_environment(source or recipe.dataset)

    def make() -> gym.Env[Any, Any]:
        env = recover()
        if plan.environment:
            assert env.spec is not None, "gymnasium has made it"
            env = gym.make(env.spec, **plan.environment)
        return env if plan.frame_stack is None else FrameStackObservation(env, plan.frame_stack)

    return make


@dataclass
class Run:
    """A run in its folder, which holds the policy of the last checkpoint and `run.json`.

    Attributes:
        recipe: What to train on what.
        seed: Of weights and batches.
        folder: Where it is kept; what is there goes on if it is of the same recipe.
        seed_set: A key of `SEED_SETS`.
        tick: Told how far the run is.
    """

    recipe: Recipe
    seed: int
    folder: Path
    seed_set: str = "evaluation"
    tick: Tick = lambda updates, doing: None
    progress: Progress = field(init=False)
    discarded: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Reads what the folder knows, or clears it; says in `discarded` if that was unfinished."""
        mark = fingerprint(settings(self.recipe))
        self.progress = {
            "hash": mark,
            "seconds": {},
            "evaluation_seconds": 0.0,
            "evaluations": [],
            "complete": False,
        }
        path = self.folder / "run.json"
        if path.exists():
            kept: Progress = json.loads(path.read_text())
            if kept["hash"] == mark and not kept["complete"]:
                self.progress = kept
                return
            self.discarded = not kept["complete"]
        shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self) -> Row:
        """Trains and evaluates what has not been yet, and sums it up.

        Raises:
            KeyboardInterrupt: Ctrl-C; the last checkpoint and its evaluations are kept.
        """
        data = read_data(self.recipe)
        environment = environment_of(self.recipe)
        algorithm = self._algorithm()
        for stop in self.recipe.plan.checkpoints():
            if algorithm.num_timesteps < stop:
                self._train(algorithm, data, stop)
            if algorithm.num_timesteps == stop:
                self._evaluate(algorithm, data, environment)
        return self._row(algorithm, data)

    def mark_complete(self) -> None:
        """Notes that the row is in its file: a run that comes to this folder starts anew."""
        self.progress["complete"] = True
        self._write()

    def _algorithm(self) -> SequenceAlgorithm:
        if (self.folder / "policy").exists():
            return decision_policies.load(self.folder / "policy")
        return BY_NAME[self.recipe.class_name](seed=self.seed, **self.recipe.hyperparameters)

    def _train(self, algorithm: SequenceAlgorithm, data: Trajectories, stop: int) -> None:
        """Trains up to a checkpoint, on the schedule of the whole training."""

        def go_on(_: Mapping[str, Any], __: Mapping[str, Any]) -> bool:
            self.tick(algorithm.num_timesteps, "training")
            return algorithm.num_timesteps < stop

        wall, cpu = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "interrupted after")  # said in other words below
            algorithm.learn(
                data,
                self.recipe.plan.updates - algorithm.num_timesteps,
                callback=go_on,
                reset_num_timesteps=False,
            )
        if algorithm.num_timesteps < stop:
            raise KeyboardInterrupt
        seconds = (time.perf_counter() - wall, time.process_time() - cpu)
        self.progress["seconds"][str(stop)] = seconds
        self._write()
        algorithm.save(self.folder / "policy")

    def _evaluate(
        self, algorithm: SequenceAlgorithm, data: Trajectories, environment: Callable[[], Any]
    ) -> None:
        """Evaluates a checkpoint: the system's own mode, at the last one the others too."""
        policy, done = algorithm.policy, algorithm.num_timesteps
        assert policy is not None, "it has been trained"
        own: str = policy.inference
        others = [mode for mode in self.recipe.plan.modes if mode != own]
        targets = self.recipe.plan.targets if policy.spec.uses_returns else (None,)
        for mode in [own, *(others if done == self.recipe.plan.updates else [])]:
            for target in targets:
                if not self._has(done, mode, target):
                    self.tick(done, f"evaluating, {mode}" + (f", {target}" if target else ""))
                    self._play(policy, data, environment, (done, mode, target))

    def _has(self, updates: int, mode: str, target: float | None) -> bool:
        return any(
            (e["updates"], e["mode"], e["target"]) == (updates, mode, target)
            for e in self.progress["evaluations"]
        )

    def _play(
        self,
        policy: SequencePolicy,
        data: Trajectories,
        environment: Callable[[], Any],
        point: tuple[int, Any, float | None],
    ) -> None:
        """Plays the episodes of one point and writes them down."""
        updates, mode, target = point
        try:
            fork = policy.fork(inference=mode)
        except ValueError:  # a context of one step cannot be staggered
            return
        start = time.perf_counter()
        episodes = evaluate_policy(
            fork,
            environment,
            self.recipe.plan.episodes,
            target_return=target,
            seed=SEED_SETS[self.seed_set],
            deterministic=self.recipe.plan.deterministic,
        )
        self.progress["evaluation_seconds"] += time.perf_counter() - start
        scores = data.source.reference_scores
        self.progress["evaluations"].append(evaluation(updates, mode, target, episodes, scores))
        self._write()

    def _row(self, algorithm: SequenceAlgorithm, data: Trajectories) -> Row:
        assert algorithm.policy is not None, "it has been trained"
        values = settings(self.recipe)
        wall, cpu = (sum(column) for column in zip(*self.progress["seconds"].values(), strict=True))
        scores = data.source.reference_scores
        return {
            "label": self.recipe.label,
            "class_name": self.recipe.class_name,
            "dataset": self.recipe.dataset,
            "seed": self.seed,
            "updates": self.recipe.plan.updates,
            "seed_set": self.seed_set,
            **values,  # type: ignore[typeddict-item]
            "hash": self.progress["hash"],
            "parameters": sum(p.numel() for p in algorithm.policy.model.parameters()),
            "mode": algorithm.policy.inference,
            "wall_seconds": round(wall, 1),
            "cpu_seconds": round(cpu, 1),
            "evaluation_seconds": round(self.progress["evaluation_seconds"], 1),
            "environment": data.source.environment or "",
            "reference_scores": None if scores is None else list(scores),
            "data": data.source.digest,
            "versions": versions(),
            "machine": machine(str(algorithm.torch_device())),
            "evaluations": self.progress["evaluations"],
        }

    def _write(self) -> None:
        write_whole(self.folder / "run.json", json.dumps(self.progress))


def evaluation(
    updates: int,
    mode: str,
    target: float | None,
    episodes: Episodes,
    reference_scores: tuple[float, float] | None,
) -> Evaluation:
    """Words an evaluation for a row; figures are of the rounded returns, as a reader has them."""
    returns = episodes.returns.round(3)
    normalised = None
    if reference_scores is not None:
        normalised = round(float(normalized_score(returns, reference_scores).mean()), 2)
    return {
        "updates": updates,
        "mode": mode,
        "target": target,
        "returns": returns.tolist(),
        "mean": round(float(returns.mean()), 3),
        "std": round(float(returns.std()), 3),
        "normalised": normalised,
    }


def versions() -> dict[str, str]:
    """Versions of what decides the figures."""
    found = {
        "decision-policies": decision_policies.__version__,
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine(device: str) -> str:
    """The class of machine: its processor, and what computed."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        processor = models[0].partition(":")[2].strip() if models else processor
    return f"{processor}, one thread" if device == "cpu" else f"{device} beside {processor}"
