"""A training in its folder: from evaluation to evaluation, with all that an exact resume needs."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter, Logger, make_output_format

import decision_policies
from decision_policies import Histories, SequenceAlgorithm, Trajectories
from decision_policies.algorithms import BY_NAME
from decision_policies.errors import TrainingDivergedError
from decision_policies.evaluation import Evaluation
from decision_policies.learning.interrupt import deferred_interrupt

from .benchmark_rows import lock, write_whole
from .benchmark_run import SEED_SETS, evaluation
from .experiments import Curve, Experiment
from .progress import Tick, progress_bar, say
from .tables import Plan, Recipe
from .training_setup import Judge, Subject, TaskJudge

CHOOSING = SEED_SETS["development"]
"""Seed of the first episode on the way, by which the best policy is chosen."""
FRESH = SEED_SETS["evaluation"]
"""Seed of the first episode at the end: nothing was chosen by these."""
FINAL = "final_evaluation.json"


@dataclass(frozen=True)
class Settings:
    """What args.yml holds: with config.yml, all that decides a training.

    Attributes:
        algo: Label of the system.
        class_name: Its class.
        dataset: Minari id, or path of a folder.
        env: Name of the environment in the folder's name.
        other_env: Id of an environment that takes the place of the dataset's own.
        seed: Of weights and batches.
        n_timesteps: Gradient updates.
        eval_freq: Updates between two evaluations; 0: none.
        eval_episodes: Episodes of an evaluation (of each task, for sets of histories).
        save_freq: Updates between two checkpoints that are kept; 0: none.
        target_return: The return to ask for in evaluations; None is the policy's own.
        hyperparams: Hyper-parameters that were given on the command line.
        tensorboard_log: Folder for TensorBoard.
        plan: The plan, as `Plan.to_json` has it.
    """

    algo: str
    class_name: str
    dataset: str
    env: str
    other_env: str | None
    seed: int
    n_timesteps: int
    eval_freq: int
    eval_episodes: int
    save_freq: int
    target_return: float | None
    hyperparams: Mapping[str, Any]
    tensorboard_log: str | None
    plan: Mapping[str, Any]

    @classmethod
    def of(cls, experiment: Experiment) -> Settings:
        """Reads args.yml.

        Raises:
            ValueError: It is not as it was written.
        """
        values = experiment.read("args.yml")
        if set(values) != {f.name for f in dataclasses.fields(cls)}:
            raise ValueError(f"{experiment.folder / 'args.yml'} was not written by this version")
        return cls(**values)

    def to_yaml(self) -> dict[str, Any]:
        """The same as plain values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}

    def recipe(self, dataset: str, hyperparameters: Mapping[str, Any]) -> Recipe:
        """The recipe that a training was begun with, whatever the tables say by now."""
        lists = {k: tuple(v) for k, v in self.plan.items() if isinstance(v, list)}
        plan = Plan(**{**self.plan, **lists})
        return Recipe(self.algo, self.class_name, dataset, hyperparameters, plan)


