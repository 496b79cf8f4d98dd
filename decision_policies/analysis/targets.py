"""Sweeps over the return asked for: what a policy obtains, asked for little and for much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from decision_policies import inputs
from decision_policies.analysis.pictures import COLOURS, INK, PALE, empty_figure, plain
from decision_policies.evaluation import HasPolicy, evaluate_policy, policy_of
from decision_policies.policy import SequencePolicy
from decision_policies.returns import ReturnStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class TargetSweep:
    """Returns that were asked for, and those obtained; `print` it for a table.

    Attributes:
        asked: Returns asked for, (n,).
        returns: Return of each episode, (n, episodes); a column is one seed.
        data: Returns of the training data, where the policy knows them.
    """

    asked: NDArray[np.float64]
    returns: NDArray[np.float64]
    data: ReturnStatistics | None = None

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean return obtained, (n,)."""
        return self.returns.mean(1)  # type: ignore[no-any-return]

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of the returns over episodes, (n,)."""
        return self.returns.std(1)  # type: ignore[no-any-return]

    @property
    def best(self) -> float:
        """The return to ask for: of those asked for, the one with the highest mean return."""
        return float(self.asked[self.mean.argmax()])

    def __str__(self) -> str:
        """Say asked against obtained, a line each, and which was best."""
        lines = [f"{'asked':>10}  {'obtained':>10}  {'std':>8}"]
        for asked, mean, std in zip(self.asked, self.mean, self.std, strict=True):
            lines.append(f"{asked:>10.5g}  {mean:>10.5g}  {std:>8.4g}")
        episodes = self.returns.shape[1]
        return "\n".join([*lines, f"best: {self.best:.5g} ({episodes} episodes of each)"])


def sweep_targets(
    policy: SequencePolicy | HasPolicy,
    env: str | Callable[[], gym.Env[Any, Any]],
    targets: int | Sequence[float | str] = 10,
    n_eval_episodes: int = 10,
    *,
    seed: int = 0,
    n_envs: int = 10,
    deterministic: bool = True,
    on_episode: Callable[[], None] | None = None,
) -> TargetSweep:
    """Ask a policy for one return after the other, on the same seeds.

    Args:
        policy: The policy, or an algorithm that has one.
        env: Id of a registered environment, or a function that makes one.
        targets: Returns to ask for, numbers or words such as "p90"; or how many of them, spread
            evenly from the lowest to the highest return of the training data.
        n_eval_episodes: Episodes for each.
        seed: Seed of the first episode.
        n_envs: Environments that are stepped together.
        deterministic: Take the likeliest action rather than sample.
        on_episode: Called after each finished episode, for a progress bar.

    Raises:
        ValueError: The policy asks for no return, or remembers over episodes; there are no targets,
            or they are to be spread over data that the policy does not know. And what
            `evaluate_policy` raises.
    """
    actor = policy_of(policy)
    spec = actor.spec
    if not spec.uses_returns or spec.memory == "lifetime":
        reason = "remembers over episodes" if spec.uses_returns else "asks for no return"
        raise ValueError(f"this policy {reason}, so there is nothing to sweep")
    asked = _spread(targets, spec.returns)
    returns = np.stack(
        [
            evaluate_policy(
                actor,
                env,
                n_eval_episodes,
                target_return=target,
                seed=seed,
                n_envs=n_envs,
                deterministic=deterministic,
                on_episode=on_episode,
            ).returns
            for target in asked.tolist()
        ]
    )
    return TargetSweep(asked, returns, spec.returns)


def _spread(
    targets: int | Sequence[float | str], data: ReturnStatistics | None
) -> NDArray[np.float64]:
    """Say which returns to ask for, (n,)."""
    if not isinstance(targets, int):
        return np.atleast_1d(inputs.target_return(list(targets), data))
    if data is None:
        raise ValueError(
            "this policy does not know the returns of its training data: name the returns to ask "
            "for, such as 100, 200 and 300"
        )
    if targets < 1:
        raise ValueError(f"targets must be at least 1 or a list of returns, got {targets}")
    lowest, highest = data.percentiles[0], data.percentiles[-1]
    return np.unique(np.linspace(highest, lowest, targets))  # the highest, if it is only one


def draw_targets(sweep: TargetSweep, ax: Axes | None = None) -> Figure:
    """Draw what was obtained against what was asked for, mean and standard deviation.

    Where the training data's returns are known, their range is shaded from p10 to p90.

    Args:
        sweep: What `sweep_targets` gives.
        ax: Axes to draw on; None makes a figure.

    Returns:
        The figure drawn on; its `savefig` writes it.

    Raises:
        ImportError: matplotlib is not installed.
    """
    axes = empty_figure(5.6, 4.6).subplots() if ax is None else ax
    ends = [sweep.asked.min(), sweep.asked.max()]
    axes.plot(ends, ends, "--", color=INK, lw=1, label="obtained = asked")
    axes.errorbar(
        sweep.asked,
        sweep.mean,
        sweep.std,
        fmt="o-",
        color=COLOURS["return"],
        capsize=4,
        lw=1.4,
        label="mean ± std",
    )
    if sweep.data is not None:
        low, high = sweep.data.percentile(10), sweep.data.percentile(90)
        axes.axvspan(low, high, color=PALE, alpha=0.6, lw=0, label="data, p10 to p90")
    axes.set(xlabel="return asked for", ylabel="return obtained")
    axes.grid(color=PALE, lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9)
    plain(axes)
    figure: Any = axes.get_figure()
    return figure  # type: ignore[no-any-return]
