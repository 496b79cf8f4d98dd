"""Figures out of the benchmark's rows: of each system on each set, over all sets, of each mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_policies.evaluation import bootstrap_interval, interquartile_mean, normalized_score

from .benchmark_rows import Row
from .tables import PEER_PREFIX

Returns = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """A system on a set: its runs of equal length, a seed each.

    Attributes:
        rows: The runs, by seed.
    """

    rows: Sequence[Row]

    @property
    def label(self) -> str:
        """Name of the system."""
        return self.rows[0]["label"]

    @property
    def dataset(self) -> str:
        """The set."""
        return self.rows[0]["dataset"]

    @property
    def updates(self) -> int:
        """Updates of the whole training."""
        return self.rows[0]["updates"]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs."""
        return [row["seed"] for row in self.rows]

    @property
    def is_peer(self) -> bool:
        """Whether d3rlpy has trained it."""
        return self.rows[0]["class_name"].startswith(PEER_PREFIX)

    @property
    def reference_scores(self) -> tuple[float, float] | None:
        """Returns that count as 0 and 100."""
        scores = self.rows[0]["reference_scores"]
        return None if scores is None else (scores[0], scores[1])

    @property
    def asks(self) -> bool:
        """Whether the system is told which return to reach."""
        return any(e["target"] is not None for e in self.rows[0]["evaluations"])

    def target(self, index: int) -> float | None:
        """The first (headline) or second (middle) target; None where nothing is asked for."""
        targets = self.rows[0]["plan"]["targets"]
        return float(targets[index]) if self.asks and index < len(targets) else None

    def returns(
        self, target: float | None, updates: int | None = None, mode: str | None = None
    ) -> list[Returns]:
        """Returns of the episodes of each seed.

        Args:
            target: What was asked for.
            updates: The checkpoint; None is the last.
            mode: How the policy remembered; None is the system's own way.

        Returns:
            An array (episodes,) for each run that was evaluated so; none where no run was.
        """
        found = []
        for row in self.rows:
            wanted = (row["updates"] if updates is None else updates, mode or row["mode"], target)
            found += [
                np.array(e["returns"], np.float64)
                for e in row["evaluations"]
                if (e["updates"], e["mode"], e["target"]) == wanted
            ]
        return found

    def last(self) -> Returns:
        """Returns of all episodes and seeds at the last checkpoint, headline target."""
        return np.concatenate(self.returns(self.target(0)))

    def best(self) -> tuple[float, int]:
        """The highest mean over seeds and episodes among all checkpoints, and its updates.

        It is chosen after the fact and so flatters; no result goes by it.
        """
        means = []
        for updates in sorted({e["updates"] for row in self.rows for e in row["evaluations"]}):
            each = self.returns(self.target(0), updates)
            if len(each) == len(self.rows):
                means.append((float(np.concatenate(each).mean()), updates))
        return max(means, key=lambda pair: pair[0])

    def scores(self, mode: str | None = None) -> dict[int, float] | None:
        """Normalised score of each seed at the last checkpoint, headline target.

        Returns:
            Scores by seed; None where the set has no reference scores, or the mode was not tried.
        """
        each = self.returns(self.target(0), mode=mode)
        if self.reference_scores is None or len(each) != len(self.rows):
            return None
        return {
            seed: float(normalized_score(returns, self.reference_scores).mean())
            for seed, returns in zip(self.seeds, each, strict=True)
        }

    def mean_of(self, entry: Callable[[Row], Any]) -> float:
        """Mean of an entry over the runs."""
        return float(np.mean([entry(row) for row in self.rows]))


def make_cells(rows: Iterable[Row]) -> list[Cell]:
    """Groups rows into cells: label, dataset and updates."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["label"], row["dataset"], row["updates"]), []).append(row)
    return [Cell(sorted(group, key=lambda row: row["seed"])) for group in groups.values()]


@dataclass(frozen=True)
class Overall:
    """Interquartile means over sets that several systems have in common.

    Attributes:
        datasets: The sets.
        seeds: The seeds that all of them have on all of these.
        means: By label: interquartile mean, lower and upper end of its 95 % interval.
    """

    datasets: list[str]
    seeds: list[int]
    means: dict[str, tuple[float, float, float]]


def overall(cells: Iterable[Cell]) -> Overall | None:
    """Compares systems on the sets and seeds that every one of them has.

    Args:
        cells: At most one for a label and a dataset.

    Returns:
        The comparison; None where there is no common set or seed.
    """
    table: dict[str, dict[str, dict[int, float]]] = {}
    for cell in cells:
        scores = cell.scores()
        if scores is not None:
            table.setdefault(cell.label, {})[cell.dataset] = scores
    shared = [set(by_set) for by_set in table.values()]
    datasets = sorted(set.intersection(*shared)) if shared else []
    seeds = [set(by_set[name]) for by_set in table.values() for name in datasets]
    common = sorted(set.intersection(*seeds)) if seeds else []
    if not common:
        return None
    means = {}
    for label, by_set in table.items():
        scores_of = np.array([[by_set[name][seed] for name in datasets] for seed in common])
        means[label] = (interquartile_mean(scores_of), *bootstrap_interval(scores_of))
    return Overall(datasets, common, means)


def mode_means(cells: Iterable[Cell], modes: Sequence[str]) -> dict[str, Mapping[str, float]]:
    """Mean normalised score of each way to remember at the last checkpoint.

    Args:
        cells: At most one for a label and a dataset.
        modes: The ways.

    Returns:
        By label: the mean over sets of the means over seeds, of the sets on which all of the modes
        were tried, by mode; with their number as "sets". Labels without such a set are left out.
    """
    found: dict[str, list[list[float]]] = {}
    for cell in cells:
        each = [cell.scores(mode) for mode in modes]
        if all(each):
            means = [float(np.mean(list(scores.values()))) for scores in each if scores]
            found.setdefault(cell.label, []).append(means)
    return {
        label: dict(zip(modes, np.mean(means, axis=0).tolist(), strict=True)) | {"sets": len(means)}
        for label, means in found.items()
    }
