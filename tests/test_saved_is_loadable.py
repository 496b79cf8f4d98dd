"""Whatever `save` writes, `load` reads; what it could not read is not written."""

from __future__ import annotations

from pathlib import Path

import pytest

from decision_policies import DeMa, Trajectories
from decision_policies.data.trajectories import Source
from decision_policies.errors import CheckpointError
from tests.laws.cases import SPACES, dema, trajectories


def test_whole_reference_scores_are_read_back(tmp_path: Path) -> None:
    episodes = [{"observations": [0, 1], "actions": [0, 1], "rewards": [1.0, 0.0]}]
    source = Source("mine", reference_scores=(0, 100))
    data = Trajectories.from_episodes(episodes, *SPACES["discrete-discrete"], source=source)
    dema().learn(data, 1).save(tmp_path / "saved")
    assert DeMa.load(tmp_path / "saved", device="cpu").source.reference_scores == (0, 100)


def test_a_schedule_that_starts_at_nothing_is_kept_by_its_largest_rate(tmp_path: Path) -> None:
    algorithm = dema(learning_rate=lambda remaining: 1e-3 * (1 - remaining)).learn(
        trajectories(), 2
    )
    with pytest.warns(UserWarning, match="its largest value is kept"):
        algorithm.save(tmp_path / "saved")
    assert DeMa.load(tmp_path / "saved", device="cpu").learning_rate == 1e-3


def test_changed_hyper_parameters_are_refused_at_save_rather_than_at_load(tmp_path: Path) -> None:
    algorithm = dema().learn(trajectories(), 1)
    algorithm.save(tmp_path / "saved")
    algorithm.d_model = 32
    with pytest.raises(CheckpointError, match="changed after the policy was made"):
        algorithm.save(tmp_path / "saved")
    assert DeMa.load(tmp_path / "saved", device="cpu").d_model == 16


def test_the_log_folder_of_another_machine_is_not_taken_over(tmp_path: Path) -> None:
    algorithm = dema(tensorboard_log=str(tmp_path / "logs")).learn(trajectories(), 1)
    algorithm.logger.close()
    algorithm.save(tmp_path / "saved")
    assert DeMa.load(tmp_path / "saved", device="cpu").tensorboard_log is None
