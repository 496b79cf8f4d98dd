"""`python -m zoo collect` trains or loads an agent and makes a dataset of it."""

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
import stable_baselines3 as sb3

from zoo import collect as verb
from zoo.__main__ import build_parser, main
from zoo.collect import collect
from zoo.rollout import behaviours

from .support import TINY, assert_equal_data, assert_follows_cartpole, command_line

PPO = replace(TINY, dataset_id="cartpole/ppo-v3", algorithm="ppo", train_steps=600, steps=400)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> minari.MinariDataset:
    return minari.MinariDataset(collect(PPO, tmp_path_factory.mktemp("root")) / "data")


@pytest.fixture
def zipped_agent(tmp_path: Path) -> Path:
    agent = sb3.A2C("MlpPolicy", gym.make("CartPole-v1"), seed=3, device="cpu").learn(10)
    agent.save(tmp_path / "agent.zip")
    return tmp_path / "agent.zip"


def test_every_transition_follows_the_dynamics_from_its_own_observation(
    collected: minari.MinariDataset,
) -> None:
    assert collected.total_steps >= PPO.steps
    assert_follows_cartpole(collected)


def test_an_episode_replays_bit_for_bit_from_its_recorded_seed(
    collected: minari.MinariDataset,
) -> None:
    env = gym.make("CartPole-v1")
    metadata = collected.storage.get_episode_metadata(collected.episode_indices)
    for episode, entry in zip(collected.iterate_episodes(), metadata, strict=True):
        observations = [env.reset(seed=entry["seed"])[0]]
        observations += [env.step(action)[0] for action in episode.actions]
        np.testing.assert_array_equal(np.stack(observations), episode.observations)
    env.close()


def test_metadata_says_how_the_set_was_made(collected: minari.MinariDataset) -> None:
    metadata = collected.storage.metadata
    assert metadata["dataset_id"] == "cartpole/ppo-v3"
    assert metadata["algorithm_name"] == "ppo"
    assert metadata["jpeg_encoding"] is False
    assert collected.env_spec.id == "CartPole-v1"
    names = [block["behaviour"] for block in metadata["recipe"]["blocks"]]
    assert names == [
        "random",
        "ppo after 300 steps, epsilon 0.3",
        "ppo after 2048 steps, epsilon 0.3",
    ]
    text = metadata["description"]
    for stated in [*names, "CartPole-v1", "2048 steps", "Seed 0", f"gymnasium {gym.__version__}"]:
        assert stated in text
    assert sum(block["episodes"] for block in metadata["recipe"]["blocks"]) == len(collected)


def test_reference_scores_normalise_returns(collected: minari.MinariDataset) -> None:
    low, high = (collected.storage.metadata[f"ref_{end}_score"] for end in ("min", "max"))
    assert 8 <= low < high <= 500
    normalised = minari.get_normalized_score(collected, np.array([low, high]))
    np.testing.assert_allclose(normalised, [0.0, 1.0])


def test_namespace_files_are_kept_and_minari_lists_the_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    collect(replace(TINY, dataset_id="outer/inner/tiny-v2"))
    assert minari.namespace.list_local_namespaces() == ["outer", "outer/inner"]
    assert list(minari.list_local_datasets()) == ["outer/inner/tiny-v2"]
    assert len(minari.load_dataset("outer/inner/tiny-v2")) > 0


def test_an_existing_namespace_file_is_left_as_it_is(tmp_path: Path) -> None:
    namespace = tmp_path / "tiny" / "namespace_metadata.json"
    namespace.parent.mkdir()
    namespace.write_text('{"description": "mine"}')
    collect(TINY, tmp_path)
    assert json.loads(namespace.read_text()) == {"description": "mine"}


def test_a_relative_output_folder_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert collect(TINY, Path("here")) == tmp_path / "here" / "tiny" / "cartpole-v0"


def test_same_seed_gives_the_same_data_and_another_seed_does_not(tmp_path: Path) -> None:
    first, second, other = (
        minari.MinariDataset(collect(replace(TINY, seed=seed), tmp_path / str(run)) / "data")
        for run, seed in enumerate((5, 5, 6))
    )
    assert_equal_data(first, second)
    assert not np.array_equal(first[0].observations, other[0].observations)


def test_an_existing_set_is_replaced_only_when_asked(tmp_path: Path) -> None:
    folder = collect(TINY, tmp_path)
    before = (folder / "data" / "main_data.hdf5").read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        collect(replace(TINY, seed=1), tmp_path)
    assert (folder / "data" / "main_data.hdf5").read_bytes() == before
    collect(replace(TINY, seed=1), tmp_path, overwrite=True)
    assert minari.MinariDataset(folder / "data").storage.metadata["recipe"]["seed"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"tiny"}


