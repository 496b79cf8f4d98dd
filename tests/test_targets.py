"""Returns are asked for by number or by word, and words mean what the training data hold."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import decision_policies
from decision_policies import AD, BC, SequencePolicy, Trajectories, evaluate_policy
from decision_policies.analysis import draw_targets, sweep_targets
from decision_policies.envs import Darkroom
from decision_policies.errors import CheckpointError
from decision_policies.returns import PERCENTS, TOPS, ReturnStatistics, asked_for
from tests.fixtures import forge, tiny_algorithm, tiny_policy, tiny_trajectories, trained
from zoo.__main__ import main

SET = "cartpole/mixed-v0"


def policy_of_cartpole(**changes: Any) -> SequencePolicy:
    policy = tiny_algorithm(**changes).learn(SET, 2).policy
    assert policy is not None
    return policy


@pytest.mark.parametrize("n", [1, 3, 10, 101])
def test_words_mean_percentiles_and_means_of_the_best(n: int) -> None:
    returns = np.random.default_rng(n).normal(100, 50, n)
    statistics = ReturnStatistics.of(returns)
    assert asked_for("max", statistics) == returns.max()
    for percent in PERCENTS:
        expected = np.percentile(returns, percent)
        assert asked_for(f"p{percent}", statistics) == pytest.approx(expected, rel=1e-12)
    ordered = np.sort(returns)[::-1]
    for top in TOPS:
        best = ordered[: int(np.ceil(n * top / 100 - 1e-9))]
        assert asked_for(f"mean_top{top}", statistics) == pytest.approx(best.mean(), rel=1e-12)


def test_words_between_the_stored_figures_lie_between_their_meanings() -> None:
    returns = np.random.default_rng(0).gamma(2.0, 100.0, 5000)
    statistics = ReturnStatistics.of(returns)
    for percent in (2.5, 33, 87.5, 99.5):
        expected = np.percentile(returns, percent)
        assert statistics.percentile(percent) == pytest.approx(expected, rel=0.3)
    for top in (3, 15, 25, 60):
        best = np.sort(returns)[::-1][: 50 * top]
        assert statistics.mean_top(top) == pytest.approx(best.mean(), rel=0.05)
    tops = [statistics.mean_top(top) for top in np.linspace(0.1, 100, 200)]
    assert all(a >= b for a, b in itertools.pairwise(tops))
    assert statistics.mean_top(0.1) == statistics.mean_top(1)


def test_equal_returns_are_kept_though_their_mean_is_rounded() -> None:
    statistics = ReturnStatistics.of(np.full(3, 0.1))
    assert set(statistics.percentiles + statistics.top_means) == {0.1}


def test_what_is_learnt_from_is_stored_and_loaded_in_every_figure(tmp_path: Path) -> None:
    algorithm = trained()
    data = tiny_trajectories(False)
    assert algorithm.policy is not None
    assert algorithm.policy.spec.returns == ReturnStatistics.of(data.returns)
    algorithm.save(tmp_path / "policy")
    loaded = decision_policies.load(tmp_path / "policy").policy
    assert loaded is not None and loaded.spec == algorithm.policy.spec
    loaded.reset("p50")
    assert loaded.target_return == pytest.approx(np.median(data.returns), rel=1e-12)
    algorithm = tiny_algorithm(target_return="mean_top50").learn(data, 1)
    algorithm.save(tmp_path / "word")
    again = decision_policies.load(tmp_path / "word")
    assert again.target_return == "mean_top50" and again.policy is not None
    assert again.policy.target_return == np.sort(data.returns)[2:].mean()
    best = BC(top_fraction=0.5, d_model=8, n_layers=1, seed=0).learn(data, 1).policy
    assert best is not None
    assert best.spec.returns == ReturnStatistics.of(data.best(0.5).returns)


def test_every_door_takes_numbers_words_and_lists_of_both() -> None:
    policy = policy_of_cartpole()
    returns = Trajectories.from_minari(SET).returns
    p90 = np.percentile(returns, 90)
    each: list[float | str] = ["max", "p90", 12]
    policy.reset(each)
    assert policy.target_return.tolist() == [returns.max(), p90, 12]
    policy.predict(np.zeros((3, 4), np.float32))
    assert policy.returns_to_go is not None
    assert policy.returns_to_go.tolist() == [returns.max(), p90, 12]
    assert SequencePolicy(policy.model, target_return="p90").target_return == p90
    word = evaluate_policy(policy, "CartPole-v1", 2, target_return="p90")
    number = evaluate_policy(policy, "CartPole-v1", 2, target_return=p90)
    assert word.returns.tolist() == number.returns.tolist()
    assert policy_of_cartpole(target_return="p90").target_return == p90


def test_a_word_that_asks_for_nothing_changes_nothing() -> None:
    policy = policy_of_cartpole()
    for word in ("best", "p101", "p-1", "mean_top0", "mean_top101", "P90", "", "p", "12", "p٣"):
        with pytest.raises(ValueError, match="asks for nothing: give a number, 'max'"):
            policy.reset(["max", word])
    assert policy.target_return == 500
    with pytest.raises(ValueError, match="asks for nothing"):
        tiny_algorithm(target_return="best")


def test_a_policy_that_knows_no_returns_says_what_its_checkpoint_lacks(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    old = {name: value for name, value in config["spec"].items() if name != "returns"}
    forge(saved, {"spec": old})
    policy = decision_policies.load(saved).policy
    assert policy is not None
    policy.reset(3.0)
    for asking in (policy, tiny_policy()):
        with pytest.raises(ValueError, match=r"'p90' needs the returns.*has no spec.returns"):
            asking.reset("p90")
        with pytest.raises(ValueError, match="does not know the returns of its training data"):
            sweep_targets(asking, "CartPole-v1")
    assert policy.target_return == 3
    with pytest.raises(ValueError, match="was made without data"):
        tiny_policy(target_return="p90")


FORGED: dict[str, tuple[str, Any, str]] = {
    "no object": ("spec.returns", [], "entries missing or unexpected"),
    "more": ("spec.returns.more", 1, "entries missing or unexpected"),
    "no episodes": ("spec.returns.episodes", 0, "episodes must be at least 1"),
    "half an episode": ("spec.returns.episodes", 1.5, "episodes must be at least 1"),
    "too few": ("spec.returns.percentiles", [1.0], "percentiles must be 23 finite numbers"),
    "no numbers": ("spec.returns.top_means", ["1"] * 9, "top_means: expected a list of finite"),
    "a flag": ("spec.returns.top_means", [True] * 9, "top_means: expected a list of finite"),
    "huge": ("spec.returns.top_means", [1e300] * 9, "top_means: expected a list of finite"),
    "falling": ("spec.returns.percentiles", [*range(22, -1, -1)], "numbers in order"),
    "rising": ("spec.returns.top_means", [*range(9)], "numbers in order"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_figures_are_refused(name: str, saved: Path) -> None:
    place, value, message = FORGED[name]
    forge(saved, {place: value})
    with pytest.raises(CheckpointError, match=message):
        decision_policies.load(saved)


def test_a_sweep_asks_for_each_return_on_the_same_seeds() -> None:
    policy = policy_of_cartpole()
    before = policy.target_return
    sweep = sweep_targets(policy, "CartPole-v1", [20, "p50", "max"], 3, seed=5)
    assert sweep.asked.tolist() == [20, 69, 500]
    for asked, returns in zip(sweep.asked, sweep.returns, strict=True):
        again = evaluate_policy(policy, "CartPole-v1", 3, target_return=asked, seed=5)
        assert returns.tolist() == again.returns.tolist()
    assert sweep.best == sweep.asked[sweep.returns.mean(1).argmax()]
    assert f"best: {sweep.best:.5g} (3 episodes of each)" in str(sweep)
    assert policy.target_return == before
    counted: list[None] = []
    spread = sweep_targets(policy, "CartPole-v1", 4, 1, on_episode=lambda: counted.append(None))
    assert spread.asked == pytest.approx(np.linspace(9, 500, 4))
    assert len(counted) == 4
    assert sweep_targets(policy, "CartPole-v1", 1, 1).asked.tolist() == [500]


def test_the_picture_of_a_sweep_shows_its_figures() -> None:
    sweep = sweep_targets(policy_of_cartpole(), "CartPole-v1", 3, 2)
    (axes,) = draw_targets(sweep).axes
    drawn = axes.lines[1]
    assert np.asarray(drawn.get_xdata()).tolist() == sweep.asked.tolist()
    assert np.asarray(drawn.get_ydata()).tolist() == sweep.mean.tolist()
    legend = axes.get_legend()
    assert legend is not None
    said = [text.get_text() for text in legend.get_texts()]
    assert sorted(said) == ["data, p10 to p90", "mean ± std", "obtained = asked"]


def test_what_cannot_be_swept_is_refused() -> None:
    rooms = Darkroom([0], size=3)
    system = AD(d_model=8, n_heads=2, n_layers=1, seed=0)
    system.make_policy(rooms.observation_space, rooms.action_space)
    with pytest.raises(ValueError, match="this policy asks for no return"):
        sweep_targets(system, "Darkroom-v0")
    for targets, message in ((0, "at least 1"), ([], "got"), ([np.inf], "finite")):
        with pytest.raises(ValueError, match=message):
            sweep_targets(policy_of_cartpole(), "CartPole-v1", targets)


def test_a_word_on_the_command_line_is_checked_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["evaluate", "x", "--target-return", "p900"], ["targets", "x", "--ask", "top"]):
        with pytest.raises(SystemExit):
            main(words)
        assert "asks for nothing: give a number, 'max'" in capsys.readouterr().err
