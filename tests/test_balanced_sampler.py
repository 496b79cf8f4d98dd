"""BalancedSampler: good and poor episodes equally often at each stretch, stretches as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from decision_policies import DeMa, Trajectories
from decision_policies.data import BalancedSampler, WindowSampler

BOX = Box(-1.0, 1.0, (1,), np.float32)
POOR, GOOD = 30, 2


def lopsided() -> Trajectories:
    """Thirty episodes of 40 steps that earn nothing, two of 120 that earn 1 a step."""
    episodes = [
        {
            "observations": np.full((length, 1), paid),
            "actions": np.zeros((length, 1)),
            "rewards": np.full(length, paid),
        }
        for length, paid in [(40, 0.0)] * POOR + [(120, 1.0)] * GOOD
    ]
    return Trajectories.from_episodes(episodes, BOX, BOX)


def last_steps(sampler: WindowSampler) -> tuple[torch.Tensor, torch.Tensor]:
    """Time of each window's last step, and whether its episode is a good one."""
    window = sampler.sample()
    last = window.mask.sum(1) - 1
    rows = torch.arange(len(last))
    return window.timesteps[rows, last], window.observations[rows, last, 0] > 0.5


def test_classes_are_even_within_a_stretch_and_stretches_stay_as_frequent() -> None:
    times, good = last_steps(BalancedSampler(lopsided(), 1, 40_000, seed=0))
    plain, rare = last_steps(WindowSampler(lopsided(), 1, 40_000, seed=0))
    early = times < BalancedSampler.STRETCH
    share = GOOD * BalancedSampler.STRETCH / (POOR * 40 + GOOD * BalancedSampler.STRETCH)
    assert float(rare[plain < BalancedSampler.STRETCH].float().mean()) == pytest.approx(
        share, abs=0.01
    )
    assert float(good[early].float().mean()) == pytest.approx(0.5, abs=0.01)
    assert bool(good[~early].all())  # only good episodes last so long
    steps = POOR * 40 + GOOD * 120
    expected = (POOR * 40 + GOOD * BalancedSampler.STRETCH) / steps
    assert float(early.float().mean()) == pytest.approx(expected, abs=0.01)


def test_windows_end_at_the_step_that_was_drawn_or_begin_with_their_episode() -> None:
    sampler = BalancedSampler(lopsided(), 8, 2000, seed=0)
    window = sampler.sample()
    assert bool(window.mask.all())
    assert bool((window.timesteps.diff(dim=1) == 1).all())
    assert bool((window.timesteps[:, 0] == 0).any())


def test_episodes_of_equal_return_are_drawn_as_they_come() -> None:
    data = lopsided()
    same = Trajectories.from_episodes(
        [
            {
                "observations": np.full((n, 1), n),
                "actions": np.zeros((n, 1)),
                "rewards": np.zeros(n),
            }
            for n in (10, 30)
        ],
        Box(0.0, 99.0, (1,), np.float32),
        data.action_space,
    )
    window = BalancedSampler(same, 1, 20_000, seed=0).sample()
    assert float((window.observations == 30).float().mean()) == pytest.approx(0.75, abs=0.02)


def test_it_repeats_for_a_seed_and_from_a_position() -> None:
    one, two = (BalancedSampler(lopsided(), 4, 16, seed=5) for _ in range(2))
    assert torch.equal(one.sample().timesteps, two.sample().timesteps)
    position = one.state_dict()
    after = one.sample()
    one.load_state_dict(position)
    assert torch.equal(one.sample().timesteps, after.timesteps)


def test_a_system_that_learns_whole_episodes_cannot_draw_balanced_windows() -> None:
    with pytest.raises(ValueError, match="balance_returns draws windows, this system whole"):
        DeMa(kind="rnn", balance_returns=True)


def test_learn_draws_as_it_is_told_and_changes_when_told_otherwise() -> None:
    algorithm = DeMa(d_model=8, n_layers=1, balance_returns=True).learn(lopsided(), 1)
    assert algorithm._training is not None
    assert type(algorithm._training.sampler) is BalancedSampler
    algorithm.balance_returns = False
    algorithm.learn(lopsided(), 1, reset_num_timesteps=False)
    assert type(algorithm._training.sampler) is WindowSampler


def test_there_are_eight_classes_of_equal_width() -> None:
    episodes = [
        {
            "observations": np.full((10, 1), earned),
            "actions": np.zeros((10, 1)),
            "rewards": np.full(10, earned),
        }
        for earned in [0.0] * 30 + [0.3] * 5 + [0.6] * 2 + [1.0]
    ]
    data = Trajectories.from_episodes(episodes, BOX, BOX)
    seen = BalancedSampler(data, 1, 40_000, seed=0).sample().observations
    for value in (0.0, 0.3, 0.6, 1.0):
        share = float(torch.isclose(seen, torch.tensor(value)).float().mean())
        assert share == pytest.approx(0.25, abs=0.01)
