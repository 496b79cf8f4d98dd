"""Data that are kept on a device are gathered there: seen on the meta device, without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from decision_policies import Trajectories
from decision_policies.data import Histories, HistorySampler, SortedEpisodesSampler
from decision_policies.data.subgoals import SubgoalRule
from decision_policies.data.windows import BalancedSampler, Sampler, SegmentSampler, WindowSampler
from tests.fixtures import tiny_episodes

SEEN = spaces.Box(-np.inf, np.inf, (3,), np.float32)
DONE = spaces.Box(-2.0, 3.0, (2,), np.float32)
PICTURES = spaces.Box(0, 255, (36, 36), np.uint8)


def vectors(lengths: tuple[int, ...] = (9, 4, 7, 3)) -> Trajectories:
    return Trajectories.from_episodes(tiny_episodes(False, lengths=lengths), SEEN, DONE)


def pictures() -> Trajectories:
    rng = np.random.default_rng(0)
    episodes = [
        {
            "observations": rng.integers(256, size=(n + 1, 36, 36), dtype=np.uint8),
            "actions": rng.integers(3, size=n),
            "rewards": np.ones(n),
        }
        for n in (6, 9)
    ]
    data = Trajectories.from_episodes(episodes, PICTURES, spaces.Discrete(3))
    return replace(data.stack_frames(4), image_shift=2)


def lives(lengths: tuple[int, ...]) -> Histories:
    return Histories.from_episodes(vectors(lengths), [1, 1, 1, 2, 2, 2])


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "windows": lambda: WindowSampler(vectors(), 5, 4, seed=0),
    "constant returns": lambda: WindowSampler(vectors(), 5, 4, seed=0, return_mode="constant"),
    "balanced": lambda: BalancedSampler(vectors(), 5, 4, seed=0),
    "segments": lambda: SegmentSampler(vectors(), 3, 4, seed=0),
    "pictures": lambda: WindowSampler(pictures(), 5, 4, seed=0),
    "histories": lambda: HistorySampler(lives((4, 2, 5, 3, 3, 4)), 6, 4, seed=0),
    "even contexts": lambda: SortedEpisodesSampler(lives((4,) * 6), 2, 4, seed=0),
    "ragged contexts": lambda: SortedEpisodesSampler(
        lives((4, 2, 5, 3, 3, 4)), 2, 4, seed=0, subgoals=SubgoalRule(2)
    ),
}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_batches_are_gathered_where_the_data_are(kind: str) -> None:
    here, there = SAMPLERS[kind](), SAMPLERS[kind]()
    there.keep_on(torch.device("meta"))
    for _ in range(3):
        tensors, moved = here.sample().tensors(), there.sample().tensors()
        assert moved.keys() == tensors.keys()
        for name, value in moved.items():
            assert value.device.type == ("cpu" if name in ("mask", "starts") else "meta"), name
            assert (value.shape, value.dtype) == (tensors[name].shape, tensors[name].dtype), name


@pytest.mark.parametrize("kind", SAMPLERS)
def test_keeping_data_where_they_are_changes_no_batch(kind: str) -> None:
    left, right = SAMPLERS[kind](), SAMPLERS[kind]()
    right.keep_on(torch.device("cpu"))
    tensors, same = left.sample().tensors(), right.sample().tensors()
    assert all(torch.equal(tensors[name], same[name]) for name in tensors)


@pytest.mark.parametrize(("free", "kept"), [(10**9, True), (100, False)])
def test_data_go_to_a_gpu_only_where_they_leave_it_room(
    free: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.device] = []

    def move(self: torch.Tensor, device: torch.device) -> torch.Tensor:
        asked.append(device)
        return self

    sampler = SAMPLERS["windows"]()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    monkeypatch.setattr(torch.Tensor, "to", move)
    sampler.keep_on(torch.device("cuda"))
    assert bool(asked) == kept
