"""Samplers of contexts over episodes: stretches of a history, or its episodes by their returns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.batch import Window
from decision_policies.data.histories import Histories
from decision_policies.data.subgoals import SubgoalRule, subgoal_rows
from decision_policies.data.windows import Sampler, observed
from decision_policies.errors import DatasetError
from decision_policies.spec import ReturnMode


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
