"""Bad data and bad hyper-parameters: the place and the cure are named, and nothing is learnt."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from decision_policies import DeMa, Trajectories
from decision_policies.errors import (
    DatasetError,
    TrainingDivergedError,
    UnsupportedSpaceError,
)
from tests.fixtures import (
    BOX_ACTION,
    BOX_OBSERVATION,
    tiny_algorithm,
    tiny_episodes,
    tiny_spaces,
    tiny_trajectories,
    trained,
    write_minari,
)

Episodes = list[dict[str, Any]]


def put(field: str, value: Any, episode: int = 3, step: int | None = None) -> Callable[..., None]:
    """Spoil a field of an episode, or one step of it."""

    def spoil(episodes: Episodes) -> None:
        if step is None:
            episodes[episode][field] = value
        else:
            episodes[episode][field] = np.array(episodes[episode][field], np.float64)
            episodes[episode][field][step] = value

    return spoil


def cut(field: str, count: int) -> Callable[[Episodes], None]:
    def spoil(episodes: Episodes) -> None:
        episodes[1][field] = episodes[1][field][:count]

    return spoil


def empty(episodes: Episodes) -> None:
    episodes[2] = {name: values[:0] for name, values in episodes[2].items()}


BOX: dict[str, tuple[Callable[[Episodes], Any], str]] = {
    "no episodes": (lambda e: e.clear(), "no episode; at least one"),
    "ragged rewards": (cut("rewards", 4), "episode 1 is ragged: 6 .* 5 actions, 4 rewards"),
    "ragged actions": (cut("actions", 3), "episode 1 is ragged: .* 3 actions"),
    "ragged observations": (cut("observations", 4), "episode 1 is ragged: 4 observations"),
    "empty": (empty, "episode 2 is empty; leave it out"),
    "nan": (put("observations", np.nan, 3, 7), "episode 3, step 7: observations hold nan"),
    "inf": (put("actions", np.inf, 3, 7), "episode 3, step 7: actions hold inf"),
    "nan reward": (put("rewards", np.nan, 3, 7), "episode 3, step 7: rewards hold nan"),
    "overflow": (put("rewards", 1e300, 3, 7), "episode 3, step 0: .*float32"),
    "overflow there": (put("observations", -1e39, 3, 7), "episode 3, step 7: .*float32"),
    "shape": (put("observations", np.ones((9, 4))), r"episode 3: observations .*\(4,\).*\(3,\)"),
    "action shape": (put("actions", np.ones(8)), r"episode 3: actions have shape \(\) a step"),
    "reward shape": (put("rewards", np.ones((8, 2))), "episode 3: rewards must be one number"),
    "strings": (put("actions", ["left"] * 8), "episode 3: actions must be .*list of dtype <U4"),
    "objects": (put("rewards", [None] * 8), "episode 3: rewards must be an array of numbers"),
    "number": (put("rewards", 1.0), "episode 3: rewards must be an array.*float"),
    "uneven": (put("actions", [[1.0, 2.0], [1.0]]), "episode 3: actions are no regular array"),
    "no values": (
        put("actions", torch.ones(8, 2, device="meta")),
        "episode 3: actions are no regular array: .*meta",
    ),
    "missing": (lambda e: e[3].pop("rewards"), "episode 3 has no 'rewards'; it has"),
    "attribute": (
        lambda e: e.__setitem__(0, SimpleNamespace(rewards=[1.0])),  # type: ignore[call-overload]
        "episode 0, a SimpleNamespace, has no 'actions'",
    ),
}
DISCRETE: dict[str, tuple[Callable[[Episodes], Any], str]] = {
    "float": (put("actions", np.ones(8)), "episode 3: actions are float64.*needs integers"),
    "range": (
        put("actions", np.array([0, 1, 2, 0, 1, 3, 3, 0])),
        r"episode 3, step 5: actions hold 3, outside 0 to 2 \(2 such",
    ),
    "negative": (put("observations", np.arange(9) - 6), "episode 3, step 0: .* -6, outside 0 to 3"),
}


@pytest.mark.parametrize(
    ("discrete", "name"), [(False, n) for n in BOX] + [(True, n) for n in DISCRETE]
)
def test_a_faulty_episode_is_named(discrete: bool, name: str) -> None:
    spoil, message = (DISCRETE if discrete else BOX)[name]
    episodes: Episodes = list(tiny_episodes(discrete))
    Trajectories.from_episodes(episodes, *tiny_spaces(discrete))
    spoil(episodes)
    with pytest.raises(DatasetError, match=message):
        Trajectories.from_episodes(episodes, *tiny_spaces(discrete))


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0])
def test_a_frame_that_a_cast_would_change_is_refused(value: float) -> None:
    frames = np.zeros((4, 1, 36, 36))
    frames[2, 0, 5, 5] = value
    episode = {"observations": frames, "actions": np.zeros((3, 2)), "rewards": np.zeros(3)}
    space = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    with pytest.raises(DatasetError, match=f"episode 0, step 2: .* {value}.*no pixel.*0 to 255"):
        Trajectories.from_episodes([episode], space, BOX_ACTION)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Sequence(BOX_OBSERVATION),
        spaces.Discrete(1 << 25),
        spaces.MultiDiscrete([2, 3], start=[0, 1 << 25]),
    ],
)
def test_spaces_that_cannot_be_packed_are_refused(space: spaces.Space[Any]) -> None:
    episodes = tiny_episodes(False)
    for pair in ((space, BOX_ACTION), (BOX_OBSERVATION, space)):
        with pytest.raises(UnsupportedSpaceError, match=r"not supported: it|tell apart"):
            Trajectories.from_episodes(episodes, *pair)


def test_learn_says_how_to_pack_a_list_of_episodes() -> None:
    algorithm = tiny_algorithm()
    with pytest.raises(DatasetError, match=r"given a list.*Trajectories.from_episodes\("):
        algorithm.learn(tiny_episodes(False))
    with pytest.raises(DatasetError, match=r"Minari id, a path object or .*got int"):
        algorithm.learn(7)
    assert algorithm.policy is None


@pytest.fixture
def minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def test_a_minari_id_needs_a_version_and_close_ones_are_named(minari_folder: Path) -> None:
    write_minari("tiny/box/random-v0")
    algorithm = tiny_algorithm()
    with pytest.raises(DatasetError, match=r"no Minari id: .*-v0.*mean 'tiny/box/random-v0'\?"):
        algorithm.learn("tiny/box/random")
    assert algorithm.policy is None
    assert algorithm.learn("tiny/box/random-v0", 1).source.dataset == "tiny/box/random-v0"


def test_a_missing_minari_dataset_fails_at_once_and_names_close_ones(
    minari_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minari("tiny/box/random-v0")
    calls: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: calls.extend(a))
    with pytest.raises(DatasetError, match=r"no dataset 'tiny/box/randon-v0' here.*/random-v0'\?"):
        tiny_algorithm().learn("tiny/box/randon-v0")
    assert calls == [], "off line, no host is looked up"
    with pytest.raises(DatasetError, match=f"no Minari dataset in {minari_folder}.*metadata.json"):
        tiny_algorithm().learn(minari_folder)


def test_a_damaged_minari_dataset_is_not_called_missing(minari_folder: Path) -> None:
    write_minari("tiny/box/random-v0")
    data = minari_folder / "tiny" / "box" / "random-v0" / "data"
    (data / "main_data.hdf5").write_bytes(b"no hdf5")
    with pytest.raises(DatasetError, match=r"'tiny/box/random-v0' cannot be (opened|read)"):
        tiny_algorithm().learn("tiny/box/random-v0")


def test_data_of_other_spaces_than_the_policy_are_refused(tmp_path: Path) -> None:
    trained().save(tmp_path / "saved")
    algorithm = DeMa.load(tmp_path / "saved")
    assert algorithm.policy is not None
    before = [p.clone() for p in algorithm.policy.model.parameters()]
    with pytest.raises(ValueError, match=r"observation space is Discrete\(4\), but .* Box"):
        algorithm.learn(tiny_trajectories(True), 1)
    assert all(map(torch.equal, before, algorithm.policy.model.parameters()))
    assert algorithm.learn(tiny_trajectories(False), 4, reset_num_timesteps=False)
    assert algorithm.num_timesteps == 7


SETTINGS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "misspelt": ({"d_modl": 16}, TypeError, "d_modl"),
    "bool for int": ({"d_model": True}, TypeError, r"DeMa\(d_model=...\) must be int, got True"),
    "float for int": ({"n_layers": 2.0}, TypeError, r"n_layers.* must be int, got 2.0"),
    "string for int": ({"batch_size": "8"}, TypeError, r"batch_size.* must be int, got '8'"),
    "none for int": ({"warmup_steps": None}, TypeError, "warmup_steps.* must be int"),
    "bool or none": ({"target_return": True}, TypeError, "target_return.* float or str or None"),
    "word": ({"target_return": "9"}, ValueError, "target_return='9' asks for nothing"),
    "too small": ({"context_length": 0}, ValueError, "context_length.* from 1 to 16384, got 0"),
    "too large": ({"d_model": 9000}, ValueError, "d_model.* from 1 to 8192, got 9000"),
    "negative": ({"seed": -1}, ValueError, "seed.* from 0 to .*got -1"),
    "nan": ({"dropout": float("nan")}, ValueError, "dropout.* from 0.0 to 0.99, got nan"),
    "nan target": ({"target_return": float("nan")}, ValueError, "target_return.* finite, got nan"),
    "inf norm": ({"max_grad_norm": float("inf")}, ValueError, "max_grad_norm.* finite, got inf"),
    "huge": ({"target_return": 10**400}, ValueError, "target_return.* must be finite"),
    "choice": ({"layout": "LBD3"}, ValueError, "layout.* one of 'B3LD', 'BL3D'; got 'LBD3'"),
    "mode": ({"inference": "fast"}, ValueError, "inference.* one of 'window', 'recurrent'"),
    "rate": ({"learning_rate": -1e-3}, ValueError, "learning_rate must be a positive.*-0.001"),
    "zero rate": ({"learning_rate": 0}, ValueError, "learning_rate must be a positive"),
    "rate name": ({"learning_rate": "lin_x"}, ValueError, "'lin_<rate>'.*got 'lin_x'"),
    "rate sign": ({"learning_rate": "cos_-1e-3"}, ValueError, "got 'cos_-1e-3'"),
    "rate size": ({"learning_rate": "lin_1e999"}, ValueError, "got 'lin_1e999'"),
    "rate number": ({"learning_rate": "lin_1e-"}, ValueError, "got 'lin_1e-'"),
    "rate bool": ({"learning_rate": True}, TypeError, "learning_rate.* got True"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_hyper_parameter_is_named(name: str) -> None:
    changes, error, message = SETTINGS[name]
    with pytest.raises(error, match=message):
        DeMa(**changes)


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_a_poisoned_weight_is_rolled_back_and_training_can_go_on(kind: str) -> None:
    algorithm = tiny_algorithm(kind=kind, learning_rate=1e-2)
    data = tiny_trajectories(False)
    seen: list[list[torch.Tensor]] = []

    def poison(scope: dict[str, Any], _: dict[str, Any]) -> bool:
        weights = list(algorithm.policy.model.parameters())  # type: ignore[union-attr]
        seen.append([w.detach().clone() for w in weights])
        if len(seen) == 5:
            with torch.no_grad():
                weights[3].view(-1)[0] = float("nan")
        return True

    with pytest.raises(TrainingDivergedError, match=r"at update 5: .*not finite .*learning_rate"):
        algorithm.learn(data, 100, callback=poison)
    assert algorithm.policy is not None
    assert algorithm.num_timesteps == len(seen) == 5
    assert all(map(torch.equal, algorithm.policy.model.parameters(), seen[3]))
    algorithm.learn(data, 3, reset_num_timesteps=False)
    assert all(bool(p.isfinite().all()) for p in algorithm.policy.model.parameters())


def test_a_rate_that_blows_the_last_update_up_is_not_left_in_the_weights() -> None:
    algorithm = tiny_algorithm(learning_rate=1e39, warmup_steps=0)
    with pytest.raises(TrainingDivergedError, match="not finite"):
        algorithm.learn(tiny_trajectories(False), 1)
    assert algorithm.policy is not None
    assert all(bool(p.isfinite().all()) for p in algorithm.policy.model.parameters())


@pytest.mark.parametrize("name", ["cartpole/mixd-v0", "cartpole/mixed"])
def test_a_misspelt_id_of_a_shipped_set_is_helped(name: str) -> None:
    with pytest.raises(DatasetError, match="did you mean 'cartpole/mixed-v0'"):
        Trajectories.from_minari(name)
