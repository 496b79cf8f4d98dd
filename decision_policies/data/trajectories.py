"""Trajectories: a whole dataset as flat float32 rows and episode offsets, aligned and checked.

Row t of an episode holds the observation s_t, the action a_t taken *in* it, and the reward r_t that
followed. Of the T + 1 observations that an episode of T actions has, the last one is in no row,
since no action belongs to it; shifting it into the next episode is the classic way to spoil every
pair. It stands apart, in `final_observations`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from decision_policies.data.episodes import Columns, EpisodeReader, returns_to_go
from decision_policies.data.frames import all_stacks, stacked_space
from decision_policies.data.origins import Origins
from decision_policies.data.source import Source as Source
from decision_policies.errors import DatasetError
from decision_policies.inputs import check_same_space
from decision_policies.spaces import model_shape
from decision_policies.spec import SequenceSpec


@dataclass(frozen=True)
class Trajectories(Origins):
    """Logged episodes, packed so that a window is one contiguous read.

    Attributes:
        rows: (N, C) float32, a step a row: observation, action, reward, return-to-go, timestep.
            It may be a memory map. Choices are exact, being below 2^24.
        images: (N, C, H, W) or (N, H, W) uint8, for image observations, which are then not in
            `rows`; images (H, W, C) are kept with their channels first.
        offsets: (E + 1,) int64, the row at which each of the E episodes starts, and N.
        observation_space: Space of one observation.
        action_space: Space of one action.
        source: Where the episodes come from.
        frame_stack: Number n of frames that make an observation (n, H, W), where `images` are
            single frames (N, H, W); see `stack_frames`. None: an image is an observation.
        image_shift: Pixels by which training moves images at random; see `shift_images`.
        rewards_clipped: Whether the rewards were clipped; see `clip_rewards`.
        final_observations: (E, S) float32, what followed each episode's last action, flat as in
            `rows`; where a log ends before, its last observation again. None: there are images.
    """

    rows: NDArray[np.float32]
    images: NDArray[np.uint8] | None
    offsets: NDArray[np.int64]
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    source: Source = field(default_factory=Source)
    frame_stack: int | None = None
    image_shift: int = 0
    rewards_clipped: bool = False
    final_observations: NDArray[np.float32] | None = None

    @classmethod
    def from_episodes(
        cls,
        episodes: Iterable[Mapping[str, ArrayLike] | object],
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        source: Source | None = None,
    ) -> Trajectories:
        """Pack episodes, checking every one.

        Args:
            episodes: Mappings, or objects with attributes, of `observations` (T + 1 or T of them),
                `actions` (T) and `rewards` (T). Observations of a Dict space are a mapping of
                arrays, T + 1 or T long each, those of a Tuple space a tuple of such; or, for both,
                a list of observations, one a step.
            observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of
                these.
            action_space: Box, Discrete, MultiDiscrete or MultiBinary.
            source: Where they come from.

        Raises:
            DatasetError: No episode, a ragged, empty or misshapen one, or a value that is not
                finite or no choice of its space; names the episode, the step and the field.
            UnsupportedSpaceError: A space is none of these.
        """
        packed = EpisodeReader(observation_space, action_space).pack(episodes)
        source = source or Source()
        if not source.digest:
            source = replace(source, digest=packed.digest())
        return cls(
            *packed[:3],
            observation_space,
            action_space,
            source,
            final_observations=packed.final_observations,
        )

    def __repr__(self) -> str:
        """Say what there is; the arrays would fill the screen."""
        named = "" if self.source.dataset is None else f"{self.source.dataset}, "
        return (
            f"Trajectories({named}{self.n_episodes} episodes of {self.lengths.min()} to "
            f"{self.lengths.max()} steps, {self.n_steps:,} in all)"
        )

    @property
    def n_steps(self) -> int:
        """Number N of steps."""
        return len(self.rows)

    @property
    def n_episodes(self) -> int:
        """Number E of episodes."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each episode, (E,)."""
        return np.diff(self.offsets)

    @property
    def observations(self) -> NDArray[Any]:
        """Observations s_t, (N, *observation), as models see them; see `spaces.model_shape`.

        Those of Dict, Tuple, MultiDiscrete and MultiBinary are flat vectors, (N, S), float32, as
        `gymnasium.spaces.flatten` makes them. Stacks of frames are copied together on every
        access, n times the memory of the frames.
        """
        if self.images is not None and self.frame_stack is not None:
            return all_stacks(self.images, self.offsets, self.frame_stack)
        if self.images is not None:
            return self.images
        values = self.rows[:, self.columns.observations]
        if isinstance(self.observation_space, spaces.Discrete):
            return values[:, 0].astype(np.int64)
        return values.reshape(self.n_steps, *model_shape(self.observation_space))

    @property
    def actions(self) -> NDArray[Any]:
        """Actions a_t, (N, *action), float32 for Box, int64 for choices."""
        values = self.rows[:, self.columns.actions]
        if not isinstance(self.action_space, spaces.Box):
            values = values.astype(np.int64)
        return values.reshape(self.n_steps, *(self.action_space.shape or ()))

    @property
    def rewards(self) -> NDArray[np.float32]:
        """Rewards r_t, (N,)."""
        return self.rows[:, -3]

    @property
    def returns_to_go(self) -> NDArray[np.float32]:
        """Sum of r_t and all later rewards of the episode, (N,)."""
        return self.rows[:, -2]

    @property
    def timesteps(self) -> NDArray[np.int64]:
        """Steps since the episode's start, (N,)."""
        return self.rows[:, -1].astype(np.int64)

    @property
    def returns(self) -> NDArray[np.float64]:
        """Undiscounted return of each episode, (E,)."""
        return np.add.reduceat(self.rewards, self.offsets[:-1], dtype=np.float64)

    @property
    def columns(self) -> Columns:
        """Where each field stands in `rows`."""
        first = 0 if self.images is not None else math.prod(model_shape(self.observation_space))
        end = first + math.prod(self.action_space.shape or ())
        return Columns(slice(0, first), slice(first, end))

    def stack_frames(self, n: int) -> Trajectories:
        """See each single frame as the last of a stack of n; every frame is still held once.

        The first frames of an episode are preceded by copies of its first, which is how
        `gymnasium.wrappers.FrameStackObservation(env, n)` begins; act in an environment wrapped so.
        Where its frames have a third axis of length 1, take that away before stacking
        (`gymnasium.wrappers.ReshapeObservation`).

        Args:
            n: Frames in a stack, at least 1.

        Returns:
            Trajectories whose observation space is (n, H, W), over the same memory.

        Raises:
            DatasetError: Frames are already stacked, or there are none: they are uint8, and
                (H, W) of at least 36 x 36 pixels, (H, W, 1) or (1, H, W).
            ValueError: n is no whole number of at least 1.
        """
        if self.frame_stack is not None:
            raise DatasetError(f"frames are already stacked, {self.frame_stack} at a time")
        space = stacked_space(self.observation_space, n)
        assert self.images is not None, "frames are never among the rows"
        frames = self.images.reshape(-1, *space.shape[1:])
        return replace(self, images=frames, observation_space=space, frame_stack=int(n))

    def shift_images(self, pixels: int = 4) -> Trajectories:
        """Have samplers move the images of each window at random, the same way for all its steps.

        What is learnt from few images then holds wherever things are in the picture; images that
        are never moved are soon learnt by heart. Acting sees them unmoved.

        Args:
            pixels: Moved by at most so many, up or down and left or right; borders are repeated.

        Returns:
            Trajectories over the same memory.

        Raises:
            DatasetError: There are no images.
            ValueError: Less than 0.

        References:
            Kostrikov et al. (DrQ), arXiv 2004.13649, section 3.1.
        """
        if self.images is None:
            raise DatasetError(f"there are no images to shift in {self.observation_space}")
        if pixels < 0:
            raise ValueError(f"shift_images needs at least 0 pixels, got {pixels}")
        return replace(self, image_shift=pixels, source=self.source.changed(f"shift {pixels}"))

    def clip_rewards(self) -> Trajectories:
        """Clip rewards to [-1, 1], and sum the returns-to-go of what is left.

        Raw scores of games differ by orders of magnitude, and logs of training often hold clipped
        ones. A policy that learns from clipped rewards clips what it observes; evaluation still
        reports the raw return.

        Returns:
            Trajectories with a copy of `rows`.
        """
        if self.rewards_clipped:
            return self
        rows = np.array(self.rows)
        rows[:, -3] = np.clip(rows[:, -3], -1.0, 1.0)
        for start, end in itertools.pairwise(self.offsets):
            rows[start:end, -2] = returns_to_go(rows[start:end, -3])
        source = self.source.changed("clipped rewards")
        return replace(self, rows=rows, source=source, rewards_clipped=True)

    def delay_rewards(self) -> Trajectories:
        """Pay each episode's whole return at its last step, and nothing before.

        The return-to-go is then the episode's return at every step. Act in an environment that
        pays so as well; then nothing lowers the return-to-go on the way.

        Returns:
            Trajectories with a copy of `rows`.
        """
        rows = np.array(self.rows)
        rows[:, -3] = 0.0
        rows[self.offsets[1:] - 1, -3] = self.returns
        rows[:, -2] = np.repeat(self.returns, self.lengths)
        return replace(self, rows=rows, source=self.source.changed("delayed rewards"))

    def check_fits(self, spec: SequenceSpec) -> None:
        """Check that a policy with this spec can learn from these trajectories.

        Raises:
            ValueError: The spaces differ.
            DatasetError: Only one of the two clips rewards.
        """
        check_same_space(self.observation_space, spec.observation_space, "observation")
        check_same_space(self.action_space, spec.action_space, "action")
        if spec.clip_rewards != self.rewards_clipped:
            made, has = ("clipped", "raw") if spec.clip_rewards else ("raw", "clipped")
            raise DatasetError(
                f"the policy was made for {made} rewards, but these are {has}: its return-to-go "
                "would mean something else. Use trajectories.clip_rewards() for all or for none"
            )

    def best(self, fraction: float) -> Trajectories:
        """Keep the episodes of highest return, as many as hold at most a share of the steps.

        Args:
            fraction: Share of all steps, over 0 and up to 1.

        Returns:
            A copy of these episodes, best first.

        Raises:
            DatasetError: Not even the best episode is that short.
        """
        order = np.argsort(-self.returns, kind="stable")
        allowed = fraction * self.n_steps
        kept = order[: int(np.searchsorted(self.lengths[order].cumsum(), allowed, "right"))]
        if not len(kept):
            raise DatasetError(
                f"the best {fraction:.3g} of {self.n_steps} steps are {allowed:.0f} steps, but the "
                f"best episode alone has {self.lengths[order[0]]}: no episode is selected; take a "
                "larger fraction"
            )
        return replace(self.take(kept), source=self.source.changed(f"best {fraction!r}"))

    def take(self, episodes: ArrayLike) -> Trajectories:
        """Keep the episodes of these numbers, counted from 0, as a copy in this order."""
        kept, last = np.asarray(episodes), self.n_episodes - 1
        numbers = kept.ndim == 1 and kept.size and kept.dtype.kind in "iu"
        if not numbers or kept.min() < 0 or kept.max() > last:
            raise DatasetError(f"expected a list of numbers from 0 to {last}, got {episodes!r}")
        parts = [slice(self.offsets[i], self.offsets[i + 1]) for i in kept]
        final = self.final_observations
        return replace(
            self,
            rows=np.concatenate([self.rows[part] for part in parts]),
            images=None if self.images is None else np.concatenate([self.images[p] for p in parts]),
            offsets=np.concatenate(([0], self.lengths[kept].cumsum())),
            source=self.source.changed(f"episodes {kept.tolist()}"),
            final_observations=None if final is None else final[kept],
        )

    def observation_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of each dimension of the observation over all steps."""
        mean, std = self._statistics(self.columns.observations)
        shape = model_shape(self.observation_space)
        return mean.reshape(shape).astype(np.float32), std.reshape(shape).astype(np.float32)

    def reward_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the rewards over all steps."""
        mean, std = self._statistics(slice(-3, -2))
        return float(mean[0]), float(std[0])

    def _statistics(self, columns: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Find mean and deviation of columns, a piece at a time: rows may be more than memory."""
        values = self.rows[:, columns]
        pieces = np.array_split(values, max(1, self.n_steps >> 13))
        total, square = np.zeros((2, values.shape[1]))
        for piece in pieces:  # float64 sums, without a float64 copy of everything
            total += piece.sum(0, dtype=np.float64)
        mean = total / self.n_steps
        for piece in pieces:
            square += np.square(piece - mean).sum(0)
        return mean, np.sqrt(square / self.n_steps)
