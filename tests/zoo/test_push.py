"""`python -m zoo push`, `pull` and `card`: from a training to a hub, and from there to a folder."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from imageio_ffmpeg import count_frames_and_secs

import decision_policies
from decision_policies import AD, DeMa, evaluate_in_context, evaluate_policy
from decision_policies.envs import Darkroom
from tests.fixtures import tiny_algorithm
from tests.fixtures import trained as tiny
from tests.hub.server import Hub
from zoo import card, pull, push
from zoo.__main__ import build_parser
from zoo.experiments import Experiment
from zoo.history_set import Recipe, make_histories, read_split

from .logs_support import trained, zoo

NAME = "alice/dema-cartpole"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return trained(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a policy that belongs to no training of the zoo's."""
    folder = tmp_path_factory.mktemp("saved") / "balancer"
    tiny_algorithm(return_scale=100.0, target_return=300.0).learn("cartpole/mixed-v0", 5).save(
        folder
    )
    return folder


def commits(root: Path, name: str = NAME) -> list[Path]:
    return sorted(p for p in (root / name).iterdir() if p.name != "refs")


def committed(root: Path) -> Path:
    return root / NAME / (root / NAME / "refs" / "main").read_text().strip()


def front(folder: Path) -> str:
    return (folder / "README.md").read_text()