@dataclass
class TrainingRun:
    """A training and its folder.

    Attributes:
        experiment: The folder, with args.yml and config.yml; what is there goes on.
        settings: The content of args.yml.
        quiet: Show nothing on the way.
        device: Where to compute.
    """

    experiment: Experiment
    settings: Settings
    quiet: bool = False
    device: str = "auto"
    algorithm: SequenceAlgorithm = field(init=False)
    data: Trajectories | Histories = field(init=False)
    judge: Judge | None = field(init=False)
    curve: Curve = field(init=False)

    def __post_init__(self) -> None:
        """Reads data and checkpoint, and forgets evaluations after the checkpoint."""
        subject = Subject.of(self.settings.dataset)
        values = self.experiment.read("config.yml")
        recipe = self.settings.recipe(subject.id, values)
        self.judge = subject.judge(recipe, self.settings.other_env)
        self.data = subject.read(recipe)
        if self.experiment.last.exists():
            self.algorithm = decision_policies.load(self.experiment.last, device=self.device)
        else:
            self.algorithm = BY_NAME[recipe.class_name](**{**values, "device": self.device})
        self.curve = self.experiment.curve().until(self.algorithm.num_timesteps)

    @property
    def done(self) -> int:
        """Updates made so far."""
        return self.algorithm.num_timesteps

    def finish(self) -> None:
        """Makes the updates and evaluations that are left, and the final evaluation.

        Raises:
            KeyboardInterrupt: Ctrl-C; the policy is saved as it is, and a resume is exact.
            ValueError: Another process trains in this folder, or the loss is no longer finite.
        """
        total = self.settings.n_timesteps
        title = f"{self.settings.algo} on {self.settings.dataset}"
        with _held(self.experiment), progress_bar(title, total, not self.quiet) as tick:
            tick(self.done)
            try:
                with self._logger():
                    for stop in self._stops():
                        self._train(stop, tick)
                        self._keep(stop)
                self._finally()
                self._zip()
            except KeyboardInterrupt:
                self._save()
                raise
            except TrainingDivergedError as error:
                raise ValueError(
                    f"{error}. A lower learning rate or max_grad_norm helps (--hyperparams); "
                    f"{self.experiment.folder} holds what was saved before"
                ) from error

    def _stops(self) -> list[int]:
        """Updates after which something is to be done, from those made so far on, in order."""
        total, stops = self.settings.n_timesteps, {self.settings.n_timesteps}
        for every in (self.settings.eval_freq, self.settings.save_freq):
            stops.update(range(every, total, every) if every else ())
        return sorted(stop for stop in stops if stop >= self.done)

    def _train(self, stop: int, tick: Tick) -> None:
        """Trains up to a stop, and saves."""
        if self.done < stop:
            learn_until(stop, self.settings.n_timesteps, self.algorithm, self.data, tick)
            self._save()

    def _save(self) -> None:
        if self.algorithm.policy is not None:
            self.algorithm.save(self.experiment.last)

    def _keep(self, stop: int) -> None:
        """Does what is due after some updates: keep a copy, evaluate."""
        every = self.settings.save_freq
        if every and stop % every == 0:
            self.algorithm.save(self.experiment.copy(stop))
        if self.judge is not None and self.settings.eval_freq and stop not in self.curve.timesteps:
            freq = self.settings.eval_freq
            if stop % freq == 0 or stop == self.settings.n_timesteps:
                self._evaluate(stop)

    def _evaluate(self, stop: int) -> None:
        """Adds an evaluation to the curve, and keeps the policy if it is the best so far."""
        episodes = self._play(self.algorithm, CHOOSING)
        self._log(episodes)
        before, curve = self.curve.best(), self.curve
        if before is None or episodes.mean > before[1]:
            self.algorithm.save(self.experiment.best, training_state=False)
        results, lengths = episodes.returns[None], episodes.lengths[None]
        first = not len(curve.timesteps)
        counted = None
        if not isinstance(self.judge, TaskJudge):
            counted = lengths if first else np.concatenate([curve.ep_lengths, lengths])
        self.curve = Curve(
            np.append(curve.timesteps, stop),
            results if first else np.concatenate([curve.results, results]),
            counted,
        )
        self.experiment.write_curve(self.curve)
        self._say(f"{stop}/{self.settings.n_timesteps} updates: {in_words(episodes)}")

    def _play(self, algorithm: SequenceAlgorithm, seed: int) -> Evaluation:
        """Plays episodes from a seed on."""
        policy = algorithm.policy
        assert policy is not None, "it has been trained"
        assert self.judge is not None, "the callers have checked it"
        target = self._target(algorithm)
        with progress_bar("evaluating", self._episodes(), not self.quiet) as tick:
            return self.judge(policy, self.settings.eval_episodes, seed, target, lambda: tick(1))

    def _episodes(self) -> int:
        tasks = len(self.judge.split.held_out) if isinstance(self.judge, TaskJudge) else 1
        return self.settings.eval_episodes * tasks

    def _target(self, algorithm: SequenceAlgorithm) -> float | None:
        policy = algorithm.policy
        asks = policy is not None and policy.spec.uses_returns
        return self.settings.target_return if asks else None

    def _finally(self) -> None:
        """Plays fresh episodes with the last and the best policy, and writes both down."""
        best = self.curve.best()
        path = self.experiment.folder / FINAL
        if best is None or self.judge is None:
            return
        last = {"last": self._worded(self.algorithm)}
        if best[0] == self.done:
            last["best"] = last["last"]
        else:
            last["best"] = self._worded(
                decision_policies.load(self.experiment.best, device=self.device)
            )
        write_whole(path, json.dumps(last, indent=2) + "\n")

    def _zip(self) -> None:
        """Leaves each policy in one file, too, which is where rl_zoo3's scripts look for it."""
        kept = [self.experiment.copy(updates) for updates in self.experiment.copies()]
        for folder in (self.experiment.last, self.experiment.best, *kept):
            if folder.exists():
                algorithm = decision_policies.load(folder, device=self.device)
                algorithm.save(f"{folder}.zip", training_state=False)

    def _worded(self, algorithm: SequenceAlgorithm) -> dict[str, Any]:
        episodes, policy = self._play(algorithm, FRESH), algorithm.policy
        assert policy is not None, "it has played"
        assert self.judge is not None, "it was judged"
        scores = algorithm.source.reference_scores
        words = evaluation(
            algorithm.num_timesteps, policy.inference, self._target(algorithm), episodes, scores
        )
        return {"environment": self.judge.name, "first_seed": FRESH, **words}

    @contextmanager
    def _logger(self) -> Iterator[None]:
        """Writes losses and evaluations to progress.csv, and to TensorBoard if it is wanted."""
        folder, writers = self.experiment.folder, list[KVWriter]()
        suffix = f"_from_{self.done}" if self.done else ""  # an old file would be overwritten
        writers.append(make_output_format("csv", str(folder), suffix))
        if self.settings.tensorboard_log is not None:
            place = Path(self.settings.tensorboard_log, folder.parent.name, folder.name)
            writers.append(make_output_format("tensorboard", str(place)))
        logger = Logger(str(folder), writers)
        self.algorithm.set_logger(logger)
        try:
            yield
        finally:
            logger.close()

    def _log(self, episodes: Evaluation) -> None:
        """Adds an evaluation to the log, by Stable-Baselines3's names."""
        self.algorithm.logger.record("eval/mean_reward", episodes.mean)
        self.algorithm.logger.record("eval/mean_ep_length", float(episodes.lengths.mean()))
        self.algorithm.dump_logs()

    def _say(self, text: str) -> None:
        if not self.quiet:
            say(text)


