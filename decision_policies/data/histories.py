"""Histories: how learners got better at many tasks, episode after episode."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from decision_policies.data.minari_histories import check_histories, history_entries
from decision_policies.data.minari_histories import names_histories as names_histories
from decision_policies.data.trajectories import Trajectories
from decision_policies.errors import DatasetError

if TYPE_CHECKING:
    from minari import MinariDataset


@dataclass(frozen=True)
class Histories:
    """Learning histories: of each, all episodes of one learner at one task, the first one first.

    Attributes:
        trajectories: All episodes, a history after the other.
        offsets: (H + 1,) int64, the episode at which each of the H histories starts, and E.
        tasks: (H,) int64, number of each history's task.
        held_out: (H,) bool, whether the task is meant for evaluation only.

    Raises:
        DatasetError: The histories do not fit the episodes, or a task is both trained on and held
            out.

    References:
        Laskin et al., "In-context RL with Algorithm Distillation", arXiv 2210.14215, section 3.
    """

    trajectories: Trajectories
    offsets: NDArray[np.int64]
    tasks: NDArray[np.int64]
    held_out: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Check what the class says."""
        count, episodes = len(self.tasks), self.trajectories.n_episodes
        if not len(self.offsets) - 1 == count == len(self.held_out):
            raise DatasetError(
                f"{len(self.offsets)} offsets, {count} tasks and {len(self.held_out)} marks of "
                "held-out ones; H histories have H tasks, H marks and H + 1 offsets"
            )
        if not count or (self.lengths < 1).any():
            raise DatasetError("every history needs an episode, and there must be one history")
        if self.offsets[0] != 0 or self.offsets[-1] != episodes:
            raise DatasetError(
                f"the histories take episodes {self.offsets[0]} to {self.offsets[-1]}, but there "
                f"are {episodes}: were some filtered out? Keep all of them, and choose with take()"
            )
        both = np.intersect1d(self.tasks[self.held_out], self.tasks[~self.held_out])
        if len(both):
            raise DatasetError(f"task {both[0]} is both held out and trained on")

    @classmethod
    def from_episodes(
        cls,
        trajectories: Trajectories,
        tasks: Iterable[Any],
        *,
        held_out: Iterable[Any] = (),
        histories: Iterable[Any] | None = None,
    ) -> Histories:
        """Say which task each episode belongs to, and which history, where a task has several.

        Args:
            trajectories: Episodes, those of a history one after the other as they were played.
            tasks: Task of each episode, (E,).
            held_out: Tasks, among those, that are meant for evaluation only.
            histories: Number of the history that each episode is of, (E,); two histories have two
                numbers, whatever their tasks. None: each task has one.

        Raises:
            DatasetError: Not a whole number for each episode; the episodes of a history stand
                apart, or they are of several tasks; or a task that is held out has no episode.
        """
        given = _one_each(tasks, trajectories, "task")
        numbers = given if histories is None else _one_each(histories, trajectories, "history")
        offsets = np.concatenate(([0], np.flatnonzero(np.diff(numbers)) + 1, [len(numbers)]))
        first = numbers[offsets[:-1]]
        again = np.setdiff1d(np.arange(len(first)), np.unique(first, return_index=True)[1])
        if len(again):
            raise DatasetError(
                f"{'task' if histories is None else 'history'} {first[again[0]]} goes on at "
                f"episode {offsets[again[0]]}, after episodes of another: put those of a history "
                "one after the other as they were played, and give each history a number of its "
                "own, whatever its task, by histories="
            )
        of_history = given[offsets[:-1]].astype(np.int64)
        mixed = np.flatnonzero(given != of_history.repeat(np.diff(offsets)))
        if len(mixed):
            raise DatasetError(
                f"history {numbers[mixed[0]]} holds episode {mixed[0]}, of task "
                f"{given[mixed[0]]}, after episodes of another task; a history is of one"
            )
        wrong = np.setdiff1d(held := _whole(held_out, "held_out"), of_history)
        if len(wrong):
            raise DatasetError(f"held_out names task {wrong[0]}, of which there is no episode")
        return cls(trajectories, offsets, of_history, np.isin(of_history, held))

    @classmethod
    def from_minari(
        cls, dataset: MinariDataset | str | PathLike[str], *, cache: bool = True
    ) -> Histories:
        """Read a Minari dataset that `python -m zoo histories` made.

        Args:
            dataset: As in `Trajectories.from_minari`.
            cache: As in `Trajectories.from_minari`.

        Raises:
            DatasetError: As in `Trajectories.from_minari`; or the dataset does not say which
                episodes make a history, not all of them are there, they are not in the order in
                which they were played, or one was played at another task.
        """
        from decision_policies.data.minari_source import load_minari

        loaded = load_minari(dataset)
        entries = history_entries(loaded)
        lengths = [entry["episodes"] for entry in entries]
        made = cls(
            Trajectories.from_minari(loaded, cache=cache),
            np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            np.array([entry["task"] for entry in entries], np.int64),
            np.array([entry["held_out"] for entry in entries], bool),
        )
        check_histories(loaded, np.repeat(made.tasks, made.lengths))
        return made

    def __repr__(self) -> str:
        """Say how many there are; the arrays would fill the screen."""
        low, high = self.lengths.min(), self.lengths.max()
        return (
            f"Histories({self.n_histories} of {len(np.unique(self.tasks))} tasks, "
            f"{self.held_out.sum()} held out, {low if low == high else f'{low} to {high}'} "
            f"episodes each; {self.trajectories!r})"
        )

    @property
    def n_histories(self) -> int:
        """Number H of histories."""
        return len(self.tasks)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Episodes of each history, (H,)."""
        return np.diff(self.offsets)

    @property
    def train(self) -> Histories:
        """The histories to learn from; a `DatasetError` where there is none."""
        return self._part(~self.held_out, "all tasks are held out: there is none to learn from")

    @property
    def unseen(self) -> Histories:
        """The histories of held-out tasks; a `DatasetError` where there is none."""
        return self._part(self.held_out, "no task is held out")

    def _part(self, marked: NDArray[np.bool_], none: str) -> Histories:
        if not marked.any():
            raise DatasetError(none)
        return self.take(np.flatnonzero(marked))

    def take(self, histories: ArrayLike) -> Histories:
        """Keep the histories of these numbers, counted from 0, as a copy in this order.

        Raises:
            DatasetError: There is none of that number, or none is named.
        """
        kept, last = np.asarray(histories), self.n_histories - 1
        numbers = kept.ndim == 1 and kept.size and kept.dtype.kind in "iu"
        if not numbers or kept.min() < 0 or kept.max() > last:
            raise DatasetError(f"expected a list of numbers from 0 to {last}, got {histories!r}")
        episodes = np.concatenate([np.arange(*self.offsets[i : i + 2]) for i in kept])
        return Histories(
            self.trajectories.take(episodes),
            np.concatenate(([0], self.lengths[kept].cumsum())),
            self.tasks[kept],
            self.held_out[kept],
        )

    def returns(self) -> list[NDArray[np.float64]]:
        """Return of each episode, in order; an array for each history."""
        returns = self.trajectories.returns
        return [returns[start:end] for start, end in itertools.pairwise(self.offsets)]


def _one_each(values: Iterable[Any], trajectories: Trajectories, what: str) -> NDArray[np.int64]:
    """Take numbers, one an episode."""
    given = _whole(values, what)
    if len(given) != trajectories.n_episodes:
        raise DatasetError(
            f"expected {trajectories.n_episodes} {what} numbers, one an episode; got {len(given)}"
        )
    return given


def _whole(values: Iterable[Any], what: str) -> NDArray[np.int64]:
    """Take a list of whole numbers."""
    try:
        given = np.asarray(list(values))
        if given.ndim == 1 and (given.dtype.kind in "iu" or not len(given)):
            return np.array(given.tolist(), np.int64)
    except (TypeError, ValueError, OverflowError):
        pass
    raise DatasetError(f"expected a list of whole numbers for {what}, got {reprlib.repr(values)}")