@pytest.mark.parametrize(
    "bad",
    [
        "cartpole",
        "cartpole/mixed",
        "mixed-v",
        "../mixed-v0",
        "/x/mixed-v0",
        "aa//b-v0",
        "a/b-v0",
        "v0/",
    ],
)
def test_an_id_that_is_not_name_vn_is_refused_before_training(bad: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{bad!r} is not of the form")):
        collect(replace(TINY, dataset_id=bad, train_steps=10**9), tmp_path)


@pytest.mark.parametrize("good", ["mixed-v0", "ab/mixed-v0", "a/b/mixed_x-2-v10"])
def test_every_accepted_id_can_be_written(good: str, tmp_path: Path) -> None:
    folder = collect(replace(TINY, dataset_id=good), tmp_path)
    assert folder == tmp_path / good
    assert minari.MinariDataset(folder / "data").id == good


def test_an_unknown_algorithm_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'dreamer'; known are a2c, ddpg, dqn, ppo, sac, td3"):
        collect(replace(TINY, algorithm="dreamer"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"snapshots": 0}, "snapshots is 0"),
        ({"snapshots": 30}, "snapshots is 30"),
        ({"epsilons": ()}, "probabilities"),
        ({"epsilons": (0.1, 1.5)}, "probabilities"),
        ({"env_id": "CartPoule-v1"}, "CartPoule"),
        ({"algorithm": "sac"}, "sac cannot learn this environment"),
    ],
)
def test_a_mistaken_option_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        collect(replace(TINY, **change), tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_missing_agent_zip_is_named_with_its_suffix(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no agent at .*ghost\.zip"):
        collect(replace(TINY, agent=tmp_path / "ghost"), tmp_path)


def test_an_agent_from_a_zip_plays_as_saved(zipped_agent: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, agent=zipped_agent.with_suffix(""), epsilons=(0.0,))
    dataset = minari.MinariDataset(collect(recipe, tmp_path) / "data")
    (block,) = dataset.storage.metadata["recipe"]["blocks"]
    assert block["behaviour"] == "a2c after 10 steps, epsilon 0"
    assert str(tmp_path) not in (tmp_path / "tiny/cartpole-v0/data/metadata.json").read_text()
    assert_follows_cartpole(dataset)


@pytest.mark.parametrize("change", [{"algorithm": "dqn"}, {"env_id": "Pendulum-v1"}])
def test_a_zip_of_another_algorithm_or_environment_is_refused(
    change: dict[str, Any], zipped_agent: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"agent\.zip is not a (dqn|a2c) agent for this"):
        collect(replace(TINY, agent=zipped_agent, **change), tmp_path)


def test_blocks_run_from_random_to_trained_and_from_noisy_to_clean() -> None:
    blocks = behaviours("ppo", [(10, {}), (20, {})], [0.0, 1.0, 0.5, 0.5])
    assert [(block.name, block.epsilon) for block in blocks] == [
        ("random", 1.0),
        ("ppo after 10 steps, epsilon 0.5", 0.5),
        ("ppo after 10 steps, epsilon 0", 0.0),
        ("ppo after 20 steps, epsilon 0.5", 0.5),
        ("ppo after 20 steps, epsilon 0", 0.0),
    ]


def test_blocks_play_equally_many_episodes(collected: minari.MinariDataset) -> None:
    counts = [block["episodes"] for block in collected.storage.metadata["recipe"]["blocks"]]
    assert max(counts) - min(counts) <= 1


def test_the_command_makes_the_same_set_as_the_function_and_sums_it_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_function = minari.MinariDataset(collect(TINY, tmp_path / "function") / "data")
    assert main(command_line(TINY, tmp_path / "command")) == 0
    by_command = minari.MinariDataset(tmp_path / "command" / "tiny" / "cartpole-v0" / "data")
    assert_equal_data(by_function, by_command)
    assert f"{by_function.total_steps} steps" in capsys.readouterr().out


def test_quiet_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*command_line(TINY, tmp_path), "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_the_command_words_a_mistake_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command_line(replace(TINY, dataset_id="cartpole"), tmp_path)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("python -m zoo collect: dataset id 'cartpole'")


def test_collect_does_without_tqdm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert collect(TINY, tmp_path, progress=True).is_dir()


def test_help_lists_the_verbs_and_warns_of_foreign_zips(capsys: pytest.CaptureFixture[str]) -> None:
    for words, wanted in (["--help"], "collect"), (["collect", "--help"], "trust"):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        assert wanted in capsys.readouterr().out


def test_the_examples_in_the_help_parse() -> None:
    lines = verb.EXAMPLES.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line)[3:] for line in lines if line.startswith("    python -m zoo")]
    assert len(commands) == 2
    for words in commands:
        assert build_parser("collect").parse_args(words).env.endswith("-v1")
