"""Images: stacks of frames by index, clipped rewards, and the encoder that reads the stacks."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from numpy.typing import NDArray
from torch import nn

from decision_policies import SequencePolicy, Trajectories, evaluate_policy, load
from decision_policies.data import SegmentSampler, WindowSampler, cache
from decision_policies.errors import CheckpointError, DatasetError, UnsupportedSpaceError
from decision_policies.models.encoders import ImageEncoder
from decision_policies.spec import SequenceSpec
from tests.fixtures import tiny_algorithm, tiny_trajectories

SHAPES = [(36, 40), (36, 40, 1), (1, 36, 40)]
LENGTHS = (9, 1, 6, 2, 12)


class Film(gym.Env[NDArray[np.uint8], np.int64]):
    """Shows given frames, and pays 3, then -3, and so on, whatever is done."""

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self.frames, self.time = frames, 0
        self.observation_space = spaces.Box(0, 255, frames.shape[1:], np.uint8)
        self.action_space = spaces.Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self.frames[0], {}

    def step(self, action: np.int64) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        self.time += 1
        reward = 3.0 if self.time % 3 else -0.5
        return self.frames[self.time], reward, self.time == len(self.frames) - 1, False, {}


def films(shape: tuple[int, ...] = SHAPES[0], seed: int = 0) -> list[dict[str, NDArray[Any]]]:
    """Episodes of random frames, played."""
    rng = np.random.default_rng(seed)
    episodes: list[dict[str, NDArray[Any]]] = []
    for length in LENGTHS:
        env = Film(rng.integers(0, 256, (length + 1, *shape), np.uint8))
        env.reset()
        actions = rng.integers(3, size=length)
        rewards = np.array([env.step(action)[1] for action in actions])
        episodes.append({"observations": env.frames, "actions": actions, "rewards": rewards})
    return episodes


def trajectories(shape: tuple[int, ...] = SHAPES[0]) -> Trajectories:
    """Pack the films."""
    space = spaces.Box(0, 255, shape, np.uint8)
    return Trajectories.from_episodes(films(shape), space, spaces.Discrete(3))


def reference(shape: tuple[int, ...], n: int) -> NDArray[np.uint8]:
    """Stacks of all steps as gymnasium's wrapper makes them, (N, n, 36, 40)."""
    stacks = []
    for episode in films(shape):
        env = FrameStackObservation(Film(episode["observations"]), n)
        stacks.append(env.reset()[0])
        stacks += [env.step(action)[0] for action in episode["actions"][:-1]]
    return np.stack(stacks).reshape(-1, n, 36, 40)


