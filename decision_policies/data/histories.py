"""Histories: how learners got better at many tasks, and samplers of contexts over episodes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from decision_policies.batch import Window
from decision_policies.data.minari_histories import check_histories, history_entries
from decision_policies.data.minari_histories import names_histories as names_histories
from decision_policies.data.subgoals import SubgoalRule, subgoal_rows
from decision_policies.data.trajectories import Trajectories
from decision_policies.data.windows import Sampler, observed
from decision_policies.errors import DatasetError
from decision_policies.spec import ReturnMode

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
        tasks: ArrayLike,
        *,
        held_out: ArrayLike = (),
        histories: ArrayLike | None = None,
    ) -> Histories:
        """Say which task each episode belongs to, and which history, where a task has several.

        Args:
            trajectories: Episodes, those of a history one after the other as they were played.
            tasks: Task of each episode, (E,).
            held_out: Tasks that are meant for evaluation only.
            histories: Number of each episode's history, (E,); None: each task has one.

        Raises:
            DatasetError: Not a number for each episode; the episodes of a history stand apart, or
                they are of several tasks.
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
                "one after the other as they were played, and number histories by histories="
            )
        of_history = given[offsets[:-1]].astype(np.int64)
        mixed = np.flatnonzero(given != of_history.repeat(np.diff(offsets)))
        if len(mixed):
            raise DatasetError(
                f"history {numbers[mixed[0]]} holds episode {mixed[0]}, of task "
                f"{given[mixed[0]]}, after episodes of another task; a history is of one"
            )
        return cls(trajectories, offsets, of_history, np.isin(of_history, held_out))

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
        """The histories to learn from."""
        return self.take(np.flatnonzero(~self.held_out))

    @property
    def unseen(self) -> Histories:
        """The histories of held-out tasks."""
        return self.take(np.flatnonzero(self.held_out))

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


def _one_each(values: ArrayLike, trajectories: Trajectories, what: str) -> NDArray[np.integer[Any]]:
    """Take numbers, one an episode."""
    given = np.asarray(values)
    if given.shape != (trajectories.n_episodes,) or given.dtype.kind not in "iu":
        raise DatasetError(
            f"expected {trajectories.n_episodes} {what} numbers, one an episode; got shape "
            f"{given.shape} of {given.dtype}"
        )
    return given


class HistorySampler(Sampler):
    """Contiguous contexts across episodes: the K steps of a history up to a uniformly drawn one.

    Near a history's beginning it is the history's first K. An episode begins in the midst of a
    window wherever `timesteps` is 0; returns-to-go are those of each step's own episode. Each
    window begins with no memory (`starts` is True), and never holds steps of two histories.

    Args:
        histories: The data.
        length: Number K of steps in a window, several episodes' worth.
        batch_size: Number B of windows in a batch.
        seed: Seeds the generator.
        return_mode: See `Sampler`.

    Raises:
        DatasetError: Frames are stacked; a stack would reach over the border of two episodes.

    References:
        Laskin et al., arXiv 2210.14215, algorithm 1.
    """

    def __init__(
        self,
        histories: Histories,
        length: int,
        batch_size: int,
        seed: int | None = None,
        return_mode: ReturnMode = "decrement",
    ) -> None:
        data = histories.trajectories
        if data.frame_stack is not None:
            raise DatasetError("contexts across episodes cannot be made of stacked frames")
        super().__init__(data, length, batch_size, seed, return_mode)
        self._borders = data.offsets[histories.offsets]  # a window goes on to its history's end

    def sample(self) -> Window:
        """Draw the next batch of B windows."""
        last = self.rng.integers(self.trajectories.n_steps, size=self.batch_size)
        first = np.maximum(last - self.length + 1, self._span(last)[0])
        window = self._window(first, np.ones(self.batch_size, bool))
        if self.return_mode != "constant":
            return window
        steps = np.minimum(first[:, None] + self._steps, self._span(first)[1][:, None])
        begun = self._there(steps) - window.timesteps
        return replace(window, returns_to_go=self._rows[:, -2][begun])


