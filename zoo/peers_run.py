"""One run of a d3rlpy peer: hands data and plan to zoo/peers.py, and makes a row of its answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np

import decision_policies
from decision_policies import Trajectories
from decision_policies.evaluation import Evaluation as Episodes

from .benchmark_rows import Row, fingerprint
from .benchmark_run import (
    SEED_SETS,
    Tick,
    environment_of,
    evaluation,
    machine,
    read_data,
    settings,
)
from .tables import Recipe

ROOT = Path(__file__).parent.parent
SCRIPT = Path(__file__).with_name("peers.py")
OWN_MODE = "own"
"""Mode of a peer's evaluations: the one way that it has."""


def interpreter() -> list[str]:
    """The command that runs a script beside d3rlpy.

    Raises:
        ValueError: It has not been made.
    """
    python = ROOT / ".venv-peers" / "bin" / "python"
    if not python.exists():
        raise ValueError(f"peers need d3rlpy in {python.parent.parent}: run `make peers` first")
    return [str(python), "-P", str(SCRIPT)]


@dataclass
class PeerRun:
    """A peer's run in its folder; interrupted, it begins again, since d3rlpy cannot resume exactly.

    Attributes:
        recipe: What to train on what.
        seed: Of weights and batches.
        folder: Where data and plan are put for the script.
        seed_set: A key of `SEED_SETS`.
        tick: Told how far the run is.
        command: What to start, before the folder; None is `interpreter()`.
        discarded: Always false: nothing is kept of an unfinished run.
    """

    recipe: Recipe
    seed: int
    folder: Path
    seed_set: str = "evaluation"
    tick: Tick = lambda updates, doing: None
    command: Sequence[str] | None = None
    discarded: bool = False

    def finish(self) -> Row:
        """Trains and evaluates the peer.

        Raises:
            ValueError: There is no interpreter with d3rlpy, or the set is not one for peers.
            RuntimeError: The script failed; says where its messages are.
            KeyboardInterrupt: Ctrl-C; the script is ended.
        """
        command = list(self.command or interpreter())
        data = read_data(self.recipe)
        environment = environment_of(self.recipe)
        plan = self._plan(data, environment())
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        np.savez(self.folder / "data.npz", **arrays(data, self.recipe.dataset))
        (self.folder / "plan.json").write_text(json.dumps(plan))
        self._start([*command, str(self.folder)])
        result = json.loads((self.folder / "result.json").read_text())
        return self._row(data, result)

    def mark_complete(self) -> None:
        """Clears what the script needed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _plan(self, data: Trajectories, env: gym.Env[Any, Any]) -> dict[str, Any]:
        """Everything that the script must know, in plain JSON values."""
        assert env.spec is not None, "it was made by gymnasium"
        env.close()
        space, box = data.action_space, isinstance(data.action_space, gym.spaces.Box)
        if data.images is not None or not isinstance(data.observation_space, gym.spaces.Box):
            raise ValueError(f"{self.recipe.dataset}: peers run on vectors of numbers only")
        return {
            "class_name": self.recipe.class_name,
            "hyperparameters": dict(self.recipe.hyperparameters),
            "seed": self.seed,
            "updates": self.recipe.plan.updates,
            "checkpoints": self.recipe.plan.checkpoints(),
            "targets": list(self.recipe.plan.targets),
            "deterministic": self.recipe.plan.deterministic,
            "episodes": self.recipe.plan.episodes,
            "first_seed": SEED_SETS[self.seed_set],
            "environment": env.spec.to_json(),
            "action_size": int(np.prod(space.shape or ())) if box else int(getattr(space, "n", 0)),
            "action_start": int(getattr(space, "start", 0)),
            "action_low": space.low.tolist() if isinstance(space, gym.spaces.Box) else None,
            "action_high": space.high.tolist() if isinstance(space, gym.spaces.Box) else None,
        }

    def _start(self, command: list[str]) -> None:
        """Runs the script to its end, passing on what it says."""
        log = self.folder / "messages.txt"
        alone = os.environ | {"OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        with (
            log.open("w") as messages,
            subprocess.Popen(
                command, stdout=pipe, stderr=messages, text=True, env=alone
            ) as process,
        ):
            try:
                assert process.stdout is not None, "it is a pipe"
                for line in process.stdout:
                    if line.startswith('{"updates"'):
                        said = json.loads(line)
                        self.tick(said["updates"], said["doing"])
                process.wait()
            finally:
                process.terminate()
        if process.returncode:
            last = log.read_text().strip().splitlines()[-1:] or ["no message"]
            raise RuntimeError(f"the peer's script failed: {last[0]} (all of it: {log})")

    def _row(self, data: Trajectories, result: dict[str, Any]) -> Row:
        scores = data.source.reference_scores
        values = settings(self.recipe)
        return {
            "label": self.recipe.label,
            "class_name": self.recipe.class_name,
            "dataset": self.recipe.dataset,
            "seed": self.seed,
            "updates": self.recipe.plan.updates,
            "seed_set": self.seed_set,
            **values,  # type: ignore[typeddict-item]
            "hash": fingerprint(values),
            "parameters": result["parameters"],
            "mode": OWN_MODE,
            "wall_seconds": round(result["wall_seconds"], 1),
            "cpu_seconds": round(result["cpu_seconds"], 1),
            "evaluation_seconds": round(result["evaluation_seconds"], 1),
            "environment": data.source.environment or "",
            "reference_scores": None if scores is None else list(scores),
            "data": data.source.digest,
            "versions": result["versions"],
            "machine": machine("cpu"),
            "evaluations": [
                evaluation(e["updates"], OWN_MODE, e["target"], _episodes(e["returns"]), scores)
                for e in result["evaluations"]
            ],
        }


def _episodes(returns: list[float]) -> Episodes:
    counts = np.arange(len(returns))
    return Episodes(np.array(returns), np.zeros(len(returns), np.int64), counts)


def arrays(data: Trajectories, dataset: str) -> dict[str, Any]:
    """The data as flat arrays, a step a row, with how each episode ended.

    Args:
        data: The trajectories, as our own systems train on them.
        dataset: Their Minari id, for the terminations, which trajectories do not keep.

    Returns:
        `observations`, `actions` (counted from 0), `rewards`, `terminals` and `timeouts`.
    """
    ends = data.offsets[1:] - 1
    terminals = np.zeros(data.n_steps, bool)
    terminals[ends] = terminated(dataset)
    timeouts = np.zeros(data.n_steps, bool)
    timeouts[ends] = ~terminals[ends]
    actions = data.actions - int(getattr(data.action_space, "start", 0))
    return {
        "observations": np.asarray(data.observations),
        "actions": actions if actions.ndim > 1 else actions[:, None],
        "rewards": np.asarray(data.rewards),
        "terminals": terminals,
        "timeouts": timeouts,
    }


def terminated(dataset: str) -> list[bool]:
    """Whether each episode of a set ended by itself, rather than by a limit of time."""
    shipped = Path(decision_policies.__file__).parent / "datasets" / dataset / "data"
    there = dataset in minari.list_local_datasets()
    opened = minari.load_dataset(dataset) if there else minari.MinariDataset(shipped)
    return [bool(episode.terminations[-1]) for episode in opened.iterate_episodes()]