def policy(clip_rewards: bool = True, **changes: Any) -> SequencePolicy:
    """Make a tiny untrained policy over stacks of two frames."""
    space = spaces.Box(0, 255, (2, 36, 40), np.uint8)
    algorithm = tiny_algorithm(n_layers=1, **changes)
    return algorithm.make_policy(
        space, spaces.Discrete(3), target_return=9.0, clip_rewards=clip_rewards
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_stacks_are_those_of_gymnasiums_wrapper(shape: tuple[int, ...], n: int) -> None:
    stacked = trajectories(shape).stack_frames(n)
    expected = reference(shape, n)
    assert stacked.observation_space == spaces.Box(0, 255, (n, 36, 40), np.uint8)
    assert np.array_equal(stacked.observations, expected)
    assert stacked.observations.dtype == np.uint8
    for kind, seed in ((WindowSampler, 0), (SegmentSampler, 1)):
        sampler = kind(stacked, 5, 32, seed)
        seen = set()
        for _ in range(6):
            window = sampler.sample()
            rows = np.flatnonzero(window.mask.reshape(-1))
            found = window.observations.flatten(0, 1).numpy()[rows]
            # A step is known by its timestep and its return-to-go.
            keys = torch.stack((window.timesteps.float(), window.returns_to_go), -1)
            steps = [identify(stacked, key) for key in keys.flatten(0, 1).numpy()[rows]]
            assert np.array_equal(found, expected[steps])
            seen |= set(steps)
        assert seen == set(range(stacked.n_steps))


def identify(data: Trajectories, key: NDArray[np.float32]) -> int:
    """Find the step of a timestep and a return-to-go."""
    places = np.flatnonzero((data.timesteps == key[0]) & (data.returns_to_go == key[1]))
    assert len(places) == 1
    return int(places[0])


def test_films_are_told_apart_by_timestep_and_return() -> None:
    data = trajectories()
    keys = {(t, r) for t, r in zip(data.timesteps, data.returns_to_go, strict=True)}
    assert len(keys) == data.n_steps == sum(LENGTHS)


def test_frames_are_held_once_and_read_once() -> None:
    data = trajectories()
    stacked = data.stack_frames(4)
    assert data.images is not None and stacked.images is not None
    assert stacked.images.shape == (data.n_steps, 36, 40)
    assert np.shares_memory(stacked.images, data.images)
    observations = WindowSampler(stacked, 6, 10, 0).sample().observations
    assert observations.shape == (10, 6, 4, 36, 40)
    assert observations.untyped_storage().nbytes() == 10 * (6 + 3) * 36 * 40


def test_stacks_survive_the_cache_and_the_choice_of_episodes(tmp_path: Path) -> None:
    data = trajectories()
    parts = itertools.starmap(slice, itertools.pairwise(data.offsets))
    final = np.empty(0, np.float32)
    pieces = ((data.rows[part], data.observations[part], final) for part in parts)
    assert cache.write(tmp_path / "kept", pieces)
    kept = cache.read(tmp_path / "kept", data.observation_space, data.action_space, data.source)
    assert kept is not None
    expected = reference(SHAPES[0], 3)
    assert np.array_equal(kept.stack_frames(3).observations, expected)
    best, first = kept.stack_frames(3).best(0.5), int(np.argmax(data.returns))
    seen = expected[data.offsets[first] : data.offsets[first + 1]]
    assert np.array_equal(best.observations[: best.lengths[0]], seen)


def test_what_cannot_be_stacked_is_named() -> None:
    with pytest.raises(DatasetError, match=r"no single frames to stack.*\(1, H, W\)"):
        tiny_trajectories(False).stack_frames(4)
    with pytest.raises(DatasetError, match="already stacked, 2 at a time"):
        trajectories().stack_frames(2).stack_frames(2)
    for n in (0, 2.0, True):
        with pytest.raises(ValueError, match="whole number of at least 1"):
            trajectories().stack_frames(n)  # type: ignore[arg-type]
    colours = trajectories((3, 36, 40))
    with pytest.raises(DatasetError, match="no single frames"):
        colours.stack_frames(4)


def test_shifted_images_are_whole_pictures_moved_over_repeated_borders() -> None:
    data = trajectories().stack_frames(2)
    moved = data.shift_images(3)
    assert moved.source.digest != data.source.digest
    plain, sampler = WindowSampler(data, 4, 8, 0), WindowSampler(moved, 4, 8, 0)
    moves = set()
    for _ in range(4):
        # The generator's draws: the windows, and then, if there are any, their moves.
        plain.load_state_dict(sampler.state_dict())
        still, window = plain.sample(), sampler.sample()
        assert torch.equal(window.actions, still.actions)
        for before, after in zip(still.observations, window.observations, strict=True):
            padded = np.pad(before.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), "edge")
            places = [
                (y, x)
                for y in range(7)
                for x in range(7)
                if np.array_equal(padded[..., y : y + 36, x : x + 40], after.numpy())
            ]
            assert len(places) == 1  # one for all steps and all frames of the window
            moves |= set(places)
    assert len(moves) > 15
    assert {y for y, _ in moves} == {x for _, x in moves} == set(range(7))


def test_shifts_go_on_where_they_were() -> None:
    moved = trajectories().stack_frames(2).shift_images(2)
    one, other = WindowSampler(moved, 4, 8, 0), WindowSampler(moved, 4, 8, 1)
    one.sample()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.sample().observations, other.sample().observations)


