"""`python -m zoo train` leaves rl_zoo3's folders, says which episodes it means, and resumes."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import decision_policies
from decision_policies import evaluate_policy
from decision_policies.algorithms import BY_NAME
from tests.fixtures import write_minari
from zoo import training_run
from zoo.__main__ import build_parser, main
from zoo.benchmark_rows import lock
from zoo.experiments import Experiment
from zoo.history_set import Recipe, make_histories
from zoo.train import EXAMPLES
from zoo.training_setup import Subject, choose_recipe

from .logs_support import SET, SMALL, train, trained, zoo

Verb = Callable[..., int]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A training from its beginning to its end."""
    return trained(tmp_path_factory.mktemp("whole") / "logs", "--save-freq 2")


def stop_after(monkeypatch: pytest.MonkeyPatch, updates: int, number: signal.Signals) -> None:
    """Lets a signal come in after some updates."""
    done = 0

    @contextmanager
    def bar(title: str, total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
        def tick(amount: int) -> None:
            nonlocal done
            done += amount if title != "evaluating" else 0
            if done == updates and title != "evaluating":
                signal.raise_signal(number)

        yield tick

    monkeypatch.setattr(training_run, "progress_bar", bar)


def assert_same_training(left: Experiment, right: Experiment) -> None:
    for name in ("model.safetensors", "training/tensors.safetensors"):
        assert (left.last / name).read_bytes() == (right.last / name).read_bytes(), name
    one, other = left.curve(), right.curve()
    np.testing.assert_array_equal(one.timesteps, other.timesteps)
    np.testing.assert_array_equal(one.results, other.results)
    assert (left.folder / "final_evaluation.json").read_text() == (
        right.folder / "final_evaluation.json"
    ).read_text()


def test_a_training_leaves_the_folders_and_files_of_rl_zoo3(whole: Experiment) -> None:
    assert whole.folder.parts[-2:] == ("dema", "CartPole-v1_1")
    there = {path.name for path in whole.folder.iterdir() if not path.name.startswith(".")}
    assert there == {
        *("CartPole-v1", "best_model", "rl_model_2_steps", "rl_model_4_steps", "rl_model_6_steps"),
        *("CartPole-v1.zip", "best_model.zip", "rl_model_2_steps.zip"),
        *("rl_model_4_steps.zip", "rl_model_6_steps.zip"),
        *("config.yml", "args.yml", "command.txt", "evaluations.npz", "progress.csv"),
        "final_evaluation.json",
    }
    config = yaml.safe_load((whole.folder / "config.yml").read_text())
    loaded = decision_policies.load(whole.last)
    assert config["d_model"] == 8 and config["seed"] == 0
    assert config == {name: loaded.hyperparameters()[name] for name in config}
    assert yaml.safe_load((whole.folder / "args.yml").read_text())["dataset"] == SET
    assert "eval/mean_reward" in (whole.folder / "progress.csv").read_text().splitlines()[0]


def test_the_recorded_command_trains_the_same_again(whole: Experiment, tmp_path: Path) -> None:
    command = (whole.folder / "command.txt").read_text()
    assert command.startswith("python -m zoo train --algo dema --dataset cartpole/mixed-v0 ")
    words = shlex.split(command.replace(str(whole.folder.parent.parent), str(tmp_path)))
    assert main(words[3:]) == 0
    assert_same_training(whole, Experiment(tmp_path / "dema" / "CartPole-v1_1"))


def test_the_curve_is_of_episodes_on_the_stated_seeds(whole: Experiment) -> None:
    with np.load(whole.folder / "evaluations.npz", allow_pickle=False) as arrays:
        assert arrays["timesteps"].tolist() == [3, 6]
        assert arrays["results"].shape == arrays["ep_lengths"].shape == (2, 2)
        last = arrays["results"][-1]
    again = evaluate_policy(
        decision_policies.load(whole.last), "CartPole-v1", 2, target_return=500, seed=10_000
    )
    np.testing.assert_array_equal(again.returns, last)
    assert "from seed 10000 on" in EXAMPLES and "from seed 900000 on" in EXAMPLES


def test_the_best_policy_is_kept_and_judged_by_fresh_episodes(whole: Experiment) -> None:
    best = whole.curve().best()
    assert best is not None
    kept = decision_policies.load(whole.best)
    assert kept.num_timesteps == best[0]
    assert (whole.last / "training").is_dir() and not (whole.best / "training").exists()
    final = json.loads((whole.folder / "final_evaluation.json").read_text())
    assert final["last"]["updates"] == 6 and final["best"]["updates"] == best[0]
    for name, policy in (("best", kept), ("last", decision_policies.load(whole.last))):
        again = evaluate_policy(policy, "CartPole-v1", 2, target_return=500, seed=900_000)
        assert final[name]["returns"] == again.returns.tolist()
        assert final[name]["first_seed"] == 900_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("updates", [1, 2])
def test_interrupted_and_resumed_training_equals_uninterrupted(
    whole: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    updates: int,
    number: signal.Signals,
) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, updates, number)
        assert train(tmp_path, "--save-freq 2") == 130
    printed = capsys.readouterr().out
    assert f"saved after {updates} of 6 updates" in printed
    cut = Experiment(tmp_path / "dema" / "CartPole-v1_1")
    assert decision_policies.load(cut.last).num_timesteps == updates
    command = printed[printed.index("train --algo") :].split("\n")[0]
    assert main(shlex.split(command)) == 0
    assert_same_training(whole, cut)
    assert (cut.folder / "command.txt").read_text().count("\n") == 2


