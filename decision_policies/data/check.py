"""check_dataset: read logged data once, as learning would, and report what they are like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, TypeGuard

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.data.histories import Histories
from decision_policies.data.minari_source import episodes_of, load_minari
from decision_policies.data.reading import Dataset
from decision_policies.data.report import ActionUse, DatasetReport, Ends, Place, RewardKind, Spread
from decision_policies.data.source import Source
from decision_policies.data.trajectories import Trajectories
from decision_policies.errors import DatasetError
from decision_policies.spaces import is_flat, leaf_size, leaves, parts, whole_range

MARKS = ("terminations", "truncations")
SPARSE = 0.9
"""Share of zero rewards from which they are called sparse."""
FAR = 3.0
"""So many times the 99th percentile of the observation's movements is called a jump."""


def check_dataset(
    dataset: Dataset | Iterable[Mapping[str, Any] | object],
    observation_space: spaces.Space[Any] | None = None,
    action_space: spaces.Space[Any] | None = None,
) -> DatasetReport:
    """Check that data can be learnt from, and say what they are like.

    Everything is read, by the same code by which `learn` reads it; nothing is kept on disk.

    Args:
        dataset: A Minari dataset, its id, or its folder's path; trajectories or histories; or
            episodes as `Trajectories.from_episodes` takes them, which may also have `terminations`
            and `truncations` (T), as Minari's have.
        observation_space: Space of one observation; for episodes only.
        action_space: Space of one action; for episodes only.

    Returns:
        The report; `print` it.

    Raises:
        DatasetError: The data cannot be learnt from; names the first bad episode, step and field.
            Or spaces are missing, or given where the dataset has its own.
        UnsupportedSpaceError: A space is none that the package can handle.

    Example:
        >>> from decision_policies import check_dataset
        >>> report = check_dataset("cartpole/mixed-v0")
        >>> report.n_episodes, report.reward_kind
        (101, 'constant')
    """
    log = _Log()
    if isinstance(dataset, Histories):
        dataset = dataset.trajectories
    given = (observation_space, action_space)
    if observation_space is not None and action_space is not None and _are_episodes(dataset):
        watched = log.watch(dataset, observation_space)
        data = Trajectories.from_episodes(watched, observation_space, action_space)
    elif given != (None, None):
        raise DatasetError(
            "check_dataset takes two spaces for a list of episodes, and none for a dataset, which "
            f"has its own; got a {type(dataset).__name__} with {observation_space} and "
            f"{action_space}"
        )
    elif isinstance(dataset, Trajectories):
        data = dataset
    elif isinstance(dataset, (list, tuple)):
        raise DatasetError(
            "check_dataset was given a list; say what its spaces are: "
            "check_dataset(episodes, observation_space, action_space)"
        )
    else:
        loaded = load_minari(dataset)
        data = Trajectories.from_episodes(
            log.watch(episodes_of(loaded, ends=True), loaded.observation_space),
            loaded.observation_space,
            loaded.action_space,
            source=Source(dataset=loaded.id),
        )
    return _report(data, log)


