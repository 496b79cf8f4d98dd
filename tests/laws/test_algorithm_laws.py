"""Laws of algorithms: same seed, same learning; saved, loaded or interrupted, still the same."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import CheckpointCallback

import decision_policies
from decision_policies import DeMa
from decision_policies.data import SegmentSampler, WindowSampler
from decision_policies.learning.training import Training
from tests.laws.cases import MODES, SPACES, VARIANTS, dema, sample, trajectories, windows


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {**VARIANTS[request.param], "dropout": 0.1}


@pytest.fixture(params=SPACES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def weights(algorithm: DeMa) -> dict[str, torch.Tensor]:
    assert algorithm.policy is not None
    return algorithm.policy.model.state_dict()


def same_weights(a: DeMa, b: DeMa) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def losses_of(algorithm: DeMa, kind: str, updates: int, **options: Any) -> list[float]:
    curve = []

    def note(local: dict[str, Any], _: dict[str, Any]) -> bool:
        curve.append(float(local["losses"]["loss"].detach()))
        return True

    algorithm.learn(trajectories(kind), updates, callback=note, **options)
    return curve


def test_the_same_seed_gives_a_bit_equal_loss_curve(kind: str, variant: dict[str, Any]) -> None:
    first, second = dema(**variant), dema(**variant)
    assert losses_of(first, kind, 6) == losses_of(second, kind, 6)
    assert same_weights(first, second)
    other = dema(**{**variant, "seed": 1})
    assert losses_of(other, kind, 6) != losses_of(dema(**variant), kind, 6)


def test_learning_and_acting_leave_the_global_generators_alone(variant: dict[str, Any]) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the legacy global generator is what must stay untouched
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index, union-attr]  # noqa: NPY002
    algorithm = dema(**variant, device="cpu").learn(trajectories("box-discrete"), 3)
    algorithm.predict(np.zeros((2, 2), np.float32), deterministic=False)
    dema(**{**variant, "seed": None}).learn(trajectories("box-discrete"), 2)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index, union-attr]  # noqa: NPY002
    assert before[0] == after[0]
    assert before[1] == after[1]
    assert torch.equal(before[2], after[2])


def test_interrupted_saved_loaded_and_resumed_equals_uninterrupted(
    kind: str, variant: dict[str, Any], tmp_path: Path
) -> None:
    variant = {**variant, "learning_rate": "lin_1e-3"}
    whole = dema(**variant).learn(trajectories(kind), 9)
    part = dema(**variant)
    part.learn(trajectories(kind), 9, callback=lambda local, _: local["self"].num_timesteps < 4)
    assert part.num_timesteps == 4
    part.save(tmp_path / "part")
    resumed = DeMa.load(tmp_path / "part", device="cpu")
    resumed.save(tmp_path / "again")  # untouched, it keeps what a resume needs
    resumed = DeMa.load(tmp_path / "again", device="cpu")
    resumed.learn(trajectories(kind), 5, reset_num_timesteps=False)
    assert resumed.num_timesteps == 9
    assert same_weights(whole, resumed)


def test_a_checkpoint_saved_during_training_resumes_exactly(
    kind: str, variant: dict[str, Any], tmp_path: Path
) -> None:
    whole = dema(**variant).learn(
        trajectories(kind), 9, callback=CheckpointCallback(4, str(tmp_path), "at")
    )
    resumed = DeMa.load(tmp_path / "at_4_steps", device="cpu")
    resumed.learn(trajectories(kind), 5, reset_num_timesteps=False)
    assert same_weights(whole, resumed)


def test_ctrl_c_keeps_what_was_learnt_and_can_be_resumed(variant: dict[str, Any]) -> None:
    def interrupt(local: dict[str, Any], _: dict[str, Any]) -> bool:
        if local["self"].num_timesteps == 4:
            raise KeyboardInterrupt
        return True

    whole = dema(**variant).learn(trajectories(), 9)
    part = dema(**variant)
    with pytest.warns(UserWarning, match="interrupted after 4 of 9 updates"):
        part.learn(trajectories(), 9, callback=interrupt)
    assert part.predict(np.zeros(3, np.float32))[0].shape == (2,)
    part.learn(part._training.sampler.trajectories, 5, reset_num_timesteps=False)  # type: ignore[union-attr]
    assert same_weights(whole, part)


def test_ctrl_c_in_the_middle_of_an_update_lets_it_finish(
    variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = dema(**variant).learn(trajectories(), 9), dema(**variant)
    losses = Training.losses

    def press(self: Training, *arguments: Any) -> Any:
        if part.num_timesteps == 3:
            signal.raise_signal(signal.SIGINT)
        return losses(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "losses", press)
        with pytest.warns(UserWarning, match="interrupted after 4 of 9 updates"):
            part.learn(trajectories(), 9)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    part.learn(trajectories(), 5, reset_num_timesteps=False)
    assert same_weights(whole, part)


ACT = """
import sys, numpy as np, torch
torch.set_num_threads(1)
import decision_policies
data, actions = np.load(sys.argv[2]), []
for folder in sys.argv[4:]:
    policy = decision_policies.load(folder, device="cpu").policy
    for mode in ("window", "recurrent", "staggered"):
        fork = policy.fork(inference=mode)
        actions += [fork.predict(o, reward=None if t == 0 else 0.5)[0] for t, o in enumerate(data)]