def test_images_of_several_channels_are_shifted_too() -> None:
    moved = trajectories((3, 36, 40)).shift_images(2)
    observations = WindowSampler(moved, 4, 8, 0).sample().observations
    assert observations.shape == (8, 4, 3, 36, 40)


def test_what_cannot_be_shifted_is_named() -> None:
    with pytest.raises(DatasetError, match="no images to shift"):
        tiny_trajectories(False).shift_images(2)
    with pytest.raises(ValueError, match="at least 0 pixels, got -1"):
        trajectories().shift_images(-1)


@pytest.mark.parametrize("shape", [(36, 36), (84, 84)], ids=str)
def test_learning_from_single_frames_names_the_cure(shape: tuple[int, ...]) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    with pytest.raises(UnsupportedSpaceError, match=r"stack_frames\(4\).*FrameStackObservation"):
        tiny_algorithm().make_policy(space, spaces.Discrete(2))


@pytest.mark.parametrize("shape", [(4, 35, 84), (4, 84, 35)], ids=str)
def test_images_that_the_convolutions_cannot_take_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedSpaceError, match="at least 36 x 36 pixels, unlike"):
        ImageEncoder(8, spaces.Box(0, 255, shape, np.uint8))


def test_the_least_image_is_one_number_high_and_wide() -> None:
    encoder = ImageEncoder(8, spaces.Box(0, 255, (4, 36, 36), np.uint8))
    assert encoder.linear.in_features == 64
    assert ImageEncoder(8, spaces.Box(0, 255, (4, 84, 84), np.uint8)).linear.in_features == 3136


def test_a_small_table_of_bytes_is_a_vector_as_ever() -> None:
    for shape in ((7, 7), (7, 7, 3)):
        space = spaces.Box(0, 255, shape, np.uint8)
        policy = tiny_algorithm().make_policy(space, spaces.Discrete(2))
        assert policy.predict(np.zeros(shape))[0] in (0, 1)


def test_the_encoder_is_the_textbook_one() -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(8, spaces.Box(0, 255, (4, 44, 52), np.uint8))
    convolutions = [m for m in encoder.convolutions if isinstance(m, nn.Conv2d)]
    sizes = [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions]
    assert sizes == [(4, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)]
    frames = torch.randint(0, 256, (3, 8, 44, 52), dtype=torch.uint8)
    stacks = frames.unfold(1, 4, 1).movedim(-1, 2)  # overlapping views, as the sampler makes them
    x = stacks.contiguous().flatten(0, 1).float() / 255
    for convolution in convolutions:
        x = convolution(x).relu()
    expected = encoder.linear(x.flatten(1)).view(3, 5, 8)
    weights = torch.autograd.grad(expected.square().sum(), convolutions[0].weight)[0]
    for observations in (stacks, stacks.contiguous()):
        code = encoder(observations)
        assert torch.allclose(code, expected, atol=1e-5)
        found = torch.autograd.grad(code.square().sum(), convolutions[0].weight)[0]
        assert torch.allclose(found, weights, atol=1e-4, rtol=1e-4)
    assert torch.allclose(encoder(stacks[1, 2]), expected[1, 2], atol=1e-5)


def test_motion_is_learnt_from_stacks_and_not_from_single_frames() -> None:
    """Without memory, the way a bar moves can be seen in a stack only."""
    rng = np.random.default_rng(0)
    bar = np.zeros((36, 36), np.uint8)
    bar[:, :6] = 255
    episodes = []
    for action in (0, 1) * 20:
        start, speed = rng.integers(36), 4 * action - 2
        frames = np.stack([np.roll(bar, start + speed * t, 1) for t in range(7)])
        made = {"observations": frames, "actions": np.full(6, action), "rewards": np.zeros(6)}
        episodes.append(made)
    space = spaces.Box(0, 255, (36, 36), np.uint8)
    data = Trajectories.from_episodes(episodes, space, spaces.Discrete(2))
    right = {}
    for n in (1, 2):
        stacked = data.stack_frames(n)
        algorithm = tiny_algorithm(
            n_layers=1, context_length=1, inference="window", learning_rate=3e-3, batch_size=24
        ).learn(stacked, 40)
        algorithm.reset()
        moved = data.timesteps > 0
        actions, _ = algorithm.predict(stacked.observations[moved])
        right[n] = np.mean(actions == data.actions[moved])
    assert right[2] > 0.95 > 0.75 > right[1] > 0.3