def _are_episodes(dataset: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(dataset, Iterable) and not isinstance(
        dataset, (str, PathLike, Trajectories, Histories)
    )


@dataclass
class _Log:
    """What a log says of episodes that packing leaves out.

    Attributes:
        finals: Of each episode, whether it has T + 1 observations.
        ends: Of each episode with marks, whether its last step is (terminated, truncated).
        inside: Marks before an episode's last step.
    """

    finals: list[bool] = field(default_factory=list)
    ends: dict[int, tuple[bool, bool]] = field(default_factory=dict)
    inside: list[Place] = field(default_factory=list)

    def watch(self, episodes: Iterable[Any], space: spaces.Space[Any]) -> Iterator[Any]:
        """Pass episodes on, and look at each once its reader has accepted it."""
        for index, episode in enumerate(episodes):
            yield episode
            length = np.asarray(_entry(episode, "rewards")).size
            self.finals.append(_count(_entry(episode, "observations"), space) == length + 1)
            given = [_entry(episode, name) for name in MARKS]
            marks = [_marks(index, *mark, length) for mark in zip(MARKS, given, strict=True)]
            if any(mark is not None for mark in given):
                self.ends[index] = (bool(marks[0][-1]), bool(marks[1][-1]))
                inside = np.flatnonzero((marks[0] | marks[1])[:-1])
                self.inside += [(index, int(step)) for step in inside]

    def summary(self) -> Ends | None:
        """Count the ends; None where no episode has marks."""
        if not self.ends:
            return None
        terminated = sum(end for end, _ in self.ends.values())
        truncated = sum(cut and not end for end, cut in self.ends.values())
        unmarked = len(self.ends) - terminated - truncated
        return Ends(terminated, truncated, unmarked, tuple(self.inside))


def _entry(episode: Any, name: str) -> Any:
    return episode.get(name) if isinstance(episode, Mapping) else getattr(episode, name, None)


def _marks(index: int, name: str, value: object, length: int) -> NDArray[np.bool_]:
    if value is None:
        return np.zeros(length, bool)
    marks = np.asarray(value)
    if marks.size != length or marks.dtype.kind not in "fiub":
        raise DatasetError(
            f"episode {index}: {name} must be one flag a step, ({length},); got shape "
            f"{marks.shape} of dtype {marks.dtype}"
        )
    return marks.reshape(-1).astype(bool)


def _count(observations: Any, space: spaces.Space[Any]) -> int:
    """Count the observations of an episode, those in parts in their first part."""
    inner = parts(space)
    columns = isinstance(observations, Mapping if isinstance(space, spaces.Dict) else tuple)
    if not inner or not columns:
        return len(observations)
    return _count(observations[inner[0][0]], inner[0][1])


def _report(data: Trajectories, log: _Log) -> DatasetReport:
    return DatasetReport(
        name=data.source.dataset,
        observation_space=data.observation_space,
        action_space=data.action_space,
        n_steps=data.n_steps,
        lengths=data.lengths,
        returns=data.returns,
        rewards=Spread.of(data.rewards),
        reward_kind=_reward_kind(data),
        with_final=sum(log.finals) if log.finals else None,
        ends=log.summary(),
        continued=_continued(data, log),
        jumps=_jumps(data),
        constant=_constant(data),
        actions=_action_use(data),
    )


def _reward_kind(data: Trajectories) -> RewardKind:
    paid = data.rewards != 0
    last = np.zeros(data.n_steps, bool)
    last[data.offsets[1:] - 1] = True
    if paid.any() and not paid[~last].any() and (data.lengths > 1).any():
        return "delayed"
    if data.rewards.min() == data.rewards.max():
        return "constant"
    return "sparse" if 1 - paid.mean() >= SPARSE else "dense"


def _continued(data: Trajectories, log: _Log) -> tuple[int, ...]:
    """Find episodes that begin where the one before, if not terminated, stopped."""
    if data.final_observations is None or not isinstance(data.observation_space, spaces.Box):
        return ()
    firsts = data.rows[data.offsets[1:-1], data.columns.observations]
    same = (firsts == data.final_observations[:-1]).all(1) if len(firsts) else np.zeros(0, bool)
    ended = np.array([log.ends.get(i, (False, False))[0] for i in range(len(same))], bool)
    return tuple((np.flatnonzero(same & ~ended) + 1).tolist())


def _jumps(data: Trajectories) -> tuple[Place, ...]:
    """Find steps after which a vector moves much farther than almost all others do."""
    if data.images is not None or not isinstance(data.observation_space, spaces.Box):
        return ()
    observations = data.rows[:, data.columns.observations]
    _, std = data.observation_statistics()
    spread = std.reshape(-1)
    moved = np.abs(np.diff(observations, axis=0)) / np.where(spread > 0, spread, 1)
    inside = np.ones(len(moved), bool)
    inside[data.offsets[1:-1] - 1] = False
    if not inside.any():
        return ()
    distance = np.where(inside, moved.mean(1), 0)
    rows = np.flatnonzero(distance > FAR * np.percentile(distance[inside], 99))
    episodes = np.searchsorted(data.offsets, rows, "right") - 1
    return tuple(zip(episodes.tolist(), (rows - data.offsets[episodes]).tolist(), strict=True))


def _constant(data: Trajectories) -> tuple[str, ...]:
    """Name the dimensions of a vector that never change."""
    if data.images is not None:
        return ()
    observations = data.rows[:, data.columns.observations]
    still = observations.min(0) == observations.max(0)
    return tuple(
        name for name, same in zip(_names(data.observation_space), still, strict=True) if same
    )


def _names(space: spaces.Space[Any]) -> list[str]:
    if is_flat(space):
        return [f"{name}[{i}]" for name, leaf in leaves(space) for i in range(leaf_size(leaf))]
    return [f"[{', '.join(map(str, index))}]" for index in np.ndindex(space.shape or (1,))]


def _action_use(data: Trajectories) -> ActionUse:
    space = data.action_space
    ends = whole_range(space)
    if ends is not None:
        taken, least = data.actions.reshape(data.n_steps, -1), np.ravel(ends[0])
        counts = [
            np.bincount(column, minlength=int(count))
            for column, count in zip((taken - least).T, np.ravel(ends[1]) - least + 1, strict=True)
        ]
        return ActionUse(shares=np.concatenate(counts) / data.n_steps)
    assert isinstance(space, spaces.Box), "the reader takes no others"
    actions = data.rows[:, data.columns.actions]
    low, high = (bound.astype(np.float32).reshape(-1) for bound in (space.low, space.high))
    outside = (actions < low) | (actions > high)
    at_bound = (actions == low) | (actions == high)
    return ActionUse(outside.mean(0), at_bound.mean(0))