np.save(sys.argv[3], np.array(actions))
"""


def test_a_new_process_loads_and_acts_bit_equal(kind: str, tmp_path: Path) -> None:
    observations = sample(np.random.default_rng(0), SPACES[kind][0], 15)
    np.save(tmp_path / "observations.npy", observations)
    here, folders = [], []
    for name, options in VARIANTS.items():
        algorithm = dema(**options).learn(trajectories(kind), 5)
        algorithm.save(tmp_path / name)
        folders.append(str(tmp_path / name))
        assert algorithm.policy is not None
        for mode in MODES:
            fork = algorithm.policy.fork(inference=mode)
            for t, observation in enumerate(observations):
                here.append(fork.predict(observation, reward=None if t == 0 else 0.5)[0])
    files = [str(tmp_path / f) for f in ("observations.npy", "actions.npy")]
    command = [sys.executable, "-W", "error", "-c", ACT, "-", *files, *folders]
    subprocess.run(command, check=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "actions.npy"), np.array(here))


def test_load_finds_the_class_by_itself(tmp_path: Path) -> None:
    dema().learn(trajectories(), 1).save(tmp_path / "saved")
    assert type(decision_policies.load(tmp_path / "saved")) is DeMa


def test_one_batch_can_be_learnt_by_heart(kind: str, variant: dict[str, Any]) -> None:
    algorithm = dema(**{**variant, "dropout": 0.0})
    policy = algorithm.make_policy(*SPACES[kind], return_scale=3.0)
    window = windows(kind, 4, 6)
    optimizer = torch.optim.Adam(policy.model.parameters(), 1e-2)
    curve = []
    for _ in range(150):
        loss = policy.model.loss(policy.model(window)[0], window)["loss"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        curve.append(float(loss.detach()))
    assert curve[-1] < 0.05 * curve[0] + 1e-3


def test_learning_lowers_the_loss_and_the_counter_goes_on() -> None:
    algorithm = dema(learning_rate=1e-2)
    curve = losses_of(algorithm, "box-discrete", 60)
    assert np.mean(curve[-10:]) < np.mean(curve[:10])
    assert algorithm.num_timesteps == 60
    losses_of(algorithm, "box-discrete", 5, reset_num_timesteps=False)
    assert algorithm.num_timesteps == 65
    losses_of(algorithm, "box-discrete", 5)
    assert algorithm.num_timesteps == 5


def test_the_kind_chooses_the_sampler() -> None:
    data = trajectories()
    assert type(dema()._sampler(data)) is WindowSampler
    assert type(dema(kind="rnn")._sampler(data)) is SegmentSampler
