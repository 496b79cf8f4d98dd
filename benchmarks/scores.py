"""Train DeMa on Minari sets and note what each checkpoint obtains at each target; resumable.

`python -m benchmarks.scores sb3zoo/cartpole/mixed-v0 --seeds 0 1` trains with the row of
zoo/hyperparameters/dema.yml that has this name, and appends a line of JSON for every checkpoint,
inference mode and target. What is already in the file is not done again; an interrupted training
goes on from its last checkpoint. `--table` prints what the file holds.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from decision_policies import DeMa, Trajectories, evaluate_policy
from decision_policies.evaluation import normalized_score

ROOT = Path(__file__).parent
TABLE = ROOT.parent / "zoo" / "hyperparameters" / "dema.yml"
EVALUATION_SEED = 900_000
"""First of the evaluation seeds. Nothing was ever chosen by a score on these."""


@dataclass
class Scores:
    """The lines of the results file.

    Attributes:
        path: The file.
    """

    path: Path

    def rows(self) -> list[dict[str, Any]]:
        """Read all lines."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [json.loads(line) for line in lines]

    def has(self, key: dict[str, Any]) -> bool:
        """Whether a line with these entries is there."""
        return any(key.items() <= row.items() for row in self.rows())

    def add(self, row: dict[str, Any]) -> None:
        """Append a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def run(dataset: str, seed: int, entry: dict[str, Any], scores: Scores, episodes: int) -> None:
    """Train one seed on one dataset, evaluating every checkpoint."""
    plan = dict(entry)
    updates, every = int(plan.pop("updates")), int(plan.pop("evaluate_every"))
    targets, modes = plan.pop("targets"), plan.pop("modes")
    data = Trajectories.from_minari(dataset)
    folder = Path("runs") / "scores" / f"{dataset.replace('/', '-')}-{seed}"
    algorithm = DeMa(seed=seed, **plan)
    if folder.exists():
        algorithm = DeMa.load(folder)
    bar = tqdm(total=updates, initial=algorithm.num_timesteps, desc=f"{dataset} seed {seed}")
    while True:
        done = algorithm.num_timesteps
        if done:
            for mode in modes:
                for target in targets:
                    key = {"dataset": dataset, "seed": seed, "updates": done}
                    key |= {"mode": mode, "target": target}
                    if not scores.has(key):
                        scores.add(key | evaluate(algorithm, data, mode, target, episodes))
        if done >= updates:
            break
        # One schedule over the whole training: stop at the next checkpoint, resume after it.
        stop = done + every
        algorithm.learn(
            data,
            updates - done,
            callback=lambda local, _, stop=stop: local["self"].num_timesteps < stop,  # type: ignore[misc]
            reset_num_timesteps=False,
        )
        algorithm.save(folder)
        bar.update(algorithm.num_timesteps - done)
    bar.close()


def evaluate(
    algorithm: DeMa, data: Trajectories, mode: Any, target: float, episodes: int
) -> dict[str, Any]:
    """Evaluate one mode at one target on the evaluation seeds."""
    assert algorithm.policy is not None
    assert data.source.environment is not None, "the dataset names no environment"
    result = evaluate_policy(
        algorithm.policy.fork(inference=mode),
        data.source.environment,
        episodes,
        target_return=target,
        seed=EVALUATION_SEED,
    )
    row: dict[str, Any] = {"mean": round(result.mean, 1), "std": round(result.std, 1)}
    if data.source.reference_scores is not None:
        score = normalized_score(result.mean, data.source.reference_scores)
        row["score"] = round(float(score), 1)
    return row | {"episodes": episodes}


def table(rows: list[dict[str, Any]]) -> None:
    """Print mean and deviation by dataset, seed, mode and target, a column a checkpoint."""
    keys = sorted({(r["dataset"], r["mode"], -r["target"], r["seed"]) for r in rows})
    for dataset in sorted({k[0] for k in keys}):
        steps = sorted({r["updates"] for r in rows if r["dataset"] == dataset})
        print(f"\n{dataset}\n\n| mode | target | seed | " + " | ".join(map(str, steps)) + " |")
        print("|---" * (3 + len(steps)) + "|")
        for name, mode, target, seed in keys:
            if name == dataset:
                cells = {
                    r["updates"]: f"{r['mean']:.0f} ± {r['std']:.0f}"
                    for r in rows
                    if (r["dataset"], r["mode"], -r["target"], r["seed"])
                    == (name, mode, target, seed)
                }
                line = [mode, f"{-target:.0f}", str(seed), *(cells.get(s, "") for s in steps)]
                print("| " + " | ".join(line) + " |")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("datasets", nargs="*", help="names of rows of the table (Minari ids)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--episodes", type=int, default=10, help="a target, mode and checkpoint")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "scores.jsonl")
    parser.add_argument("--table", action="store_true", help="print the results so far")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    scores = Scores(options.output)
    entries = yaml.safe_load(TABLE.read_text())
    for dataset in options.datasets:
        if dataset not in entries:
            parser.error(f"{dataset!r} is not in {TABLE.name}; it has {', '.join(entries)}")
        for seed in options.seeds:
            run(dataset, seed, entries[dataset], scores, options.episodes)
    if options.table or not options.datasets:
        table(scores.rows())


if __name__ == "__main__":
    main()