class SortedEpisodesSampler(Sampler):
    """Contexts of n episodes of one history, drawn at random and put in the order of their returns.

    Every context thus gets better from episode to episode. Episodes follow one another without
    gap; rows whose episodes are shorter are padded on the right, and each batch is as long as its
    longest row. `timesteps` is 0 wherever an episode begins.

    Args:
        histories: The data.
        n_episodes: Number n of episodes in a context, all different.
        batch_size: Number B of contexts in a batch.
        seed: Seeds the generator.
        return_mode: See `Sampler`.
        subgoals: Deliver each step's valuable sub-goal as `Window.goals`.

    Raises:
        DatasetError: A history has fewer episodes; or sub-goals are asked for, and observations
            are images or all episodes are shorter than a chunk.
        ValueError: n is less than 1.

    References:
        Huang et al. (DM-H), arXiv 2406.00079, section 4: contexts across episodes.
    """

    def __init__(
        self,
        histories: Histories,
        n_episodes: int,
        batch_size: int,
        seed: int | None = None,
        return_mode: ReturnMode = "decrement",
        *,
        subgoals: SubgoalRule | None = None,
    ) -> None:
        if n_episodes < 1:
            raise ValueError(f"n_episodes must be at least 1, got {n_episodes}")
        short = np.flatnonzero(histories.lengths < n_episodes)
        if len(short):
            raise DatasetError(
                f"a context needs {n_episodes} episodes, but the history of task "
                f"{histories.tasks[short[0]]} has {histories.lengths[short[0]]}"
            )
        data = histories.trajectories
        super().__init__(data, int(data.lengths.max()), batch_size, seed, return_mode)
        self.histories = histories
        self.n_episodes = n_episodes
        self._returns = data.returns
        if subgoals is not None and subgoals.chunk_length > self.length:
            raise DatasetError(
                f"a chunk is {subgoals.chunk_length} steps, but the longest episode has "
                f"{self.length}, which makes one sub-goal an episode: take a chunk_length of at "
                f"most {self.length}"
            )
        self._goals = None if subgoals is None else subgoal_rows(data, subgoals)

    def sample(self) -> Window:
        """Draw the next batch of B contexts."""
        count = self.batch_size * self.n_episodes
        first = self.trajectories.offsets[self._episodes().reshape(-1)]
        window = self._window(first, np.ones(count, bool))  # each episode a row
        if self._goals is not None:
            steps = np.minimum(first[:, None] + self._steps, self._span(first)[1][:, None])
            goals = self._there(self._goals[steps])
            window = replace(window, goals=self._observations_at(goals))
        rows = {
            name: value.reshape(self.batch_size, -1, *value.shape[2:])
            for name, value in window.tensors().items()
            if name != "starts"
        }
        if not window.mask.all():
            longest = int(rows["mask"].sum(1).max())
            order = torch.argsort(~rows["mask"], dim=1, stable=True)[:, :longest]
            batch = torch.arange(self.batch_size)[:, None]
            rows = {name: value[batch, order] for name, value in rows.items()}
        return Window(**rows, starts=torch.ones(self.batch_size, dtype=torch.bool))

    def _observations_at(self, numbers: Tensor) -> Tensor:
        """Gather observations by the numbers that `subgoal_rows` gives them."""
        data, n_steps = self.trajectories, len(self._rows)
        assert data.final_observations is not None, "subgoal_rows needs them"
        final = torch.from_numpy(data.final_observations).to(numbers.device)
        final = final[(numbers - n_steps).clamp(min=0)]
        rows = self._rows[numbers.clamp(max=n_steps - 1)][..., data.columns.observations]
        values = torch.where((numbers < n_steps).unsqueeze(-1), rows, final)
        return observed(values, data.observation_space)

    def _episodes(self) -> NDArray[np.int64]:
        """Draw the episodes of each context, (B, n), in the order of their returns."""
        drawn = self.rng.integers(self.histories.n_histories, size=self.batch_size)
        starts, lengths = self.histories.offsets[drawn], self.histories.lengths[drawn]
        chosen = np.stack(
            [
                start + np.sort(self.rng.choice(length, self.n_episodes, replace=False))
                for start, length in zip(starts, lengths, strict=True)
            ]
        )
        order = np.argsort(self._returns[chosen], axis=1, kind="stable")
        return np.take_along_axis(chosen, order, 1)
