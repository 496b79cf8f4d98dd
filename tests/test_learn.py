"""`learn` with Stable-Baselines3's own callbacks and logger, schedules, and a task for memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import (
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnNoModelImprovement,
)
from stable_baselines3.common.evaluation import evaluate_policy as sb3_evaluate
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor

from decision_policies import DeMa, Trajectories, evaluate_policy
from decision_policies.data import SegmentSampler, WindowSampler
from decision_policies.data.trajectories import Source
from decision_policies.learning.optimisation import make_optimizer, make_schedule
from tests.laws.cases import SPACES, dema, trajectories
from tests.test_evaluation import Uneven


def test_sb3s_callbacks_run_unmodified(tmp_path: Path) -> None:
    env = Monitor(Uneven())
    evaluation = EvalCallback(
        env,
        best_model_save_path=str(tmp_path / "best"),
        log_path=str(tmp_path),
        eval_freq=4,
        n_eval_episodes=2,
        callback_after_eval=StopTrainingOnNoModelImprovement(1000),
        verbose=0,
    )
    saver = CheckpointCallback(5, str(tmp_path / "steps"), "dema")
    counted: list[int] = []

    class Count(EveryNTimesteps):
        def _on_event(self) -> bool:
            counted.append(self.num_timesteps)
            return True

    with pytest.warns(UserWarning, match="no reward was reported"):  # SB3 reports none to a policy
        dema().learn(
            trajectories("box-discrete"),
            12,
            callback=[evaluation, saver, Count(3, callback=None)],  # type: ignore[arg-type]
        )
    assert counted == [3, 6, 9, 12]
    assert (tmp_path / "evaluations.npz").is_file()
    for name in ("best/best_model", "steps/dema_5_steps", "steps/dema_10_steps"):
        assert DeMa.load(tmp_path / name, device="cpu").num_timesteps > 0
    assert DeMa.load(tmp_path / "steps" / "dema_10_steps.zip").num_timesteps == 10


def test_sb3s_evaluate_policy_counts_rewards_down_in_a_wrapped_environment() -> None:
    algorithm = dema().learn(trajectories("box-discrete"), 2)
    env = algorithm.wrap(Uneven())
    mean, _ = sb3_evaluate(algorithm, env, n_eval_episodes=3, warn=False)
    assert np.isfinite(mean)


def test_the_log_goes_where_the_user_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    algorithm = dema(verbose=1)
    algorithm.learn(trajectories("box-discrete"), 6, log_interval=3)
    printed = capsys.readouterr().out
    for name in ("loss", "accuracy", "grad_norm", "learning_rate", "n_updates", "fps"):
        assert name in printed
    quiet = dema()
    quiet.set_logger(configure(str(tmp_path), ["csv"]))
    quiet.learn(trajectories(), 6, log_interval=2)
    quiet.logger.close()
    lines = (tmp_path / "progress.csv").read_text().splitlines()
    assert len(lines) == 4
    assert "train/loss" in lines[0]


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")  # SB3 ignores it at import
def test_a_progress_bar_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    dema().learn(trajectories(), 3, progress_bar=True)
    assert "3/3" in capsys.readouterr().out


def test_tensorboard_gets_a_folder_a_run(tmp_path: Path) -> None:
    algorithm = dema(tensorboard_log=str(tmp_path))
    for expected in ("DeMa_1", "DeMa_2"):
        algorithm.learn(trajectories(), 4, log_interval=2)
        algorithm.logger.close()
        assert any((tmp_path / expected).glob("events.out.tfevents*"))


def test_a_callback_that_returns_false_stops() -> None:
    algorithm = dema()
    algorithm.learn(trajectories(), 50, callback=lambda local, _: local["self"].num_timesteps < 7)
    assert algorithm.num_timesteps == 7


@pytest.mark.parametrize(
    ("rate", "start", "middle", "end"),
    [
        (2e-3, 2e-3, 2e-3, 2e-3),
        ("lin_1e-3", 1e-3, 5e-4, 0.0),
        ("cos_1e-3", 1e-3, 5.5e-4, 1e-4),
        (lambda remaining: remaining**2, 1.0, 0.25, 0.0),
    ],
)
def test_schedules_run_from_1_to_0(rate: Any, start: float, middle: float, end: float) -> None:
    schedule = make_schedule(rate)
    assert [schedule(p) for p in (1.0, 0.5, 0.0)] == pytest.approx([start, middle, end])


def test_warm_up_raises_the_rate_in_a_straight_line() -> None:
    rates: list[float] = []

    def note(local: dict[str, Any], _: dict[str, Any]) -> bool:
        rates.append(local["rate"])
        return True

    dema(learning_rate=1.0e-3, warmup_steps=4).learn(trajectories(), 6, callback=note)
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


@pytest.mark.parametrize("rate", ["lin_1e-3", lambda remaining: 1e-3 * remaining])
def test_schedules_and_warm_up_go_on_with_the_count_and_begin_anew_with_it(
    rate: Any, tmp_path: Path
) -> None:
    rates: list[float] = []

    def note(local: dict[str, Any], _: dict[str, Any]) -> bool:
        rates.append(local["rate"] * 1e3)
        return True

    algorithm = dema(learning_rate=rate, warmup_steps=2).learn(trajectories(), 4, callback=note)
    assert rates == pytest.approx([1 / 2, 3 / 4, 2 / 4, 1 / 4])
    if isinstance(rate, str):  # a function is not saved: its largest value is
        algorithm.save(tmp_path / "m")
        algorithm = DeMa.load(tmp_path / "m")
    rates.clear()
    algorithm.learn(trajectories(), 4, callback=note, reset_num_timesteps=False)
    assert algorithm.num_timesteps == 8
    assert rates == pytest.approx([4 / 8, 3 / 8, 2 / 8, 1 / 8])
    rates.clear()
    algorithm.learn(trajectories(), 4, callback=note)
    assert algorithm.num_timesteps == 4
    assert rates == pytest.approx([1 / 2, 3 / 4, 2 / 4, 1 / 4])


def test_weight_decay_touches_matrices_only() -> None:
    model = dema().make_policy(spaces.Discrete(3), spaces.Discrete(2)).model
    decayed = {id(p) for p in make_optimizer(model, 0.1).param_groups[0]["params"]}
    names = {n for n, p in model.named_parameters() if id(p) in decayed}
    assert any("in_proj.weight" in n for n in names)
    assert not any(k in n for n in names for k in ("bias", "norm", "A_log", ".D", "table"))


def test_gradients_are_clipped_to_the_norm() -> None:
    algorithm = dema(max_grad_norm=1e-3, learning_rate=1e-3)
    norms = []

    def look(local: dict[str, Any], _: dict[str, Any]) -> bool:
        gradients = [p.grad for p in local["model"].parameters() if p.grad is not None]
        norms.append(float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))))
        return True

    algorithm.learn(trajectories(), 3, callback=look)
    assert max(norms) <= 1e-3 * 1.001


def test_windows_are_drawn_by_their_last_step_and_repeat_for_a_seed() -> None:
    data = trajectories(episodes=20)
    sampler = WindowSampler(data, 5, 4000, seed=3)
    window = sampler.sample()
    starts = (window.timesteps[:, 0] == 0).float().mean()
    expected = np.minimum(data.lengths, 5).sum() / data.n_steps
    assert float(starts) == pytest.approx(expected, abs=0.03)
    full = torch.from_numpy(np.minimum(data.lengths, 5).min() * np.ones(1))
    assert bool((window.mask.sum(1) >= full).all())
    again = WindowSampler(data, 5, 4000, seed=3).sample()
    assert torch.equal(window.observations, again.observations)
    position = sampler.state_dict()
    after = sampler.sample()
    sampler.load_state_dict(position)
    assert torch.equal(sampler.sample().observations, after.observations)


@pytest.mark.parametrize("kind", [WindowSampler, SegmentSampler])
def test_in_constant_mode_each_step_asks_for_its_whole_episodes_return(kind: Any) -> None:
    data = trajectories()
    sampler = kind(data, 4, 32, seed=0, return_mode="constant")
    twin = kind(data, 4, 32, seed=0)
    for _ in range(5):
        window, other = sampler.sample(), twin.sample()
        assert torch.equal(window.rewards, other.rewards)
        assert bool((window.returns_to_go == window.returns_to_go[:, :1]).all())
        at_start = other.timesteps[:, 0] == 0
        assert bool(at_start.any())
        assert torch.equal(window.returns_to_go[at_start, 0], other.returns_to_go[at_start, 0])
        off = np.abs(window.returns_to_go.numpy()[..., None] - data.returns).min(-1)
        assert off.max() < 1e-5


def test_segments_follow_each_trajectory_to_its_end() -> None:
    data = trajectories(episodes=10)
    sampler = SegmentSampler(data, 4, 3, seed=0)
    clock = np.full(3, -1)
    for _ in range(30):
        window = sampler.sample()
        for row in range(3):
            real = window.timesteps[row][window.mask[row]].numpy()
            first = 0 if bool(window.starts[row]) else clock[row]
            np.testing.assert_array_equal(real, np.arange(first, first + len(real)))
            ends = float(window.returns_to_go[row, len(real) - 1])
            last = float(window.rewards[row, len(real) - 1])
            clock[row] = first + len(real)
            finished = ends == pytest.approx(last, abs=1e-6)
            assert len(real) == 4 or finished, "only an episode's end cuts a segment short"


def test_a_segment_of_one_step_is_not_lost() -> None:
    space = spaces.Box(-1, 1, (1,))
    episode = {"observations": np.zeros((9, 1)), "actions": np.zeros((9, 1)), "rewards": np.ones(9)}
    data = Trajectories.from_episodes([episode], space, space)
    sampler = SegmentSampler(data, 4, 1, seed=0)
    lengths = [int(sampler.sample().mask.sum()) for _ in range(6)]
    assert lengths == [4, 4, 1, 4, 4, 1]


def test_a_new_policy_is_what_a_later_learn_trains() -> None:
    algorithm = dema().learn(trajectories("box-discrete"), 3)
    algorithm.make_policy(*SPACES["box-discrete"])
    assert algorithm.policy is not None
    before = {k: v.clone() for k, v in algorithm.policy.model.state_dict().items()}
    algorithm.learn(trajectories("box-discrete"), 3)
    after = algorithm.policy.model.state_dict()
    assert not torch.equal(before["head.linear.weight"], after["head.linear.weight"])
    assert not torch.equal(
        before["embedding.observation.mean"], after["embedding.observation.mean"]
    )


def test_other_data_and_another_batch_size_are_taken_up() -> None:
    space = spaces.Box(-1, 1, (1,))
    sets = []
    for value in (0.0, 1.0):
        episode = {
            "observations": np.full((5, 1), value),
            "actions": np.zeros((5, 1)),
            "rewards": np.ones(5),
        }
        data = Trajectories.from_episodes([episode], space, space, source=Source(str(value)))
        sets.append(data)
    algorithm = dema().learn(sets[0], 1).learn(sets[1], 1)
    assert algorithm._training is not None
    assert algorithm._training.sampler.trajectories is sets[1]
    algorithm.batch_size = 3
    algorithm.learn(sets[1], 1)
    assert algorithm._training.sampler.sample().shape[0] == 3
    algorithm.batch_size = -3
    with pytest.raises(ValueError, match="batch_size"):
        algorithm.learn(sets[1], 1)


def test_an_environment_wrapped_before_the_first_learn_reports_during_it() -> None:
    algorithm = dema()
    env = algorithm.wrap(Monitor(Uneven()))
    evaluation = EvalCallback(env, eval_freq=3, n_eval_episodes=2, verbose=0, warn=False)
    algorithm.learn(
        trajectories("box-discrete"), 3, callback=evaluation
    )  # a held return would warn
    assert np.isfinite(evaluation.last_mean_reward)


class Cue(gym.Env[Any, Any]):
    """A cue at the first step must be repeated at the last one; between them nothing is seen."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)
    length = 8

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.cue, self.t = int(self.np_random.integers(2)), 0
        return np.array([2 * self.cue - 1, 0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        done = self.t == self.length
        reward = float(done and int(action) == self.cue)
        return np.array([0, self.t == self.length - 1], np.float32), reward, done, False, {}


@pytest.mark.parametrize(
    "options",
    [{}, {"layout": "BL3D"}, {"kind": "rnn", "context_length": 4, "learning_rate": 3e-3}],
    ids=["B3LD", "BL3D", "rnn-in-segments-of-4"],
)
def test_memory_is_learnt_and_used(options: dict[str, Any]) -> None:
    rng, episodes = np.random.default_rng(0), []
    for _ in range(200):
        cue, actions = int(rng.integers(2)), rng.integers(2, size=Cue.length)
        observations = np.zeros((Cue.length + 1, 2), np.float32)
        observations[0, 0], observations[Cue.length - 1, 1] = 2 * cue - 1, 1
        rewards = np.zeros(Cue.length)
        rewards[-1] = actions[-1] == cue
        episode = {"observations": observations, "actions": actions, "rewards": rewards}
        episodes.append(episode)
    data = Trajectories.from_episodes(episodes, Cue.observation_space, Cue.action_space)
    settings = {"context_length": Cue.length, "batch_size": 64, "learning_rate": 1e-2} | options
    algorithm = dema(**settings).learn(data, 1000 if "kind" in options else 250)
    hit = evaluate_policy(algorithm, Cue, 40, n_envs=40, seed=100)
    miss = evaluate_policy(algorithm, Cue, 40, n_envs=40, seed=100, target_return=0.0)
    assert hit.mean >= 0.95, "asked for a return of 1, it must remember the cue"
    assert miss.mean <= 0.05, "asked for a return of 0, it must remember it as well"


def test_a_wrong_number_of_updates_is_refused() -> None:
    for options in ({"total_timesteps": -5}, {"total_timesteps": 2.5}, {"log_interval": 0}):
        with pytest.raises(ValueError, match="total_timesteps must be a whole number"):
            dema().learn(trajectories(), **options)  # type: ignore[arg-type]
