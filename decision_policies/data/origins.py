"""Origins: the ways in which what other tools have logged becomes trajectories."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from gymnasium import spaces

if TYPE_CHECKING:
    from minari import MinariDataset
    from stable_baselines3.common.buffers import ReplayBuffer

    from decision_policies.data.d3rlpy_source import HasEpisodes
    from decision_policies.data.trajectories import Trajectories


class Origins:
    """Constructors of `Trajectories`; each reads everything, checks it, and packs it."""

    @classmethod
    def from_minari(
        cls, dataset: MinariDataset | str | PathLike[str], *, cache: bool = True
    ) -> Trajectories:
        """Read a Minari dataset.

        Args:
            dataset: A loaded dataset; an id such as "mujoco/hopper/medium-v0", which is downloaded
                where it is not here yet ("cartpole/mixed-v0" ships with the package), from another
                owner's account as "hf://owner/mujoco/hopper/medium-v0"; or, as a path object, the
                folder of a dataset. It may be kept as HDF5, Arrow or Parquet (extra `[arrow]`).
            cache: Keep the packed rows on disk as a memory map, keyed by the dataset's id and
                content, and use them when they are there.

        Raises:
            DatasetError: No such dataset (names close ones), an id without version, or episodes
                that cannot be learnt from.
            ImportError: It is kept in Arrow's format or in Parquet's, and pyarrow is not installed.
        """
        from decision_policies.data.minari_source import read_minari

        return read_minari(dataset, cache=cache)

    @classmethod
    def from_d4rl(
        cls,
        path: str | PathLike[str],
        observation_space: spaces.Space[Any] | None = None,
        action_space: spaces.Space[Any] | None = None,
        *,
        max_episode_steps: int | None = None,
        keep_incomplete: bool = False,
    ) -> Trajectories:
        """Read an HDF5 file as D4RL writes them; neither D4RL nor MuJoCo is needed.

        Args:
            path: The file: `observations` (N, S), `actions` (N, A), `rewards` (N,) and `terminals`
                (N,) of all episodes one after the other, with `timeouts` (N,) and
                `next_observations` (N, S) where there are any.
            observation_space: Space of one observation; None is a Box without bounds.
            action_space: Space of one action; None is a Box from -1 to 1.
            max_episode_steps: Where the file has no `timeouts`, the steps after which episodes
                were cut off.
            keep_incomplete: Keep the last episode though its end is missing; its returns-to-go are
                then too low.

        Raises:
            DatasetError: It is no such file, its arrays differ in length, it does not say where
                episodes are cut off, no episode is complete, or one cannot be learnt from.
            FileNotFoundError: There is no such file.

        References:
            Fu et al., "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", arXiv
            2004.07219.
        """
        from decision_policies.data.d4rl_source import read_d4rl

        return read_d4rl(
            path,
            observation_space,
            action_space,
            max_episode_steps=max_episode_steps,
            keep_incomplete=keep_incomplete,
        )

    @classmethod
    def from_sb3(
        cls, buffer: ReplayBuffer, *, scaled_actions: bool = True, keep_incomplete: bool = False
    ) -> Trajectories:
        """Read a replay buffer of Stable-Baselines3, such as `model.replay_buffer`.

        The episodes of its environments are taken apart. Those whose start was overwritten, whose
        end has not come yet, or that a new `learn` has interrupted are left out.

        Args:
            buffer: A ReplayBuffer, DictReplayBuffer or HerReplayBuffer.
            scaled_actions: Whether actions of a Box are scaled to [-1, 1], as SAC, TD3 and DDPG
                store them; they are scaled back.
            keep_incomplete: Keep incomplete episodes, too; returns-to-go of those without an end
                are then too low.

        Raises:
            DatasetError: It is no replay buffer, its actions are not scaled though they should be,
                no episode is complete, or one cannot be learnt from.
            UnsupportedSpaceError: A space is none that the package can handle.
        """
        from decision_policies.data.sb3_source import read_buffer

        return read_buffer(buffer, scaled_actions=scaled_actions, keep_incomplete=keep_incomplete)

    @classmethod
    def from_d3rlpy(
        cls,
        dataset: HasEpisodes,
        observation_space: spaces.Space[Any] | None = None,
        action_space: spaces.Space[Any] | None = None,
    ) -> Trajectories:
        """Read a dataset of d3rlpy, an MDPDataset or ReplayBuffer; d3rlpy is not imported.

        Args:
            dataset: What has `episodes`, each with `observations`, `actions` and `rewards`, (T,
                ...) each.
            observation_space: Space of one observation; None is a Box without bounds, or of pixels.
            action_space: Space of one action; None is a Box from -1 to 1, or Discrete for whole
                numbers, of the size that `dataset.dataset_info` says.

        Raises:
            DatasetError: It has no episodes, its spaces must be said, or an episode cannot be
                learnt from.
        """
        from decision_policies.data.d3rlpy_source import read_d3rlpy

        return read_d3rlpy(dataset, observation_space, action_space)
