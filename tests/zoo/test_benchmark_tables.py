"""The tables: what they mean, that the committed ones hold, and what wrong ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.tables import FOLDER, PEER_PREFIX, Tables

from .benchmark_support import SET, write_tables


def test_committed_tables_are_valid_for_every_system_and_set() -> None:
    tables = Tables.read()
    assert SET in tables.datasets
    own = [label for label in tables.labels if not tables.classes[label].startswith(PEER_PREFIX)]
    assert "DeMa" in own and "BC-10%" in own and "d3rlpy-DT" in tables.labels
    for label in tables.labels:
        for dataset in tables.datasets:
            if not tables.leaves_out(label, dataset):
                recipe = tables.recipe(label, dataset)
                assert recipe.plan.checkpoints()[-1] == recipe.plan.updates
    assert {path.stem for path in FOLDER.glob("*.yml")} >= {"datasets", "dema"}


def test_own_block_goes_before_default_and_plan(tmp_path: Path) -> None:
    tables = write_tables(
        tmp_path,
        datasets="default: {updates: 9, evaluate_every: 4, episodes: 3}\na-v0: {targets: [2, 1]}\n",
        tiny="label: T\nclass: DeMa\ndefault: {d_model: 8, n_layers: 1, episodes: 4}\n"
        "a-v0: {d_model: 16, updates: 7, deterministic: false}\n",
    )
    recipe = tables.recipe("T", "a-v0")
    assert recipe.hyperparameters == {"d_model": 16, "n_layers": 1}
    assert (recipe.plan.updates, recipe.plan.episodes, recipe.plan.targets) == (7, 4, (2, 1))
    assert not recipe.plan.deterministic
    assert recipe.plan.checkpoints() == [4, 7]
    assert tables.recipe("T", "a-v0", updates=4).plan.checkpoints() == [4]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("d_modell: 8", "unknown key 'd_modell'; did you mean 'd_model'"),
        ("update: 8", "unknown key 'update'; did you mean 'updates'"),
        ("zzzz: 8", "unknown key 'zzzz'; known are context_length, "),
        ("d_model: wide", r"DeMa\(d_model=...\) must be int, got 'wide'"),
        ("d_model: 0", r"d_model=...\) must be from 1 to 8192, got 0"),
        ("updates: 0", "updates must be a whole number of at least 1, got 0"),
        ("evaluate_every: yes", "evaluate_every must be a whole number of at least 1, got True"),
        ("targets: []", r"targets must be a list of numbers, got \[\]"),
        ("targets: [high]", "targets must be a list of numbers"),
        ("deterministic: 1", "deterministic must be true or false, got 1"),
        ("modes: [windows]", "modes must be among window, recurrent, staggered; got 'windows'"),
    ],
)
def test_wrong_key_or_value_is_told_where_it_stands(
    block: str, message: str, tmp_path: Path
) -> None:
    tables = write_tables(tmp_path, tiny=f"label: T\nclass: DeMa\n{SET}: {{{block}}}\n")
    with pytest.raises((TypeError, ValueError), match=f"the table of T, {SET}: .*{message}"):
        tables.recipe("T", SET)


def test_unknown_dataset_lists_those_known(tmp_path: Path) -> None:
    tables = write_tables(tmp_path)
    with pytest.raises(ValueError, match=f"did you mean '{SET}'.*known are {SET}"):
        tables.recipe("Tiny", "cartpole/mixed-v1")


def test_set_without_targets_says_what_is_missing(tmp_path: Path) -> None:
    tables = write_tables(tmp_path, datasets="default: {updates: 3}\na-v0:\n")
    with pytest.raises(ValueError, match="no evaluate_every and no targets is given"):
        tables.recipe("Tiny", "a-v0")


def test_label_of_a_class_that_is_not_there_is_an_error_only_when_it_is_asked_for(
    tmp_path: Path,
) -> None:
    tables = write_tables(tmp_path, later="class: Later\ndefault: {d_model: 8}\n")
    assert tables.labels == ["Tiny"]
    with pytest.raises(ValueError, match=r"class Later, which decision_policies does not have"):
        tables.recipe("Later", SET)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default: {d_model: 8}\n", "names no class"),
        ("- DeMa\n", "is no table"),
        ("class: DeMa\nd_model: 8\n", "'d_model' must be `default` or a dataset"),
    ],
)
def test_file_of_another_form_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_tables(tmp_path, tiny=text)