def test_clipped_rewards_and_their_returns_equal_a_slow_reference() -> None:
    data = trajectories()
    rows = data.rows.copy()
    clipped = data.clip_rewards()
    for start, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        rewards = np.clip(data.rewards[start:end].astype(np.float64), -1, 1)
        expected = [rewards[t:].sum() for t in range(len(rewards))]
        assert np.array_equal(clipped.rewards[start:end], rewards.astype(np.float32))
        assert np.allclose(clipped.returns_to_go[start:end], expected, rtol=1e-6)
    assert np.array_equal(data.rows, rows)
    assert {-0.5, 1.0} == set(clipped.rewards.tolist()) != set(data.rewards.tolist())
    assert clipped.source.digest != data.source.digest
    assert clipped.clip_rewards() is clipped


def test_a_policy_that_learnt_from_clipped_rewards_clips_what_it_observes() -> None:
    data = trajectories().stack_frames(2).clip_rewards()
    model = tiny_algorithm(n_layers=1).learn(data, 1)
    assert model.policy is not None
    assert model.policy.spec.clip_rewards
    assert model.policy.spec.target_return == pytest.approx(data.returns.max())
    frames = np.zeros((2, 2, 36, 40), np.uint8)
    model.reset(target_return=[10.0, 20.0])
    model.predict(frames)
    model.observe([7.0, -0.25])
    model.observe([-400.0, 0.5])
    model.predict(frames, reward=[0.0, 4.0])
    assert model.policy.returns_to_go is not None
    assert model.policy.returns_to_go.tolist() == [10.0, 18.75]


def test_rewards_are_left_alone_where_the_data_were() -> None:
    raw = policy(clip_rewards=False)
    raw.predict(np.zeros((2, 36, 40)))
    raw.observe(7.0)
    assert raw.returns_to_go is not None and raw.returns_to_go.tolist() == [2.0]


def test_evaluation_reports_the_raw_return() -> None:
    frames = films()[0]["observations"]
    result = evaluate_policy(policy(), lambda: FrameStackObservation(Film(frames), 2), 2)
    assert result.returns.tolist() == [6 * 3.0 - 3 * 0.5] * 2


def test_the_clip_travels_with_the_policy(tmp_path: Path) -> None:
    model = tiny_algorithm(n_layers=1).learn(trajectories().stack_frames(2).clip_rewards(), 1)
    model.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.policy is not None and loaded.policy.spec.clip_rewards
    with pytest.raises(DatasetError, match="made for clipped rewards, but these are raw"):
        loaded.learn(trajectories().stack_frames(2), 1)


def test_a_spec_whose_clip_is_no_bool_is_refused() -> None:
    good = policy().spec.to_json()
    assert SequenceSpec.from_json(good).clip_rewards
    with pytest.raises(CheckpointError, match="clip_rewards must be False or True"):
        SequenceSpec.from_json({**good, "clip_rewards": 1})


@pytest.mark.parametrize("mode", ["recurrent", "staggered"])
def test_on_images_the_ways_to_remember_agree_while_they_remember_the_same(mode: Any) -> None:
    made = policy(context_length=8)
    rng = np.random.default_rng(0)
    window, other = made.fork(inference="window"), made.fork(inference=mode)
    for _ in range(8):
        stack = rng.integers(0, 256, (3, 2, 36, 40), np.uint8)
        actions, _ = window.predict(stack, reward=1.0)
        assert np.array_equal(actions, other.predict(stack, reward=1.0)[0])
