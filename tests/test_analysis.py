"""Decay, decision surface and episodes, against numbers worked out another way; no trace left."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from decision_policies import SequencePolicy, analysis
from decision_policies.batch import Window
from decision_policies.models import TokenModel
from decision_policies.nets import Mamba
from tests.laws.cases import MODES, SPACES, dema, model, trajectories, windows


def tiny(kind: str = "box-box", changes: dict[str, Any] | None = None) -> TokenModel:
    return cast(TokenModel, model(kind, changes))


def long_episode(steps: int) -> Window:
    """Make one episode (1, T) of random steps."""
    rng = np.random.default_rng(1)
    shape = (1, steps)
    return Window(
        observations=torch.tensor(rng.normal(size=(*shape, 3)), dtype=torch.float32),
        actions=torch.tensor(rng.uniform(-1, 1, (*shape, 2)), dtype=torch.float32),
        rewards=torch.zeros(shape),
        returns_to_go=torch.tensor(rng.normal(size=shape), dtype=torch.float32),
        timesteps=torch.arange(steps)[None],
        mask=torch.ones(shape, dtype=torch.bool),
        starts=torch.ones(1, dtype=torch.bool),
    )


# Decay


def exponential_block(rate: float, step: float) -> tuple[Mamba, Tensor]:
    """Make a block of one state with the same decay and step everywhere, and equal tokens."""
    mamba = Mamba(4, 1, None, 1)
    with torch.no_grad():
        mamba.A_log.fill_(math.log(rate))
        mamba.dt_proj.weight.zero_()
        mamba.dt_proj.bias.fill_(math.log(math.expm1(step)))
    return mamba, torch.ones(2, 12, 4)


def test_a_block_of_one_state_decays_exactly_exponentially() -> None:
    mamba, x = exponential_block(rate=2.0, step=0.05)
    matrices = analysis.attention_matrix(mamba, x, "abs_mean").detach().numpy()[None]
    curve = analysis.decay_curve(matrices, tokens_per_step=3)
    half_life = math.log(2) / (2.0 * 0.05)
    assert curve.tokens.half_lives[0] == pytest.approx(half_life, rel=1e-4)
    expected = curve.tokens.scores[0, 0] * 2 ** (-np.arange(12) / half_life)
    assert np.allclose(curve.tokens.scores[0], expected, rtol=1e-4)
    assert np.allclose(curve.tokens.fits, curve.tokens.scores, rtol=1e-4)
    assert curve.tokens.r_squared[0] == pytest.approx(1, abs=1e-6)
    assert curve.steps.distances.tolist() == [0, 1, 2, 3]
    ratio = curve.steps.scores[0, 2] / curve.steps.scores[0, 1]  # equal pairs, 3 tokens apart
    assert ratio == pytest.approx(math.exp(-2.0 * 0.05 * 3), rel=1e-4)


def test_scores_are_averaged_over_the_pairs_of_real_tokens_at_each_distance() -> None:
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(2, 3, 6, 6))  # above the diagonal there is junk, to be left out
    mask = np.arange(6) < np.array([[6], [4], [2]])
    curve = analysis.decay_curve(matrices, 2, mask)
    for decay, per in ((curve.tokens, 1), (curve.steps, 2)):
        for layer in range(2):
            pairs: dict[int, list[float]] = {}
            for b in range(3):
                for i in range(int(mask[b].sum())):
                    for j in range(i + 1):
                        score = abs(matrices[layer, b, i, j])
                        pairs.setdefault(i // per - j // per, []).append(score)
            expected = [np.mean(pairs[d]) for d in decay.distances]
            assert np.allclose(decay.scores[layer], expected)


def test_what_does_not_decay_has_no_half_life() -> None:
    flat = np.tri(8)[None, None]
    curve = analysis.decay_curve(np.concatenate((flat, np.eye(8)[None, None])))
    assert curve.tokens.half_lives[0] == math.inf
    assert math.isnan(curve.tokens.half_lives[1]), "a single distance has a score"
    with pytest.raises(ValueError, match="multiple of 3 tokens a step, got shape"):
        analysis.decay_curve(flat, 3)
    with pytest.raises(ValueError, match=r"mask of shape \(1, 8\), got \(8,\)"):
        analysis.decay_curve(flat, mask=np.ones(8, bool))


# Decision surface


@pytest.mark.parametrize("layout", ["B3LD", "BL3D"])
def test_each_row_of_the_surface_is_the_deciding_tokens_row_over_its_window(layout: str) -> None:
    m = tiny(changes={"layout": layout})
    episode = long_episode(70)
    per_step, acting = (3, 1) if layout == "B3LD" else (1, 0)
    surface = analysis.decision_surface(m, episode, layer=0, first=2, last=68)
    width = per_step * 5 + acting + 1
    assert surface.scores.shape == (67, width)
    assert surface.steps.tolist() == list(range(2, 69))
    assert surface.positions.tolist() == list(range(1 - width, 1))
    assert surface.kinds[-1] == ("observation" if layout == "B3LD" else "step")
    for index, t in ((0, 2), (3, 5), (40, 42), (66, 68)):
        start = max(0, t - 5)
        parts = episode.tensors().items()
        cut = {k: v if k == "starts" else v[:, start : t + 1] for k, v in parts}
        matrix = analysis.attention_matrices(m, Window(**cut), 0).matrices[0, 0]
        deciding = per_step * (t - start) + acting
        scores = matrix[deciding, : deciding + 1]
        scores = (scores - scores.min()) / (scores.max() - scores.min())
        found = surface.scores[index]
        assert np.allclose(found[width - len(scores) :], scores, atol=1e-6)
        assert np.isnan(found[: width - len(scores)]).all()


def test_steps_that_are_not_in_the_episode_are_refused() -> None:
    m, episode = tiny(), long_episode(5)
    for wrong in ({"first": 3, "last": 2}, {"last": 5}, {"first": -1}, {"length": 0}):
        with pytest.raises(ValueError, match=r"0 <= first <= last < T .* got 1 rows of T = 5"):
            analysis.decision_surface(m, episode, **cast(Any, wrong))
    with pytest.raises(ValueError, match="got 3 rows"):
        analysis.decision_surface(m, windows("box-box", 3, 5))


# Episodes


def test_a_logged_episode_holds_the_steps_of_the_data() -> None:
    data = trajectories("box-discrete")
    episode = analysis.logged_episode(data, -1)
    rows = slice(data.offsets[-2], data.offsets[-1])
    assert np.array_equal(episode.observations[0], data.observations[rows])
    assert np.array_equal(episode.actions[0], data.actions[rows])
    assert np.array_equal(episode.returns_to_go[0], data.returns_to_go[rows])
    assert np.array_equal(episode.timesteps[0], data.timesteps[rows])
    assert bool(episode.mask.all())
    with pytest.raises(IndexError, match="no episode 12: the data has 12"):
        analysis.logged_episode(data, 12)


@pytest.mark.parametrize("mode", MODES)
def test_a_played_episode_is_what_the_policy_was_conditioned_on(mode: Any) -> None:
    env = gym.make("CartPole-v1")
    spaces = env.observation_space, env.action_space
    policy = dema(context_length=60, inference=mode).make_policy(*spaces, target_return=7.0)
    policy.predict(np.zeros(4, np.float32))
    episode = analysis.played_episode(policy, env, target_return=30, seed=3, max_steps=20)
    steps = episode.shape[1]
    assert 8 <= steps <= 20
    assert episode.returns_to_go[0].tolist() == [30.0 - t for t in range(steps)]
    with torch.no_grad():  # within one context, all ways to remember see the whole episode
        said = policy.model(episode)[0].action[0].argmax(-1)
    assert torch.equal(said, episode.actions[0])
    assert policy.returns_to_go is not None and policy.returns_to_go.tolist() == [7.0]
    again = analysis.played_episode(policy, env, target_return=30, seed=3, max_steps=20)
    assert torch.equal(again.observations, episode.observations)


def look(subject: SequencePolicy, window: Window) -> None:
    """Do every analysis once."""
    analysis.attention_matrices(subject, window)
    analysis.activation_norms(subject, window)
    analysis.activation_norms(subject, window, "branches")
    analysis.gradient_norms(subject, window)
    analysis.gradient_norms(subject, window, "action")
    analysis.decision_surface(subject, long_episode(9))


def numpy_stream() -> Any:
    """Copy the state of numpy's global generator."""
    return cast(Any, np.random.get_state())[1].copy()  # noqa: NPY002 - it must be left alone