def test_training_cut_in_an_evaluation_repeats_it(
    whole: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training_run.TrainingRun, "_play", interrupted)
        assert train(tmp_path, "--save-freq 2") == 130
    assert train(tmp_path, "--save-freq 2 --resume") == 0  # the same command, with one word more
    assert_same_training(whole, Experiment(tmp_path / "dema" / "CartPole-v1_1"))


def test_a_finished_training_goes_on_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = trained(tmp_path)
    assert experiment.curve().until(6).timesteps.tolist() == [3, 6]
    line = "train --algo dema --env CartPole-v1 --resume --quiet --n-timesteps 9 -f"
    with monkeypatch.context() as patched:
        stop_after(patched, 8, signal.SIGINT)
        assert zoo(line, tmp_path) == 130
    assert not (experiment.folder / "final_evaluation.json").exists()  # it was of 6 updates
    assert zoo(line, tmp_path) == 0
    assert decision_policies.load(experiment.last).num_timesteps == 9
    assert experiment.curve().timesteps.tolist() == [3, 6, 9]
    assert experiment.read("args.yml")["n_timesteps"] == 9
    final = json.loads((experiment.folder / "final_evaluation.json").read_text())
    assert final["last"]["updates"] == 9


def test_resume_takes_the_latest_experiment_that_was_begun_with_the_same_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = trained(tmp_path, seed=1), trained(tmp_path, seed=2)
    assert (first.number, second.number) == (1, 2)
    assert zoo("train --algo DEMA --seed 1 --resume --quiet -n 7 -f", tmp_path) == 0
    assert decision_policies.load(first.last).num_timesteps == 7
    assert decision_policies.load(second.last).num_timesteps == 6
    assert zoo("train --algo dema --resume --quiet -n 8 -f", tmp_path) == 0  # 2 is later than 1
    assert decision_policies.load(second.last).num_timesteps == 8
    line = "train --algo dema --env CartPole-v1 --resume --quiet"
    assert zoo(f"{line} --exp-id 2 --seed 1 -f", tmp_path) == 2
    assert f"  {second.folder}: seed is 2\n" in capsys.readouterr().err
    assert zoo(f"{line} --exp-id 5 -f", tmp_path) == 2
    assert "no experiment 5 of dema in CartPole-v1" in capsys.readouterr().err


def test_two_processes_do_not_train_in_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = trained(tmp_path)
    with lock(experiment.folder / ".lock"):
        assert zoo("train --algo dema --resume -n 8 --quiet -f", tmp_path) == 2
    assert "another process trains in" in capsys.readouterr().err


def test_the_last_lines_say_what_came_of_it_and_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "--tensorboard-log " + str(tmp_path / "tb")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ± " in lines[0] and "fresh episodes from seed 900000 on, asked for 500" in lines[0]
    folder = tmp_path / "dema" / "CartPole-v1_1"
    assert lines[-3] == f"saved: {folder / 'CartPole-v1'}"
    next_line = lines[-2].removeprefix("next: ")
    assert next_line == f"python -m zoo enjoy --algo DeMa --env CartPole-v1 -f {tmp_path}"
    assert main([*shlex.split(next_line)[3:], "--no-render", "--episodes", "1"]) == 0
    assert any((tmp_path / "tb" / "dema" / "CartPole-v1_1").iterdir())


