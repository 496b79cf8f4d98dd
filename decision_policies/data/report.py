"""DatasetReport: what logged data are like, in figures, as text, and as advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from decision_policies.spaces import choices

Place: TypeAlias = tuple[int, int]
"""Number of an episode, and of a step in it, both from 0."""

RewardKind: TypeAlias = Literal["dense", "sparse", "delayed", "constant"]

PERCENTS = (0, 5, 25, 50, 75, 95, 100)
HEAD = ("lowest", "p5", "p25", "median", "p75", "p95", "highest", "mean", "std")
CROWDED = 0.5
"""Share of steps at a bound, above which a dimension of the actions deserves a look."""
RARE = 0.05
"""Share of episodes, below which good ones are called rare."""


@dataclass(frozen=True)
class Spread:
    """How numbers are spread.

    Attributes:
        quantiles: Their percentiles 0, 5, 25, 50, 75, 95 and 100.
        mean: Their mean.
        std: Their standard deviation.
    """

    quantiles: tuple[float, ...]
    mean: float
    std: float

    @classmethod
    def of(cls, values: ArrayLike) -> Spread:
        """Take the figures of at least one number."""
        array = np.asarray(values, np.float64)
        quantiles = np.percentile(array, PERCENTS).tolist()
        return cls(tuple(quantiles), float(array.mean()), float(array.std()))


@dataclass(frozen=True)
class Ends:
    """How episodes end, where the log says so.

    Attributes:
        terminated: Episodes whose last step is marked as terminated.
        truncated: Episodes whose last step is marked as truncated, and not as terminated.
        unmarked: Episodes whose last step is marked as neither.
        inside: Marks before an episode's last step: there should be none.
    """

    terminated: int
    truncated: int
    unmarked: int
    inside: tuple[Place, ...]


@dataclass(frozen=True)
class ActionUse:
    """How a log uses its action space.

    Attributes:
        outside: Box: share of steps beyond the bounds, for each dimension (A,); else None.
        at_bound: Box: share of steps exactly at a bound, for each dimension (A,); else None.
        shares: Choices: share of steps of each value of each component, side by side; else None.
    """

    outside: NDArray[np.float64] | None = None
    at_bound: NDArray[np.float64] | None = None
    shares: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class DatasetReport:
    """What `check_dataset` found in data that can be learnt from; `print` it.

    Attributes:
        name: The dataset's id; None for episodes that have none.
        observation_space: Space of one observation.
        action_space: Space of one action.
        n_steps: Number N of steps.
        lengths: Steps of each episode, (E,).
        returns: Undiscounted return of each episode, (E,).
        rewards: How the rewards of single steps are spread.
        reward_kind: "constant", the same at every step; "delayed", other than zero at the last
            step of an episode only; "sparse", zero at nine steps of ten or more; else "dense".
        with_final: Episodes with T + 1 observations against T actions, the others having T; None
            where the data are packed already.
        ends: How episodes end; None where the log has no marks.
        continued: Episodes whose first observation is the last of the episode before, which the
            log does not mark as terminated: one episode in pieces?
        jumps: Steps after which the observation moves more than three times as far as after 99 of
            100 others (mean over dimensions, in standard deviations): steps missing?
        constant: Dimensions of the observation that never change.
        actions: How the action space is used.
    """

    name: str | None
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    n_steps: int
    lengths: NDArray[np.int64]
    returns: NDArray[np.float64]
    rewards: Spread
    reward_kind: RewardKind
    with_final: int | None
    ends: Ends | None
    continued: tuple[int, ...]
    jumps: tuple[Place, ...]
    constant: tuple[str, ...]
    actions: ActionUse

    @property
    def n_episodes(self) -> int:
        """Number E of episodes."""
        return len(self.lengths)

    @property
    def advice(self) -> tuple[str, ...]:
        """What deserves a look before training, a sentence each."""
        return (*self._advice_on_borders(), *self._advice_on_values(), *self._advice_on_returns())

    def __str__(self) -> str:
        """Say everything, the advice last."""
        facts = {
            "observations": " ".join(str(self.observation_space).split()),
            "actions": " ".join(str(self.action_space).split()),
            "values": "all finite",
            "alignment": self._alignment(),
            "ends": self._ends(),
            "constant": ", ".join(self.constant) or "no dimension of the observation",
            "rewards": self.reward_kind,
        }
        name = self.name or "episodes"
        lines = [f"{name}: {self.n_episodes} episodes, {self.n_steps} steps"]
        lines += [f"  {title:<13} {text}" for title, text in facts.items()]
        lines += ["", *self._spreads(), "", *self._used()]
        advice = [f"- {sentence}" for sentence in self.advice]
        return "\n".join([*lines, "", *(["To look at:", *advice] if advice else ["No remarks."])])

    def _alignment(self) -> str:
        if self.with_final is None:
            return "packed before: an observation, the action taken in it, its reward"
        if self.with_final == self.n_episodes:
            return "T + 1 observations against T actions in every episode"
        return (
            f"T + 1 observations against T actions in {self.with_final} episodes; in the other "
            f"{self.n_episodes - self.with_final} T, without the final one"
        )

    def _ends(self) -> str:
        if self.ends is None:
            return "not marked"
        return (
            f"{self.ends.terminated} terminated, {self.ends.truncated} truncated, "
            f"{self.ends.unmarked} unmarked"
        )

    def _spreads(self) -> list[str]:
        """Lay out the table of returns, rewards and lengths."""
        spreads = {
            "return": Spread.of(self.returns),
            "reward": self.rewards,
            "length": Spread.of(self.lengths),
        }
        rows = [["", *HEAD]]
        for title, spread in spreads.items():
            figures = (*spread.quantiles, spread.mean, spread.std)
            rows.append([title, *(f"{figure:.5g}" for figure in figures)])
        return aligned(rows)

    def _used(self) -> list[str]:
        """Lay out the table of actions."""
        use = self.actions
        if use.shares is not None:
            return aligned(
                [
                    ["action", *_values(self.action_space)],
                    ["share", *map(_percent, use.shares)],
                ]
            )
        assert use.outside is not None, "a space has choices or is a Box"
        assert use.at_bound is not None, "as well"
        rows = [
            ["action dimension", *(f"[{i}]" for i in range(len(use.outside)))],
            ["beyond bounds", *map(_percent, use.outside)],
            ["at a bound", *map(_percent, use.at_bound)],
        ]
        return aligned(rows)

    def _advice_on_borders(self) -> list[str]:
        advice = []
        if self.ends is not None and self.ends.inside:
            advice.append(
                f"Episodes go on after their end is marked ({_first(self.ends.inside)}): split "
                "them there, or returns-to-go add up across the border."
            )
        if self.ends is not None and self.ends.unmarked:
            advice.append(
                f"{self.ends.unmarked} episodes stop at a step that is not marked as an end: if "
                "they were cut off, their returns are too low; leave them out."
            )
        if self.continued:
            advice.append(
                f"{len(self.continued)} episodes begin where the one before stopped, the first of "
                f"them episode {self.continued[0]}: if they are pieces of one, join them."
            )
        if self.jumps:
            advice.append(
                f"The observation jumps ({_first(self.jumps)}): if steps are missing there, cut "
                "the episode in two; contacts and teleports jump as well."
            )
        return advice

    def _advice_on_values(self) -> list[str]:
        advice = []
        if self.constant:
            advice.append(
                f"{len(self.constant)} dimensions of the observation never change: nothing can be "
                "learnt from them, and a value seen for the first time in acting is a surprise."
            )
        outside, bound = self.actions.outside, self.actions.at_bound
        if outside is not None and outside.any():
            advice.append(
                f"Actions lie beyond the bounds of their space, in dimension {outside.argmax()} at "
                f"{_percent(outside.max())} of the steps: a policy cannot take them; clip what was "
                "clipped by the environment, or give the space that was meant."
            )
        if bound is not None and (bound > CROWDED).any():
            advice.append(
                f"Actions stand at a bound at {_percent(bound.max())} of the steps in dimension "
                f"{bound.argmax()}: were they clipped before they were logged?"
            )
        shares = self.actions.shares
        if shares is not None and not shares.all():
            names = zip(_values(self.action_space), shares, strict=True)
            unused = [name for name, share in names if not share]
            advice.append(f"Never taken: {', '.join(unused)}; a policy will hardly choose them.")
        return advice

    def _advice_on_returns(self) -> list[str]:
        advice = []
        low, high = float(self.returns.min()), float(self.returns.max())
        good = int((self.returns >= high - 0.1 * (high - low)).sum())
        if low == high:
            advice.append(
                "All returns are the same: a policy cannot learn what asking for more means; BC "
                "learns as much."
            )
        elif good < RARE * self.n_episodes:
            advice.append(
                f"Only {good} of {self.n_episodes} episodes come within a tenth of the best return "
                f"({high:.5g}): balance_returns=True draws them as often as the others."
            )
        if self.reward_kind == "delayed":
            advice.append(
                "Rewards come at the end of an episode only: nothing lowers a return-to-go on the "
                'way; return_mode="constant" asks for the same and needs no rewards to act.'
            )
        elif self.reward_kind == "constant" and low != high:
            advice.append("Every step earns the same: a return is only the length of its episode.")
        return advice


def aligned(rows: list[list[str]]) -> list[str]:
    """Lay out a table, its first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _values(space: spaces.Space[Any]) -> list[str]:
    """Name the values of choices, those of several components by the component, too."""
    component, value = choices(space)
    if isinstance(space, spaces.Discrete):
        return [str(v) for v in value]
    return [f"[{i}] {v}" for i, v in zip(component, value, strict=True)]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _first(places: tuple[Place, ...]) -> str:
    episode, step = places[0]
    return f"{len(places)} times, first at episode {episode}, step {step}"
