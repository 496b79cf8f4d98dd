"""`python -m zoo tune`: processes share a study, lose no trial, and what is best can be trained."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from decision_policies import evaluate_policy
from decision_policies.algorithms import BY_NAME
from zoo import tune
from zoo.benchmark_run import SEED_SETS
from zoo.experiments import Experiment
from zoo.tuning_space import SPACE, choose, draw

from .logs_support import SET, SMALL, zoo

optuna = pytest.importorskip("optuna", reason="the extra [tuning] is not installed")

ROOT = Path(__file__).parent.parent.parent
LINE = (
    f"tune --algo dema --dataset {SET} --trials 5 --startup-trials 2 -n 4 --evaluations 2 "
    f"--eval-episodes 2 --seed 3 --search learning_rate dropout --study-name s "
    f"--hyperparams {SMALL} --quiet --storage"
)


def trials(storage: Path) -> list[Any]:
    """All trials of the study, as optuna reads them from the file."""
    backend = optuna.storages.journal.JournalFileBackend(str(storage))
    study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    return list(study.trials)


def finished(storage: Path) -> list[tuple[dict[str, Any], float | None, dict[int, float]]]:
    """What was tried and what came of it, in the order of the trials."""
    done = [trial for trial in trials(storage) if trial.state.name in ("COMPLETE", "PRUNED")]
    return [(trial.params, trial.value, trial.intermediate_values) for trial in done]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a study that one process has made from beginning to end."""
    storage = tmp_path_factory.mktemp("whole") / "s.journal"
    assert zoo(LINE, storage) == 0
    return storage


