"""Tools of Stable-Baselines3 and gymnasium, unmodified, on policies and wrapped environments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.wrappers import RecordVideo
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import (
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecVideoRecorder
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from decision_policies import DeMa, SequencePolicy
from decision_policies.laws.cases import Case
from tests.laws.cases import dema, trajectories
from tests.wanderer import Wanderer

SEED = 20


def acting() -> SequencePolicy:
    return Case(DeMa).policy("staggered", 5.0)


def wrapped(subject: SequencePolicy | DeMa, n: int = 3) -> VecEnv:
    env = subject.wrap(VecMonitor(DummyVecEnv([Wanderer] * n)))
    env.seed(SEED)
    return env


def returns_alone(row: int, episodes: int) -> list[float]:
    """Returns of a wrapped single environment's first episodes, by a loop of one's own."""
    policy, returns = acting(), []
    env = policy.wrap(Wanderer())
    for episode in range(episodes):
        observation, _ = env.reset(seed=None if episode else SEED + row)
        total, over = 0.0, False
        while not over:
            action, _ = policy.predict(observation)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


def test_evaluate_policy_over_several_environments_equals_each_alone() -> None:
    policy = acting()
    returns, lengths = evaluate_policy(
        policy, wrapped(policy), n_eval_episodes=12, return_episode_rewards=True
    )
    expected = [value for row in range(3) for value in returns_alone(row, 4)]
    assert isinstance(returns, list)
    assert isinstance(lengths, list)
    np.testing.assert_allclose(sorted(returns), sorted(expected), atol=1e-4)
    assert len(lengths) == 12


def test_evaluate_policy_may_be_called_with_another_number_of_environments() -> None:
    policy = acting()
    for n in (3, 2):
        first, _ = evaluate_policy(policy, wrapped(policy, n), n_eval_episodes=4)
        again, _ = evaluate_policy(policy, wrapped(policy, n), n_eval_episodes=4)
        assert first == again


@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")  # SB3's own
def test_callbacks_evaluate_in_several_environments_stop_and_log(tmp_path: Path) -> None:
    algorithm = dema(tensorboard_log=str(tmp_path / "board"))
    evaluation = EvalCallback(
        wrapped(algorithm),
        callback_on_new_best=StopTrainingOnRewardThreshold(-1e9, verbose=0),
        eval_freq=5,
        n_eval_episodes=6,
        log_path=str(tmp_path),
        verbose=0,
    )
    saver = EveryNTimesteps(2, CheckpointCallback(1, str(tmp_path / "steps"), "dema"))
    algorithm.learn(trajectories(), 50, callback=[evaluation, saver], log_interval=1)
    assert algorithm.num_timesteps == 5, "the threshold is passed at the first evaluation"
    assert np.load(tmp_path / "evaluations.npz")["results"].shape == (1, 6)
    saved = {path.name for path in (tmp_path / "steps").iterdir()}
    assert {"dema_2_steps.zip", "dema_4_steps.zip"} <= saved
    board = EventAccumulator(str(tmp_path / "board" / "DeMa_1")).Reload()
    tags = board.Tags()["scalars"]
    assert {"eval/mean_reward", "eval/mean_ep_length", "train/loss"} <= set(tags)
    assert [event.step for event in board.Scalars("eval/mean_reward")] == [5]


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")  # SB3 ignores it at import
def test_a_progress_bar_is_a_callback_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    dema().learn(trajectories(), 3, callback=ProgressBarCallback())
    assert "3/3" in capsys.readouterr().out


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Stand in for moviepy, which encodes videos; notes the steps left in each frame."""
    written: list[list[int]] = []

    class ImageSequenceClip:
        def __init__(self, frames: list[NDArray[np.uint8]], fps: int) -> None:
            written.append([int(frame[0, 0, 0]) for frame in frames])

        def write_videofile(self, path: str, logger: object = None) -> None:
            Path(path).touch()

    for name in ("moviepy", "moviepy.video", "moviepy.video.io"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    last: Any = ModuleType("moviepy.video.io.ImageSequenceClip")
    last.ImageSequenceClip = ImageSequenceClip
    monkeypatch.setitem(sys.modules, last.__name__, last)
    return written


@pytest.mark.parametrize("inside", [True, False])
def test_a_vec_video_recorder_stands_on_either_side(
    inside: bool, tmp_path: Path, clips: list[list[int]]
) -> None:
    policy = acting()
    bare = DummyVecEnv([lambda: Wanderer("rgb_array")])

    def recorded(env: VecEnv) -> VecEnv:
        return VecVideoRecorder(env, str(tmp_path), lambda step: step == 0, video_length=12)

    env = recorded(policy.wrap(bare)) if inside else policy.wrap(recorded(bare))
    env.seed(SEED)
    mean, _ = evaluate_policy(policy, env, n_eval_episodes=8, warn=False)
    env.close()
    assert mean == pytest.approx(np.mean(returns_alone(0, 8)), abs=1e-5)
    assert [len(clip) for clip in clips] == [13]
    assert len(list(tmp_path.glob("*.mp4"))) == 1


@pytest.mark.parametrize("inside", [True, False])
def test_a_single_environment_is_recorded_on_either_side(
    inside: bool, tmp_path: Path, clips: list[list[int]]
) -> None:
    def evaluated(record: bool) -> list[float]:
        policy, env = acting(), Wanderer("rgb_array")
        env.reset(seed=SEED)  # evaluate_policy gives no seed: it goes on from this one
        acted: Any = policy.wrap(env) if inside or not record else env
        if record:
            acted = RecordVideo(acted, str(tmp_path / "v"), episode_trigger=lambda e: e < 2)
        if record and not inside:
            acted = policy.wrap(acted)
        returns, _ = evaluate_policy(
            policy, acted, n_eval_episodes=4, warn=False, return_episode_rewards=True
        )
        acted.close()
        return returns  # type: ignore[return-value]

    assert evaluated(record=True) == evaluated(record=False)
    assert len(clips) == 2
    for clip in clips:
        assert clip == list(range(len(clip)))[::-1], "one whole episode"


def test_parameters_go_from_one_algorithm_to_another() -> None:
    data = trajectories()
    teacher = dema(ema_decay=0.9).learn(data, 3)
    pupil = dema(ema_decay=0.9, seed=1).learn(data, 1)
    for algorithm in (teacher, pupil):
        algorithm.predict(data.observations[0])
    pupil.set_parameters(teacher.get_parameters())
    teacher.reset()
    for observation in data.observations[:5]:
        taught, learnt = teacher.predict(observation)[0], pupil.predict(observation)[0]
        assert np.array_equal(taught, learnt)
        for algorithm in (teacher, pupil):
            algorithm.observe(0.5)
    before = teacher.get_parameters()["policy"]
    pupil.learn(data, 3)  # an average lags one update
    moved = [not torch.equal(v, before[k]) for k, v in pupil.get_parameters()["policy"].items()]
    assert any(moved)
    assert all(torch.equal(v, before[k]) for k, v in teacher.get_parameters()["policy"].items())


def test_some_parameters_leave_the_others_as_they_are() -> None:
    algorithm = dema().learn(trajectories(), 1)
    before = algorithm.get_parameters()["policy"]
    name = "head.linear.bias"
    algorithm.set_parameters({"policy": {name: before[name] + 1.0}}, exact_match=False)
    after = algorithm.get_parameters()["policy"]
    assert {key for key in before if not torch.equal(before[key], after[key])} == {name}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda p: p["policy"].pop("head.linear.bias"), "head.linear.bias"),
        (lambda p: p["policy"].update(extra=torch.zeros(1)), "extra"),
        (lambda p: p["policy"].update({"head.linear.bias": torch.zeros(77)}), "head.linear.bias"),
        (lambda p: p.update(critic={}), "critic"),
        (lambda p: p.pop("policy"), "policy"),
    ],
    ids=["missing", "unknown", "shape", "another network", "no policy"],
)
def test_parameters_that_do_not_fit_are_refused_and_change_nothing(
    change: Callable[[dict[str, Any]], object], named: str
) -> None:
    algorithm = dema().learn(trajectories(), 1)
    before = algorithm.get_parameters()["policy"]
    wrong = {"policy": {key: value + 1.0 for key, value in before.items()}}
    change(wrong)
    with pytest.raises(ValueError, match=f"do not fit .*{named}"):
        algorithm.set_parameters(wrong)
    with pytest.raises(TypeError, match=r"got str; those of a file are DeMa.load\(path\)"):
        algorithm.set_parameters("saved")  # type: ignore[arg-type]
    after = algorithm.get_parameters()["policy"]
    assert all(torch.equal(before[key], after[key]) for key in before)