def learn_until(
    stop: int,
    total: int,
    algorithm: SequenceAlgorithm,
    data: Trajectories | Histories,
    tick: Tick,
) -> None:
    """Trains up to a stop, on the schedule of the whole training.

    Args:
        stop: Updates to stop after.
        total: Updates of the whole training.
        algorithm: What is trained.
        data: What it learns from.
        tick: Told of each update.

    Raises:
        KeyboardInterrupt: Ctrl-C, held back until an update is whole.
        TrainingDivergedError: The loss is no longer finite.
    """

    def go_on(_: Mapping[str, Any], __: Mapping[str, Any]) -> bool:
        tick(1)
        return algorithm.num_timesteps < stop and not interrupt.requested

    # Held back here, since learn has no ear for a Ctrl-C in the last update before a stop.
    with deferred_interrupt() as interrupt, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "interrupted after")  # said in other words
        left = total - algorithm.num_timesteps
        algorithm.learn(data, left, callback=go_on, reset_num_timesteps=False)
    if algorithm.num_timesteps < stop or interrupt.requested:
        raise KeyboardInterrupt


def in_words(episodes: Evaluation) -> str:
    """Mean and deviation, and which episodes they are of."""
    low, n = int(episodes.seeds[0]), len(episodes.returns)
    last = int(episodes.seeds[-1])
    seeds = f"seeds {low} to {last}" if last > low else f"seed {low}"
    return f"{episodes.mean:.1f} ± {episodes.std:.1f} over {n} episodes, {seeds}"


@contextmanager
def _held(experiment: Experiment) -> Iterator[None]:
    """Keeps other processes from training in the same folder.

    Raises:
        ValueError: One does already.
    """
    with ExitStack() as held:
        try:
            held.enter_context(lock(experiment.folder / ".lock"))
        except ValueError as error:
            raise ValueError(
                f"another process trains in {experiment.folder}: wait for it, or stop it"
            ) from error
        yield