def test_a_dataset_without_plan_and_environment_is_trained_on_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minari("tiny/unknown-v0")
    line = "train --algo bc-10% --dataset tiny/unknown-v0 -n 2"
    small = "--hyperparams d_model=8 top_fraction=0.5 -f"
    assert zoo(f"{line} {small}", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "tiny/unknown-v0 has no plan in zoo/hyperparameters/datasets.yml: defaults" in printed
    assert "nothing is evaluated without --env" in printed
    assert "2 updates made; not evaluated" in printed
    experiment = Experiment(tmp_path / "bc-10" / "tiny-unknown-v0_1")
    assert decision_policies.load(experiment.last).num_timesteps == 2
    assert experiment.curve().best() is None


def test_a_system_that_remembers_over_episodes_is_judged_by_held_out_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    recipe = Recipe(
        *("Darkroom-v0", "dark/six-v0", "noise"),
        tasks=6,
        held_out=2,
        episodes=4,
        keep=3,
        options={"size": 3, "horizon": 5},
    )
    data = make_histories(recipe, tmp_path)
    small = "--hyperparams d_model=8 context_length=10 batch_size=2"
    line = f"train --algo ad-mamba --dataset {data} -n 4 --eval-freq 2 --eval-episodes 3 --quiet"
    assert main([*f"{line} {small}".split(), "-f", str(tmp_path / "logs")]) == 0
    experiment = Experiment(tmp_path / "logs" / "ad-mamba" / "Darkroom-v0_1")
    curve = experiment.curve()
    assert curve.results.shape == (2, 6) and curve.ep_lengths is None
    assert f"next: python -m zoo in-context {experiment.last}" in capsys.readouterr().out
    assert experiment.read("args.yml")["plan"]["deterministic"] is False
    assert (
        zoo(f"card --algo ad-mamba --env Darkroom-v0 --episodes 2 --quiet -f {tmp_path}/logs") == 0
    )
    card = capsys.readouterr().out
    assert "The commands were\n\n```\npython -m zoo histories --env Darkroom-v0" in card
    assert f"\npython -m zoo train --algo ad-mamba --dataset {data} " in card
    assert "2 tasks x 2 episodes" in card and "the lines below it of all episodes" in card


@pytest.mark.parametrize("label", ["DMHybrid", "AD-mamba"])
def test_a_system_that_remembers_over_episodes_has_a_recipe_for_a_set_of_one_task(
    label: str,
) -> None:
    subject = Subject("sb3zoo/hopper/medium-replay-v0", None, "Hopper-v5", None)
    recipe, notes = choose_recipe(label, subject, {})
    assert BY_NAME[recipe.class_name](**recipe.hyperparameters).remembers_episodes
    assert recipe.plan.updates < 5000 and recipe.plan.deterministic and not notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--algo demma", "there is no algorithm 'demma'; did you mean 'DeMa' or 'DMM'?"),
        ("--algo d3rlpy-dt", "d3rlpy-DT is trained by d3rlpy: python -m zoo benchmark"),
        ("--algo dema --exp-id 1", "--exp-id belongs to --resume"),
        ("--algo dema --env CartPol-v1", "gymnasium knows no environment 'CartPol-v1'; did you"),
        ("--algo dema --env MountainCar-v0", "observation space"),
        ("--algo dema --resume", "no experiment of 'dema' in"),
        ("--algo dema --hyperparams d_modl=8", "no hyper-parameter 'd_modl'; did you mean 'd_mode"),
        ("--algo dema --hyperparams d_model", "--hyperparams 'd_model' is not of the form NAME=VA"),
        ("--algo dema --hyperparams d_model=big", "DeMa: DeMa(d_model=...) must be int"),
        ("--algo dema --hyperparams seed=1", "seed is an option of its own"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    logs = tmp_path / "logs"
    assert zoo(f"train --dataset {SET} -f {logs} -n 2 --quiet {line}") == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not list(logs.rglob("*.yml"))


def test_a_dataset_that_is_not_there_names_close_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zoo("train --algo dema --dataset cartpole/mixd-v0 -f", tmp_path) == 2
    assert "did you mean 'cartpole/mixed-v0'" in capsys.readouterr().err
    assert zoo("train --algo dema -f", tmp_path) == 2
    assert "--dataset says what to learn from" in capsys.readouterr().err


def test_a_training_that_diverges_says_where_it_was_and_what_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"train --algo dema --dataset {SET} -n 20 --eval-freq 2 --eval-episodes 1 --quiet"
    wild = f"--hyperparams {SMALL} learning_rate=1e30 max_grad_norm=1e30"
    assert zoo(f"{line} {wild} -f", tmp_path) == 2
    said = capsys.readouterr().err
    assert "A lower learning rate or max_grad_norm helps" in said
    assert str(tmp_path / "dema" / "CartPole-v1_1") in said


@pytest.mark.parametrize("verb", ["train", "tune", "evaluate", "enjoy", "record", "plot-train"])
def test_every_example_of_the_help_parses(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser(verb).parse_args([verb, "--help"])
    text = capsys.readouterr().out.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if "python -m zoo " in line]
    lines = [line for line in lines if line.startswith("python -m zoo")]
    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line)[3:]
        assert build_parser(words[0]).parse_args(words).verb == words[0]
