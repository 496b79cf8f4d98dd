"""Replay buffers of Stable-Baselines3 give the whole episodes that they still hold."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer, RolloutBuffer

from decision_policies import Trajectories
from decision_policies.errors import DatasetError
from tests.coded import LINE, PUSH, Episode, coded, packed, same


def play(buffer: ReplayBuffer, rows: list[list[Episode]], steps: int) -> None:
    """Fill a buffer as a vector of environments would: row r plays its episodes in turn."""
    episode, step = [0] * len(rows), [0] * len(rows)
    for _ in range(steps):
        now = [row[e] for row, e in zip(rows, episode, strict=True)]
        length = [len(e["rewards"]) for e in now]
        done = np.array([s + 1 == n for s, n in zip(step, length, strict=True)])
        cut = [bool(d) and e % 2 == 0 for d, e in zip(done, episode, strict=True)]
        buffer.add(
            np.stack([e["observations"][s] for e, s in zip(now, step, strict=True)]),
            np.stack([e["observations"][s + 1] for e, s in zip(now, step, strict=True)]),
            np.stack([e["actions"][s] for e, s in zip(now, step, strict=True)]),
            np.array([e["rewards"][s] for e, s in zip(now, step, strict=True)]),
            done,
            [{"TimeLimit.truncated": c} for c in cut],
        )
        step = [0 if d else s + 1 for s, d in zip(step, done, strict=True)]
        episode = [e + int(d) for e, d in zip(episode, done, strict=True)]


def row_of(row: int, lengths: tuple[int, ...]) -> list[Episode]:
    """Episodes of one environment, which no other environment has."""
    return [{**e, "observations": e["observations"] + 100 * row} for e in coded(lengths)]


LENGTHS = [(3, 5, 2, 4, 6, 3, 5), (6, 1, 1, 7, 2, 8, 3), (2, 9, 4, 1, 3, 6, 3)]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("saves_memory", [False, True])
@pytest.mark.parametrize(("size", "steps"), [(50, 20), (11, 11), (11, 20), (9, 27)])
def test_a_replay_buffer_gives_the_whole_episodes_that_it_still_holds(
    n: int, saves_memory: bool, size: int, steps: int
) -> None:
    memory = {
        "optimize_memory_usage": saves_memory,
        "handle_timeout_termination": not saves_memory,
    }
    buffer = ReplayBuffer(size * n, LINE, PUSH, device="cpu", n_envs=n, **memory)
    rows = [row_of(row, LENGTHS[row]) for row in range(n)]
    play(buffer, rows, steps)
    oldest = max(0, steps - size)
    expected: list[Episode] = []
    for row in rows:
        stops = np.cumsum([len(e["rewards"]) for e in row])
        starts = stops - [len(e["rewards"]) for e in row]
        overwritten = 0 if size > steps else oldest + 1  # a start that cannot be told from a middle
        first = next(s for s in [*starts, steps] if s >= overwritten)
        expected += [
            e
            for e, start, stop in zip(row, starts, stops, strict=True)
            if start >= first and stop <= steps
        ]
    found = Trajectories.from_sb3(buffer)
    same(found, packed(expected), finals=not saves_memory)


def test_incomplete_episodes_of_a_buffer_are_kept_if_wanted() -> None:
    buffer = ReplayBuffer(11, LINE, PUSH, device="cpu")
    play(buffer, [row_of(0, LENGTHS[0])], 20)
    kept = Trajectories.from_sb3(buffer, keep_incomplete=True)
    assert kept.n_steps == 11
    assert kept.observations[:, 0].tolist() == [2, *[3] * 4, *[4] * 6]
    other = ReplayBuffer(3, LINE, PUSH, device="cpu")
    play(other, [row_of(0, (9,))], 3)
    with pytest.raises(DatasetError, match="3 steps of 1 environments hold no complete episode"):
        Trajectories.from_sb3(other)


def test_an_episode_that_a_second_learn_interrupts_is_left_out() -> None:
    buffer = ReplayBuffer(50, LINE, PUSH, device="cpu")
    play(buffer, [row_of(0, (3, 6))], 7)  # the second episode is broken off after 4 steps
    play(buffer, [row_of(1, (5,))], 5)
    same(Trajectories.from_sb3(buffer), packed([*row_of(0, (3,)), *row_of(1, (5,))]))


def test_dict_and_discrete_buffers_keep_their_spaces() -> None:
    space = spaces.Dict({"at": LINE, "mode": spaces.Discrete(3)})
    buffer = DictReplayBuffer(20, space, spaces.Discrete(4), device="cpu", n_envs=2)
    for step in range(6):
        now, following = (
            {"at": np.full((2, 2), float(s), np.float32), "mode": np.array([s % 3, 2])}
            for s in (step, step + 1)
        )
        done = np.full(2, step == 5)
        buffer.add(now, following, np.array([step % 4, 3]), np.ones(2), done, [{}, {}])
    data = Trajectories.from_sb3(buffer)
    assert data.lengths.tolist() == [6, 6]
    assert data.actions.tolist() == [0, 1, 2, 3, 0, 1, *[3] * 6]
    assert data.observations[:, :2].tolist() == [[s, s] for s in range(6)] * 2
    assert data.observations[:6, 2:].argmax(1).tolist() == [0, 1, 2, 0, 1, 2]


def test_actions_of_a_real_agent_are_scaled_back_to_what_the_environment_took() -> None:
    agent = SAC("MlpPolicy", "Pendulum-v1", learning_starts=1000, seed=0, device="cpu")
    agent.learn(450)
    assert agent.replay_buffer is not None
    data = Trajectories.from_sb3(agent.replay_buffer)
    assert data.lengths.tolist() == [200, 200]
    assert np.abs(data.actions).max() > 1.9
    cos, sin, speed = data.observations.T
    cost = np.arctan2(sin, cos) ** 2 + 0.1 * speed**2 + 0.001 * data.actions[:, 0] ** 2
    assert data.rewards == pytest.approx(-cost, abs=1e-4)
    unscaled = Trajectories.from_sb3(agent.replay_buffer, scaled_actions=False)
    assert unscaled.actions == pytest.approx(data.actions / 2, abs=1e-6)
    agent.replay_buffer.actions *= 2
    with pytest.raises(DatasetError, match=r"reach 1.99\d*, so they are not scaled"):
        Trajectories.from_sb3(agent.replay_buffer)


def test_what_is_no_replay_buffer_is_refused() -> None:
    rollout = RolloutBuffer(10, LINE, PUSH, device="cpu")
    with pytest.raises(DatasetError, match="a rollout buffer cannot be learnt from"):
        Trajectories.from_sb3(rollout)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"got dict.*model.replay_buffer"):
        Trajectories.from_sb3({})  # type: ignore[arg-type]