def test_no_analysis_leaves_a_trace() -> None:
    policy = dema(dropout=0.5, block="post").make_policy(*SPACES["box-box"])
    m, window = policy.model, windows("box-box", 4, 5)
    window.observations.requires_grad_()
    m.train()
    first = next(m.children())
    first.eval()  # a part that a user has frozen stays so
    modes = [module.training for module in m.modules()]
    weights = {name: value.clone() for name, value in m.state_dict().items()}
    random, rng = torch.get_rng_state(), numpy_stream()
    policy.predict(np.zeros(3, np.float32))
    m.train()
    first.eval()
    look(policy, window)
    assert [module.training for module in m.modules()] == modes
    assert all(parameter.grad is None for parameter in m.parameters())
    assert window.observations.grad is None
    assert hooks(m) == 0
    assert torch.equal(torch.get_rng_state(), random)
    assert np.array_equal(numpy_stream(), rng)
    for name, value in m.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert policy.returns_to_go is not None, "the session goes on"


def test_an_analysis_that_fails_leaves_no_trace_either() -> None:
    m = tiny()
    m.train()
    for analyse in (
        analysis.attention_matrices,
        analysis.activation_norms,
        analysis.gradient_norms,
    ):
        with pytest.raises(RuntimeError):
            analyse(m, windows("discrete-box", 2, 3))  # type: ignore[operator]
        assert hooks(m) == 0 and m.training


def hooks(m: torch.nn.Module) -> int:
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    found: list[OrderedDict[int, Any]] = [getattr(x, t) for x in m.modules() for t in tables]
    return sum(map(len, found))
