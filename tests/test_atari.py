"""make_atari with the games, and what is said without them."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from decision_policies import evaluate_policy
from decision_policies.envs import make_atari
from tests.fixtures import tiny_algorithm
from tests.test_examples import run


@pytest.mark.parametrize("module", ["ale_py", "cv2"])
def test_what_is_missing_is_named_with_the_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ale_py", "cv2"):
        monkeypatch.setitem(sys.modules, name, None if name == module else sys)
    with pytest.raises(ImportError, match=rf"{module}.*pip install 'decision-policies\[atari\]'"):
        make_atari("breakout")


def test_the_example_learns_from_images_without_any_game(tmp_path: Path) -> None:
    printed = run("06_atari.py", tmp_path, "--updates", "80")
    assert "logged: 129.2 on average, 500.0 at best" in printed
    obtained = re.search(r"obtained: ([\d.]+) \+/- [\d.]+ over 10 episodes", printed)
    assert obtained
    assert float(obtained[1]) > 45  # twice what random play obtains


@pytest.mark.parametrize("name", ["space_invaders", "SpaceInvaders", "Space_invaders"])
def test_games_are_found_by_either_spelling(name: str) -> None:
    env = make_atari(name, frame_stack=2)
    assert env.observation_space == spaces.Box(0, 255, (2, 84, 84), np.uint8)
    assert env.action_space == spaces.Discrete(6)
    assert env.spec is not None and env.spec.kwargs["repeat_action_probability"] == 0.0


def test_an_unknown_game_is_named_with_similar_ones() -> None:
    with pytest.raises(ValueError, match="no Atari game 'brekout'; did you mean 'breakout'"):
        make_atari("brekout")
    with pytest.raises(ValueError, match=r"no Atari game 'xqzw'; there are \d+ games"):
        make_atari("xqzw")


def test_an_episode_is_a_whole_game_with_raw_scores_and_no_help() -> None:
    env = make_atari("breakout")
    observation, info = env.reset(seed=1)
    assert observation.shape == (4, 84, 84) and observation.dtype == np.uint8
    assert (observation == observation[0]).all()
    still, *_ = env.step(0)
    assert np.array_equal(still[3], still[2])  # nobody has fired, so no ball flies
    lives, done = [info["lives"]], False
    while not done:
        *_, terminated, truncated, info = env.step(1)
        done = terminated or truncated
        lives.append(info["lives"])
    assert sorted(set(lives)) == [0, 1, 2, 3, 4, 5]


def test_equal_seeds_are_equal_games() -> None:
    starts = []
    for seed in (7, 7, 8):
        env = make_atari("seaquest", seed=seed)
        frames = [env.reset()[0]]
        frames += [env.step(env.action_space.sample())[0] for _ in range(20)]
        starts.append(np.stack(frames))
    assert np.array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])


def test_a_policy_is_evaluated_on_a_game() -> None:
    policy = tiny_algorithm(n_layers=1).make_policy(
        spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(4), clip_rewards=True
    )
    result = evaluate_policy(policy, partial(make_atari, "breakout"), 2, deterministic=False)
    assert (result.lengths > 20).all() and (result.returns >= 0).all()