def test_training_is_pushed_with_card_figures_and_replay_and_pulled_as_it_was(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs, root = experiment.folder.parent.parent, tmp_path / "hub"
    line = f"push --algo dema --env CartPole-v1 --load-best {NAME} --episodes 3 --quiet -f {logs}"
    assert zoo(line, "--endpoint", root) == 0
    folder = committed(root)
    said = capsys.readouterr().out
    assert f"pushed: {folder.as_uri()}" in said
    assert (
        f'load it by DeMa.load("{NAME}", endpoint="{root}")' in said
        and f"revision='{folder.name}'" in said
    )
    results = json.loads((folder / "results.json").read_text())
    assert results["seeds"] == [900_000, 900_001, 900_002]
    best = decision_policies.load(experiment.best, device="cpu")
    asked = results["target_return"]
    again = evaluate_policy(best, "CartPole-v1", 3, seed=900_000, target_return=asked)
    assert results["returns"] == again.returns.tolist()
    text = front(folder)
    assert "The command was\n\n```\npython -m zoo train --algo dema" in text
    assert "The last policy of the training, after 6 updates, earned" in text
    assert "The best policy of the training, after" in text
    frames, _ = count_frames_and_secs(str(folder / "replay.mp4"))
    assert frames == results["lengths"][0] + 1, "the first of the episodes"
    assert zoo(f"pull {NAME} --endpoint {root} --output", tmp_path / "pulled") == 0
    for name in ("config.json", "model.safetensors", "manifest.json", "README.md"):
        assert (tmp_path / "pulled" / name).read_bytes() == (folder / name).read_bytes()
    assert "DeMa after" in capsys.readouterr().out


def test_pushed_again_it_is_there_already(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"push {experiment.last} {NAME} --episodes 2 --quiet --endpoint {tmp_path}"
    assert zoo(line) == 0
    assert (committed(tmp_path) / "replay.mp4").exists()
    assert zoo(line) == 0
    assert "there already: file://" in capsys.readouterr().out
    assert len(commits(tmp_path)) == 1


def test_pinned_commit_is_pulled_after_a_newer_one_was_pushed(
    balancer: Path, tmp_path: Path
) -> None:
    root, other = tmp_path / "hub", tmp_path / "other"
    decision_policies.load(balancer).learn("cartpole/mixed-v0", 1).save(other)
    quick = f"{NAME} --episodes 0 --endpoint {root}"
    assert zoo(f"push {balancer} {quick}") == 0
    first = committed(root).name
    assert zoo(f"push {other} {quick}") == 0
    assert zoo(f"pull {NAME} --revision {first} --endpoint {root} -o", tmp_path / "old") == 0
    assert zoo(f"pull {NAME} --endpoint {root} -o", tmp_path / "new") == 0
    old, new, were = (
        (folder / "model.safetensors").read_bytes()
        for folder in (tmp_path / "old", tmp_path / "new", balancer)
    )
    assert old == were != new


def test_branch_that_was_pushed_to_is_in_the_line_that_loads_it(
    balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zoo(f"push {balancer} {NAME} --episodes 0 --revision dev --endpoint", tmp_path) == 0
    said = capsys.readouterr().out
    assert f'load it by DeMa.load("{NAME}", endpoint="{tmp_path}", revision="dev")' in said


def test_policy_without_an_environment_is_pushed_without_playing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny().save(tmp_path / "tiny")
    line = f"push {tmp_path / 'tiny'} {NAME} --quiet --endpoint {tmp_path / 'hub'}"
    assert zoo(line) == 2
    assert "names no environment to act in" in (said := capsys.readouterr().err)
    assert "or play nothing: --episodes 0" in said and not (tmp_path / "hub").exists()
    assert zoo(line + " --episodes 0") == 0
    assert "Nothing was measured" in front(committed(tmp_path / "hub"))
    assert not (committed(tmp_path / "hub") / "results.json").exists()


def test_pushing_works_where_no_replay_can_be_made(
    balancer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(push, "find_spec", lambda name: None)
    assert zoo(f"push {balancer} {NAME} --episodes 1 --quiet --endpoint {tmp_path}") == 0
    assert "no replay: it needs imageio-ffmpeg, pip install" in capsys.readouterr().out
    assert not (committed(tmp_path) / "replay.mp4").exists()
    assert "replay.mp4" not in front(committed(tmp_path))


def test_environment_that_draws_nothing_costs_the_replay_only(
    balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Undrawn(gym.Wrapper):  # type: ignore[type-arg]
        metadata = {"render_modes": []}  # noqa: RUF012 - as gymnasium has it

    def make(**options: Any) -> gym.Env[Any, Any]:
        return Undrawn(gym.make("CartPole-v1", **options))

    gym.register("Undrawn-v0", make)
    try:
        line = f"push {balancer} {NAME} --env Undrawn-v0 --episodes 1 --quiet --endpoint"
        assert zoo(line, tmp_path) == 0
    finally:
        del gym.registry["Undrawn-v0"]
    assert "no replay: the environment cannot be rendered" in capsys.readouterr().out
    assert "# DeMa on Undrawn-v0" in front(committed(tmp_path))


def test_push_to_a_server_and_load_by_name_acts_bit_equal(
    balancer: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    with Hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        line = f"push {balancer} {NAME} --episodes 2 --no-video --private --message Hello --quiet"
        assert zoo(line) == 0
        found = hub.repositories[NAME]
        assert found.private and found.commits[found.branches["main"]].title == "Hello"
        loaded = DeMa.load(NAME, device="cpu", cache_dir=tmp_path)
    played = evaluate_policy(loaded, "CartPole-v1", 2, seed=900_000)
    results = json.loads(hub.blobs[found.files("main")["results.json"].key])
    np.testing.assert_array_equal(played.returns, results["returns"])


@pytest.mark.parametrize("verb", ["push {} a/b --endpoint {}/hub", "card {} --output {}/card"])
def test_no_data_set_is_fetched_because_a_checkpoint_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("minari.download_dataset", asked.append)
    saved = DeMa.load("hub/cartpole", device="cpu")
    assert saved.source.dataset == "sb3zoo/cartpole/mixed-v0", "which is not here"
    saved.save(tmp_path / "saved", training_state=False)
    assert zoo(f"{verb.format(tmp_path / 'saved', tmp_path)} --episodes 0") == 0
    assert not asked


def test_policy_that_learns_in_context_is_measured_at_the_tasks_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    room = {"size": 3, "horizon": 5}
    sizes: dict[str, Any] = {"tasks": 7, "held_out": 3, "episodes": 4, "keep": 3}
    recipe = Recipe("Darkroom-v0", "dark/tiny-v0", learner="noise", options=room, **sizes)
    data = make_histories(recipe, tmp_path)
    policy = AD(d_model=8, n_heads=2, n_layers=1, seed=0).learn(data, 2)
    policy.save(tmp_path / "ad")
    root = tmp_path / "hub"
    line = f"push {tmp_path / 'ad'} {NAME} --episodes 4 --deterministic --quiet --endpoint {root}"
    assert zoo(line) == 0
    held_out = read_split("dark/tiny-v0").held_out
    played = evaluate_in_context(policy, Darkroom([0], 3, 5), held_out, 4, seed=900_000)
    results = json.loads((committed(root) / "results.json").read_text())
    assert results["returns"] == played.returns[:, -1].tolist()
    assert "lengths" not in results and results["environment_options"] == room
    text = front(committed(root))
    assert f"played for many episodes on end: {played}. The optimum there is" in text
    assert results["tasks"] == held_out
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    assert f"size=3, horizon=5, task={held_out[0]}" in code
    monkeypatch.setenv("DECISION_POLICIES_HUB", str(root))
    capsys.readouterr()
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20 and lines[-1].startswith("episode 20: return ")


def test_policy_that_remembers_episodes_of_one_task_is_measured_by_the_last_of_several(
    tmp_path: Path,
) -> None:
    policy = AD(d_model=8, n_heads=2, n_layers=1, seed=0).learn("cartpole/mixed-v0", 2)
    policy.save(tmp_path / "ad")
    root = tmp_path / "hub"
    line = f"push {tmp_path / 'ad'} {NAME} --episodes 3 --no-video --quiet --endpoint {root}"
    assert zoo(line) == 0
    played = evaluate_in_context(
        policy, lambda _: gym.make("CartPole-v1"), range(3), n_episodes=10, seed=900_000
    )
    results = json.loads((committed(root) / "results.json").read_text())
    assert results["returns"] == played.returns[:, -1].tolist()
    assert results["seeds"] == [900_000, 900_001, 900_002] and "tasks" not in results
    each = ", ".join(f"{mean:.0f}" for mean in played.mean)
    assert f"10 were played on end, which earned {each} on average." in front(committed(root))


def test_card_is_printed_or_written_and_measures_unless_told_not_to(
    balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zoo(f"card {balancer} --episodes 0 --repo-id {NAME}") == 0
    text = capsys.readouterr().out
    assert text.startswith("---\nlibrary_name: decision-policies\n")
    assert f'DeMa.load("{NAME}")' in text and "Nothing was measured" in text
    path = tmp_path / "new" / "README.md"
    assert zoo(f"card {balancer} --episodes 2 --quiet --output", path) == 0
    assert capsys.readouterr().out == f"written: {path}\n"
    assert f'DeMa.load("{balancer}")' in path.read_text()
    assert "| episodes | 2, with the seeds 900000, 900001 |" in path.read_text()
    assert not (balancer / "README.md").exists(), "a saved policy stays as it is"


def test_card_of_a_pulled_policy_tells_the_figures_that_came_with_it(
    balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zoo(f"push {balancer} {NAME} --episodes 2 --no-video --quiet --endpoint", tmp_path) == 0
    folder, before = committed(tmp_path), front(committed(tmp_path))
    capsys.readouterr()
    assert zoo(f"card {folder} --episodes 0 --repo-id {NAME}") == 0
    assert capsys.readouterr().out == before
    (folder / "results.json").write_text('{"mean_reward": "high"}')
    assert zoo(f"card {folder} --episodes 0") == 2
    assert "results.json is not as `push` writes it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("push {saved} nobody --endpoint {new}", "is no name of a repository: write 'owner/name'"),
        ("push {saved} a/b --inference window --endpoint {new}", "--inference changes nothing"),
        ("push {saved} a/b --episodes -1 --endpoint {new}", "--episodes is -1; 0 plays none"),
        ("push {new} a/b --endpoint {new}", "no checkpoint at"),
        ("pull a/b --endpoint {new}", "no repository a/b in the hub"),
        ("pull a/b --endpoint {new} --output {saved}", "is there already: choose another place"),
    ],
)
def test_wrong_words_are_answered_in_a_line(
    balancer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    assert zoo(words.format(saved=balancer, new=tmp_path / "new")) == 2
    assert message in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_zip_is_not_pulled_but_loaded(
    balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DeMa.load(balancer).save(tmp_path / "some.zip")
    assert zoo(f"pull {tmp_path}/some.zip --output {tmp_path}/pulled") == 2
    assert "some.zip is a zip, and here already: load it" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_damaged_policy_is_not_pulled(balancer: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "hub"
    assert zoo(f"push {balancer} {NAME} --episodes 0 --endpoint", root) == 0
    damaged = bytearray((committed(root) / name).read_bytes())
    damaged[-3] ^= 1
    (committed(root) / name).write_bytes(bytes(damaged))
    assert zoo(f"pull {NAME} --endpoint {root} --output", tmp_path / "pulled") == 2
    assert [p.name for p in tmp_path.iterdir()] == ["hub"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_out_of_a_folder_hub_are_not_followed_by_pull(
    balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    root, secret = tmp_path / "hub", tmp_path / "secret"
    assert zoo(f"push {balancer} {NAME} --episodes 0 --endpoint", root) == 0
    secret.mkdir()
    (secret / "key").write_text("mine")
    (committed(root) / "notes").symlink_to(secret if kind == "folder" else secret / "key")
    assert zoo(f"pull {NAME} --endpoint {root} --output", tmp_path / "pulled") == 2
    assert "notes is a link that leaves the checkpoint folder" in capsys.readouterr().err
    assert not (tmp_path / "pulled").exists()


@pytest.mark.parametrize("verb", [push, pull, card])
def test_examples_of_the_help_are_understood(verb: Any) -> None:
    name = verb.__name__.rpartition(".")[2]
    text = verb.EXAMPLES.replace("\\\n", " ")
    lines = re.findall(r"^ +python -m zoo (.+)$", text, re.MULTILINE)
    assert len(lines) >= 2
    for line in lines:
        parsed = build_parser(name).parse_args(shlex.split(line))
        assert parsed.verb == name
