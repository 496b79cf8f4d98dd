"""`python -m zoo in-context` lets saved policies play held-out tasks, and keeps their returns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from decision_policies import AD, DT, evaluate_in_context
from decision_policies.envs import Darkroom
from zoo.__main__ import main
from zoo.history_set import Recipe, make_histories, read_split

RECIPE = Recipe(
    "Darkroom-v0",
    "dark/tiny-v0",
    learner="noise",
    tasks=7,
    held_out=3,
    episodes=4,
    keep=3,
    options={"size": 3, "horizon": 5},
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of histories and two policies that were trained on it."""
    folder = tmp_path_factory.mktemp("root")
    data = make_histories(RECIPE, folder)
    AD(d_model=8, n_heads=2, n_layers=1, seed=0).learn(data, 2).save(folder / "ad")
    DT(d_model=8, n_layers=1, seed=0).learn(data, 2).save(folder / "dt")
    return folder


@pytest.fixture(autouse=True)
def _work_in(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    monkeypatch.chdir(tmp_path)


def test_a_set_says_which_tasks_it_holds_out(root: Path) -> None:
    split = read_split("dark/tiny-v0")
    assert split == read_split(root / "dark" / "tiny-v0")
    assert (split.env_id, split.options) == ("Darkroom-v0", {"size": 3, "horizon": 5})
    assert (len(split.train), len(split.held_out)) == (4, 3)
    assert len({*split.train, *split.held_out}) == 7


def test_by_default_the_held_out_tasks_of_the_policys_own_set_are_played(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["in-context", str(root / "ad"), str(root / "dt"), "--episodes", "4"]) == 0
    printed = capsys.readouterr().out
    split = read_split("dark/tiny-v0")
    written = json.loads(Path("runs/in-context/ad-and-dt.json").read_text())
    assert written["tasks"] == split.held_out
    room = Darkroom([0], 3, 5)
    assert written["descriptions"] == [room.describe(task) for task in split.held_out]
    for name, policy in (("ad", AD.load(root / "ad")), ("dt", DT.load(root / "dt"))):
        expected = evaluate_in_context(policy, room, split.held_out, 4)
        assert written["returns"][name] == expected.returns.tolist()
        assert expected.optimal is not None
        assert written["optimal"] == expected.optimal.tolist()
        assert written["random"] == expected.random
        said = f"{name}: {expected}" + ("; forgets between episodes" if name == "dt" else "")
        assert said in printed.splitlines()
    assert Path("runs/in-context/ad-and-dt.png").stat().st_size > 5000


def test_other_tasks_of_another_environment_are_played(root: Path) -> None:
    first, second = read_split("dark/tiny-v0").held_out[:2]
    line = f"--env Darkroom-v0 --option size=3 --option horizon=9 --tasks {first} {second}"
    more = "--episodes 2 --sample --seed 5 --quiet --output here/it.png"
    assert main(["in-context", str(root / "ad"), *line.split(), *more.split()]) == 0
    written = json.loads(Path("here/it.json").read_text())
    room = Darkroom([0], 3, 9)
    expected = evaluate_in_context(
        AD.load(root / "ad"), room, [first, second], 2, seed=5, deterministic=False
    )
    assert written["returns"] == {"ad": expected.returns.tolist()}
    assert written["sample"] is True and written["options"] == {"size": 3, "horizon": 9}
    assert Path("here/it.png").is_file()


def test_the_shipped_policy_is_played_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "in-context hub/darkroom --env Darkroom-v0 --option observation=box --tasks 41 25"
    output = str(tmp_path / "it.png")
    assert main([*line.split(), "--episodes", "3", "--quiet", "--output", output]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "darkroom: 'darkroom/search-v0' is not here, so tasks that are played may have been "
        "trained on"
    )
    assert said[1].startswith("darkroom: ") and "(2 tasks x 3 episodes)" in said[1]
    assert list(json.loads((tmp_path / "it.json").read_text())["returns"]) == ["darkroom"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--env Darkroom-v0", "needs --tasks"),
        ("--env Darkroom-v0 --tasks 1 --dataset dark/tiny-v0", "takes the place of --dataset"),
        ("--env CartPole-v1 --tasks 1", "no environment 'CartPole-v1' with tasks"),
        ("--env Darkroom-v0 --tasks 1", "observation space is Discrete(81), but the policy"),
        ("--option size=3", "--option belongs to --env"),
        ("--dataset cartpole/mixed-v0", "is no set of histories"),
        ("--dataset dark/absent", "is no Minari id"),
        ("--episodes 0", "n_episodes must be a whole number of at least 1"),
        ("--output it.jpg", "is no PNG"),
        ("--tasks 9", "task must be from 0 to 8, got 9"),
    ],
)
def test_mistakes_are_named(
    line: str, message: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["in-context", str(root / "ad"), "--quiet", *line.split()]) == 2
    assert message in capsys.readouterr().err
    assert not list(Path().rglob("*.json"))


def test_tasks_that_were_trained_on_are_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = str(read_split("dark/tiny-v0").train[0])
    assert main(["in-context", str(root / "ad"), "--quiet", "--tasks", seen]) == 2
    assert f"task {seen} was trained on" in capsys.readouterr().err
    room = ["--env", "Darkroom-v0", "--option", "size=3", "--tasks", seen, "--quiet"]
    for more in ([], ["--option", "horizon=7"], ["--option", "hard=false"]):  # the same goals
        assert main(["in-context", str(root / "ad"), *room, *more]) == 2
        assert f"task {seen} was trained on" in capsys.readouterr().err
    keys = ["--env", "DarkKeyToDoor-v0", "--option", "size=3", "--tasks", seen, "--quiet"]
    assert main(["in-context", str(root / "ad"), *keys]) == 0  # a task of that number, but another


def test_another_set_of_the_same_name_is_told_of(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["in-context", str(root / "ad"), "--quiet"]) == 0
    assert "may have been trained on" not in capsys.readouterr().out
    make_histories(replace(RECIPE, seed=1), tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    for line in ([], ["--env", "Darkroom-v0", "--option", "size=3", "--tasks", "0"]):
        main(["in-context", str(root / "ad"), "--quiet", *line])
        said = capsys.readouterr().out
        assert "ad: dark/tiny-v0 is not what it was trained on, or not all of it, so tasks" in said


def test_policies_of_different_sets_need_a_set_that_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "ad"
    algorithm = AD(d_model=8, n_heads=2, seed=0)
    room = Darkroom([0], 3, 5)
    algorithm.make_policy(room.observation_space, room.action_space)
    algorithm.save(other)
    both = ["in-context", str(root / "ad"), str(other), "--quiet"]
    assert main(both) == 2
    assert "do not name one set" in capsys.readouterr().err
    assert main([*both, "--dataset", str(root / "dark" / "tiny-v0"), "--output", "it.png"]) == 0
    assert list(json.loads(Path("it.json").read_text())["returns"]) == [
        f"{root.name}/ad",
        f"{tmp_path.name}/ad",
    ]
    assert main(["in-context", str(other), str(other)]) == 2
    assert "named twice" in capsys.readouterr().err


def test_a_set_that_is_not_here_is_not_fetched_but_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert main(["in-context", str(root / "ad"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "'dark/tiny-v0', which the policies were trained on, is not here" in said
    assert "--env Darkroom-v0 --option observation=box --tasks" in said
