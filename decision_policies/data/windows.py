"""Samplers: training windows out of trajectories, each batch one gather, right-padded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.batch import Window
from decision_policies.data.frames import shifted, stacked_views
from decision_policies.data.trajectories import Trajectories
from decision_policies.spaces import model_shape
from decision_policies.spec import ReturnMode

SHARE = 0.25
"""Largest share of a GPU's free memory that the data may take up there."""


class Sampler(ABC):
    """Draws windows from trajectories with a generator of its own.

    Args:
        trajectories: The data.
        length: Number K of steps in a window.
        batch_size: Number B of windows in a batch.
        seed: Seeds the generator; the user's global ones are not touched.
        return_mode: Which return a step is given as `returns_to_go`: "constant", that of its whole
            episode; else the one still to go.
    """

    balanced = False
    """Whether good and poor episodes are drawn equally often."""

    def __init__(
        self,
        trajectories: Trajectories,
        length: int,
        batch_size: int,
        seed: int | None = None,
        return_mode: ReturnMode = "decrement",
    ) -> None:
        self.trajectories = trajectories
        self.return_mode = return_mode
        self.length = length
        self.batch_size = batch_size
        self.rng = np.random.default_rng(seed)
        self._rows = torch.from_numpy(trajectories.rows)
        self._images = None
        if trajectories.images is not None:
            self._images = torch.from_numpy(trajectories.images)
        self._borders = trajectories.offsets
        self._steps = np.arange(length)
        self._begin()

    def _begin(self) -> None:  # noqa: B027 - a hook, not a duty
        """Prepare what a kind of sampler needs beside this; most need nothing."""

    @abstractmethod
    def sample(self) -> Window:
        """Draw the next batch."""

    def keep_on(self, device: torch.device) -> None:
        """Copy the data to a device, where batches are then gathered: only indices travel.

        On a GPU this is done where the data take up at most `SHARE` of the memory that is free.
        """
        held = [x for x in (self._rows, self._images) if x is not None]
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if sum(x.nbytes for x in held) > SHARE * free:
                return
        self._rows, *images = (x.to(device) for x in held)
        self._images = images[0] if images else None

    def state_dict(self) -> dict[str, Any]:
        """Position in the random stream, in JSON-able values."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a position; the batches that follow are the same again."""
        self.rng.bit_generator.state = state["rng"]

    def _span(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the first and the last row of what the given rows lie in: their episodes.

        It is looked up, since a table would be a good part of the size of the data.
        """
        run = np.searchsorted(self._borders, rows, side="right")
        return self._borders[run - 1], self._borders[run] - 1

    def _window(self, first: NDArray[np.int64], starts: NDArray[np.bool_]) -> Window:
        """Gather the windows that begin at the given rows.

        A window that reaches beyond its episode repeats the last step, under a mask of False.
        """
        index = first[:, None] + self._steps
        begin, end = self._span(first)
        last = end[:, None]
        mask = torch.from_numpy(index <= last)
        flat = self._there(np.minimum(index, last).reshape(-1))
        rows = self._rows.index_select(0, flat).view(*index.shape, -1)
        data, columns = self.trajectories, self.trajectories.columns
        returns = rows[..., -2]
        if self.return_mode == "constant":
            whole = self._rows[self._there(begin), -2]
            returns = whole[:, None].expand_as(returns)
        if self._images is not None:
            observations = self._pictures(self._images, first)
        else:
            observations = observed(rows[..., columns.observations], data.observation_space)
        return Window(
            observations=observations,
            actions=done(rows[..., columns.actions], data.action_space),
            rewards=rows[..., -3],
            returns_to_go=returns,
            timesteps=rows[..., -1].long(),
            mask=mask,
            starts=torch.from_numpy(starts),
        )

    def _there(self, numbers: NDArray[np.int64]) -> Tensor:
        """Move numbers of rows to where the rows are, for which nothing waits."""
        return torch.from_numpy(numbers).to(self._rows.device, non_blocking=True)

    def _pictures(self, images: Tensor, first: NDArray[np.int64]) -> Tensor:
        """Gather the images of windows; each frame of a window is read once for all its stacks."""
        n = self.trajectories.frame_stack or 1
        steps = first[:, None] + np.arange(1 - n, self.length)
        begin, end = self._span(first)
        steps = np.clip(steps, begin[:, None], end[:, None])
        pictures = images.index_select(0, self._there(steps.reshape(-1)))
        pictures = pictures.view(*steps.shape, *images.shape[1:])
        if self.trajectories.image_shift:
            pictures = shifted(pictures, self.trajectories.image_shift, self.rng)
        return stacked_views(pictures, n) if self.trajectories.frame_stack else pictures


class WindowSampler(Sampler):
    """Independent windows: the K steps up to a uniformly drawn one, or the first K of its episode.

    Episodes are thus drawn in proportion to their length, as the papers do, and only episodes
    shorter than K need padding. Each window begins with no memory (`starts` is True).

    References:
        Chen et al., "Decision Transformer", arXiv 2106.01345, algorithm 1.

    Deviations:
        The papers draw the window's first step. Then the first step of an episode comes up in one
        window and a later one in K, although a policy meets the start of every episode.
    """

    def sample(self) -> Window:
        """Draw the next batch of B windows."""
        last = self._draw()
        first = np.maximum(last - self.length + 1, self._span(last)[0])
        return self._window(first, np.ones(self.batch_size, bool))

    def _draw(self) -> NDArray[np.int64]:
        """Draw the rows at which B windows end."""
        return self.rng.integers(self.trajectories.n_steps, size=self.batch_size)


class BalancedSampler(WindowSampler):
    """Windows as `WindowSampler` draws them, but of good and poor episodes equally often.

    Poor episodes are often many and short, so that the first steps of a good episode are rare among
    all first steps, and what to do there is learnt last. Steps are sorted into stretches of time,
    and within each into classes of their episode's return; a stretch is drawn as often as
    it was, and each of its classes as often as another.

    References:
        None: an idea of this project; docs/recipe.md has the experiment.
    """

    balanced = True
    STRETCH, CLASSES = 50, 8
    """Steps of a stretch of time, and classes of equal width between the extreme returns."""

    def _begin(self) -> None:
        trajectories = self.trajectories
        returns, lengths = trajectories.returns, trajectories.lengths
        inner = np.linspace(returns.min(), returns.max(), self.CLASSES + 1)[1:-1]
        classes = np.repeat(np.searchsorted(inner, returns, side="right"), lengths)
        begun = np.repeat(trajectories.offsets[:-1], lengths)
        stretch = (np.arange(trajectories.n_steps) - begun) // self.STRETCH
        cell = stretch * self.CLASSES + classes
        in_cell, in_stretch = np.bincount(cell), np.bincount(stretch)
        present = np.bincount(np.flatnonzero(in_cell) // self.CLASSES)
        weight = in_stretch[stretch] / (present[stretch] * in_cell[cell])
        self._cumulated = np.cumsum(weight) / weight.sum()

    def _draw(self) -> NDArray[np.int64]:
        drawn = np.searchsorted(self._cumulated, self.rng.random(self.batch_size), side="right")
        return np.minimum(drawn, self.trajectories.n_steps - 1)  # the sum may fall short of 1


class SegmentSampler(Sampler):
    """Consecutive segments of B trajectories, for truncated back-propagation through time.

    Row i of one batch continues row i of the batch before; where its trajectory has ended, the row
    begins another, uniformly drawn one from its first step, and `starts` is True.

    References:
        Dai et al. (DeMa), arXiv 2405.12094: the RNN-like variant, whose hidden state is carried
        along the trajectory.
    """

    def _begin(self) -> None:
        self._position = np.full(self.batch_size, -1, np.int64)

    def sample(self) -> Window:
        """Take the next segment of every row."""
        starts = self._position < 0
        episodes = self.rng.integers(self.trajectories.n_episodes, size=int(starts.sum()))
        first = self._position.copy()
        first[starts] = self.trajectories.offsets[episodes]
        after = first + self.length
        self._position = np.where(after > self._span(first)[1], -1, after)
        return self._window(first, starts)

    def state_dict(self) -> dict[str, Any]:
        """Position in the random stream and in each row's trajectory."""
        return {**super().state_dict(), "position": self._position.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a position; see `Sampler.load_state_dict`."""
        super().load_state_dict(state)
        self._position = np.array(state["position"], np.int64)


def observed(values: Tensor, space: spaces.Space[Any]) -> Tensor:
    """Give flat columns (B, K, C) the shape and dtype of observations, as models see them."""
    if isinstance(space, spaces.Discrete):
        return values[..., 0].long()
    return _shaped(values, model_shape(space))


def done(values: Tensor, space: spaces.Space[Any]) -> Tensor:
    """Give flat columns (B, K, C) the shape and dtype of actions."""
    values = values if isinstance(space, spaces.Box) else values.long()
    return _shaped(values, space.shape or ())


def _shaped(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    return values if len(shape) == 1 else values.reshape(*values.shape[:-1], *shape)
