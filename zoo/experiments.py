"""The folders of trainings, `logs/<algo>/<env>_<N>`: their names, what is in them, finding them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from .benchmark_rows import write_whole

LOGS = Path("logs")
BEST = "best_model"
COPY = re.compile(r"rl_model_(\d+)_steps")


@dataclass(frozen=True)
class Curve:
    """The evaluations of a training, as Stable-Baselines3's EvalCallback keeps them.

    Attributes:
        timesteps: Updates at each evaluation, (n,).
        results: Returns of its episodes, (n, episodes).
        ep_lengths: Their steps, (n, episodes); None where they were not counted.
    """

    timesteps: NDArray[np.int64]
    results: NDArray[np.float64]
    ep_lengths: NDArray[np.int64] | None = None

    def until(self, updates: int) -> Curve:
        """What was evaluated up to a number of updates."""
        there = self.timesteps <= updates
        lengths = None if self.ep_lengths is None else self.ep_lengths[there]
        return Curve(self.timesteps[there], self.results[there], lengths)

    def best(self) -> tuple[int, float] | None:
        """Updates and mean return of the best evaluation, the first of equals; None of none."""
        if not len(self.timesteps):
            return None
        means = self.results.mean(1)
        place = int(means.argmax())
        return int(self.timesteps[place]), float(means[place])


@dataclass(frozen=True)
class Experiment:
    """The folder of a training.

    Attributes:
        folder: Such as logs/dema/CartPole-v1_1.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Name of the environment, as the folder has it."""
        return self.folder.name.rpartition("_")[0]

    @property
    def number(self) -> int:
        """N of `<env>_<N>`."""
        return int(self.folder.name.rpartition("_")[2])

    @property
    def last(self) -> Path:
        """Checkpoint of the last policy, with what a resume needs."""
        return self.folder / self.name

    @property
    def best(self) -> Path:
        """Checkpoint of the policy with the best evaluation so far."""
        return self.folder / BEST

    def copy(self, updates: int) -> Path:
        """Checkpoint that `--save-freq` keeps of the policy after some updates."""
        return self.folder / f"rl_model_{updates}_steps"

    def copies(self) -> list[int]:
        """Updates of the checkpoints that `--save-freq` has kept, in order."""
        found = map(COPY.fullmatch, (path.name for path in self.folder.iterdir()))
        return sorted(int(match[1]) for match in found if match)

    def read(self, name: str) -> dict[str, Any]:
        """Reads args.yml or config.yml.

        Raises:
            ValueError: It is not there, or not as it was written.
        """
        path = self.folder / name
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ValueError(f"{path} cannot be read ({type(error).__name__})") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} is no table of names and values")
        return content

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Writes args.yml or config.yml: plain YAML, which `yaml.safe_load` reads."""
        text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
        write_whole(self.folder / name, text)

    def curve(self) -> Curve:
        """Reads evaluations.npz; without any, an empty curve.

        Raises:
            ValueError: It is damaged.
        """
        path = self.folder / "evaluations.npz"
        if not path.exists():
            return Curve(np.zeros(0, np.int64), np.zeros((0, 0)))
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return Curve(arrays["timesteps"], arrays["results"], arrays.get("ep_lengths"))
        except Exception as error:  # zip, header and missing names each have their own
            raise ValueError(f"{path} is no evaluations file ({error!r}): remove it") from error

    def write_curve(self, curve: Curve) -> None:
        """Replaces evaluations.npz at once."""
        arrays = {"timesteps": curve.timesteps, "results": curve.results}
        if curve.ep_lengths is not None:
            arrays["ep_lengths"] = curve.ep_lengths
        temporary = self.folder / ".evaluations.new.npz"
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
        temporary.replace(self.folder / "evaluations.npz")


def safe_name(name: str) -> str:
    """An id as the name of a folder: `ALE/Pong-v5` is ALE-Pong-v5, as in rl_zoo3."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed"


def new_experiment(logs: Path, algo: str, env: str) -> Experiment:
    """Makes the next folder of an algorithm and an environment; two processes get two.

    Args:
        logs: The folder of all logs.
        algo: Label of the system.
        env: Id of the environment.
    """
    parent, name = logs / safe_name(algo.lower()), safe_name(env)
    number = max((e.number for e in experiments(parent, name)), default=0) + 1
    while True:
        experiment = Experiment(parent / f"{name}_{number}")
        try:
            experiment.folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return experiment


def experiments(folder: Path, name: str | None = None) -> list[Experiment]:
    """The experiments in the folder of an algorithm, by environment and number.

    Args:
        folder: Such as logs/dema.
        name: Only those of this environment, as a folder's name has it.
    """
    paths = folder.iterdir() if folder.is_dir() else ()
    found = [Experiment(p) for p in paths if p.is_dir() and re.fullmatch(r".+_\d+", p.name)]
    wanted = [e for e in found if name in (None, e.name)]
    return sorted(wanted, key=lambda e: (e.name, e.number))


def find_experiments(logs: Path, algo: str, env: str | None = None) -> list[Experiment]:
    """The experiments of an algorithm, and of an environment if one is named: at least one.

    Args:
        logs: The folder of all logs.
        algo: Label of the system, in any case.
        env: Id of the environment.

    Raises:
        ValueError: There is none; the message names what there is.
    """
    folder = logs / safe_name(algo.lower())
    there = experiments(folder)
    if not there:
        algos = [p.name for p in logs.iterdir() if experiments(p)] if logs.is_dir() else []
        said = f"no experiment of {algo!r} in {logs}"
        raise ValueError(said + (close_to(algo.lower(), algos) or "; train one first"))
    if env is None:
        return there
    found = [e for e in there if e.name == safe_name(env)]
    if not found:
        names = dict.fromkeys(e.name for e in there)
        raise ValueError(f"no experiment of {env!r} in {folder}{close_to(env, names)}")
    return found


def find_experiment(logs: Path, algo: str, env: str, number: int = 0) -> Experiment:
    """One experiment.

    Args:
        logs: The folder of all logs.
        algo: Label of the system, in any case.
        env: Id of the environment.
        number: N of `<env>_<N>`; 0 is the latest.

    Raises:
        ValueError: There is no such; the message names what there is.
    """
    found = find_experiments(logs, algo, env)
    if number == 0:
        return found[-1]
    chosen = [e for e in found if e.number == number]
    if not chosen:
        numbers = ", ".join(str(e.number) for e in found)
        raise ValueError(
            f"no experiment {number} of {algo} in {env}; {found[0].folder.parent} has {numbers}"
        )
    return chosen[0]


def close_to(name: str, known: Iterable[str]) -> str:
    """Ends a message that some name is not there: with close ones, or with all that there are."""
    names = list(known)
    if not names:
        return ""
    by_lower = {x.lower(): x for x in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3)
    if close:
        return f"; did you mean {' or '.join(repr(by_lower[x]) for x in close)}?"
    return f"; there is {', '.join(names)}"