def at_update(monkeypatch: pytest.MonkeyPatch, updates: int, do: Callable[[], None]) -> None:
    """Does something after some updates, over all trials."""
    done = 0

    @contextmanager
    def bar(title: str, total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
        def tick(amount: int) -> None:
            nonlocal done
            done += amount
            if done == updates:
                do()

        yield tick

    monkeypatch.setattr(tune, "progress_bar", bar)


def test_a_study_leaves_a_table_that_train_takes_and_a_picture(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zoo(LINE, whole) == 0, "a finished study is only reported"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["trial", "return", "updates", "learning_rate", "dropout"]
    assert len(lines[1:6]) == len(finished(whole)) == 5
    complete = {value: params for params, value, _ in finished(whole) if value is not None}
    best = max(complete)
    assert f", {best:.1f}" in lines[6] and lines[6].startswith("best: trial ")
    assert (whole.parent / "s.png").stat().st_size > 1000

    content = yaml.safe_load((whole.parent / "s.yml").read_text())
    assert content["class"] == "DeMa"
    assert content[SET]["dropout"] == complete[best]["dropout"]
    assert content[SET]["learning_rate"] == f"lin_{complete[best]['learning_rate']:.3g}"
    words = shlex.split(lines[-1].removeprefix("next: python -m zoo "))
    quick = ["-n", "4", "--eval-episodes", "1", "--quiet", "-f", str(tmp_path)]
    assert zoo("", *words, *quick) == 0
    config = Experiment(tmp_path / "dema" / "CartPole-v1_1").read("config.yml")
    assert {name: config[name] for name in content[SET]} == content[SET]


def test_trials_are_judged_by_episodes_that_nothing_else_uses(whole: Path) -> None:
    params, _, reported = finished(whole)[0]
    values = dict(word.split("=") for word in SMALL.split())
    recipe = {name: int(value) for name, value in values.items()}
    content = yaml.safe_load((whole.parent / "s.yml").read_text())[SET]
    drawn = draw(optuna.trial.FixedTrial(params), ["learning_rate", "dropout"])
    algorithm = BY_NAME["DeMa"](**{**content, **recipe, **drawn, "seed": 3}).learn(SET, 4)
    again = evaluate_policy(algorithm, "CartPole-v1", 2, target_return=500, seed=tune.TUNING)
    assert again.mean == reported[4]
    taken = [np.arange(seed, seed + 1000) for seed in (*SEED_SETS.values(), tune.TUNING)]
    assert len(np.unique(taken)) == 3000


@pytest.mark.parametrize("updates", [4, 9])
def test_an_interrupted_study_goes_on_as_if_it_had_not_been(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, updates: int
) -> None:
    storage = tmp_path / "s.journal"
    at_update(monkeypatch, updates, lambda: signal.raise_signal(signal.SIGINT))
    assert zoo(LINE, storage) == 130
    monkeypatch.undo()
    assert zoo(LINE, storage) == 0
    assert finished(storage) == finished(whole)
    states = [trial.state.name for trial in trials(storage)]
    assert states.count("FAIL") == 1 and "RUNNING" not in states


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_killed_process_loses_no_trial(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "s.journal"
    child = os.fork()
    if child == 0:
        at_update(monkeypatch, 10, lambda: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(zoo(LINE, storage))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert [trial.state.name for trial in trials(storage)][-1] == "RUNNING"
    with storage.open("a") as file:
        file.write('{"op_code": 6, "wor')  # as if it had died while it wrote
    assert zoo(LINE, storage) == 0
    assert finished(storage) == finished(whole)
    assert not list(tmp_path.glob(".*.[0-9].lock"))


def test_two_processes_share_the_trials(tmp_path: Path) -> None:
    storage = tmp_path / "s.journal"
    line = LINE.replace("--trials 5", "--trials 8").replace("-n 4", "-n 30")
    command = [sys.executable, "-W", "error", "-m", "zoo", *line.split(), str(storage)]
    options: Any = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, text=True, **options) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    done = trials(storage)
    assert len(done) == 8 and all(trial.state.is_finished() for trial in done)
    assert len({trial.params["learning_rate"] for trial in done}) == 8
    assert "FAIL" not in [trial.state.name for trial in done]


@pytest.mark.parametrize("kind", BY_NAME.values(), ids=BY_NAME)
def test_what_is_drawn_fits_every_class(kind: Any) -> None:
    usual = choose(kind, None, ["d_model"])
    assert "learning_rate" in usual and "d_model" not in usual
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for name in set(SPACE) & set(kind.__dataclass_fields__) - {"balance_returns"}:
        kind(**draw(study.ask(), [*usual, name]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--search d_modl", "DeMa has no hyper-parameter 'd_modl'; did you mean 'd_model'?"),
        ("--search layout", "--search layout: it cannot be drawn; can be: learning_rate, "),
        ("--search d_model", "--search d_model: --hyperparams gives it a value"),
        ("--search learning_rate", "was begun with other settings (search is ['learning_rate', "),
        ("--seed 4", "(seed is 3)"),
        ("-n 5", "(plan.updates is 4"),
    ],
)
def test_bad_input_is_one_clear_line(
    whole: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    before = whole.read_bytes()
    line = LINE.replace("--quiet", f"--quiet {words}")
    assert zoo(line, whole) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert whole.read_bytes() == before


def test_a_table_of_another_class_and_a_file_that_is_no_journal_are_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = whole.parent / "s.yml"
    assert zoo(f"train --algo dt --dataset {SET} -conf {conf} -f", tmp_path) == 2
    assert "is a table of DeMa, and --algo says DT" in capsys.readouterr().err
    odd = tmp_path / "odd.journal"
    for text in ("class: DeMa", '{"op_code":0}\n'):
        odd.write_text(text)
        assert zoo(LINE, odd) == 2
        assert "is no journal of optuna's" in capsys.readouterr().err
        assert odd.read_text() == text
    odd.write_text("class: DeMa")
    assert zoo(f"train --algo dema --dataset {SET} -conf {odd} -f", tmp_path) == 2
    assert f"has no block for {SET}" in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune, "find_spec", lambda name: None)
    assert zoo(LINE, tmp_path / "s.journal") == 2
    assert "pip install 'decision-policies[tuning]'" in capsys.readouterr().err
