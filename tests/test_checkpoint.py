"""Checkpoints: what is saved comes back bit for bit, and whatever else lies there is refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import decision_policies
from decision_policies import DeMa, checkpoint
from decision_policies.errors import CheckpointError, CheckpointVersionError
from decision_policies.strict_json import MAX_JSON
from tests.fixtures import forge, reseal, tiny_trajectories, trained

FILES = (
    "config.json",
    "manifest.json",
    "model.safetensors",
    "training/tensors.safetensors",
    "training/values.json",
)
OBSERVATIONS = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)


def acts(algorithm: DeMa) -> bytes:
    """Actions along a fixed stream of observations, to the last bit."""
    algorithm.reset()
    actions = []
    for observation in OBSERVATIONS:
        actions.append(algorithm.predict(observation)[0])
        algorithm.observe(0.25)
    return np.stack(actions).tobytes()


@pytest.mark.parametrize("training_state", [True, False])
def test_what_is_saved_comes_back_bit_for_bit(training_state: bool, tmp_path: Path) -> None:
    algorithm = trained(layout="BL3D", target_return=3.5)
    algorithm.save(tmp_path / "policy", training_state=training_state)
    for loaded in (
        DeMa.load(tmp_path / "policy"),
        DeMa.load(str(tmp_path / "policy.zip")),  # as a checkpoint in one file would be called
        decision_policies.load(tmp_path / "policy"),
    ):
        assert isinstance(loaded, DeMa)
        assert loaded.hyperparameters() == algorithm.hyperparameters()
        assert loaded.source == algorithm.source
        assert loaded.num_timesteps == 3
        assert loaded.policy is not None
        assert algorithm.policy is not None
        assert loaded.policy.spec == algorithm.policy.spec
        assert acts(loaded) == acts(algorithm)
    names = {str(p.relative_to(tmp_path / "policy")) for p in (tmp_path / "policy").rglob("*.*")}
    assert names == set(FILES if training_state else FILES[:3])
    assert [p.name for p in tmp_path.iterdir()] == ["policy"], "nothing is left beside it"


def test_weights_are_put_on_the_device_that_load_is_told(saved: Path) -> None:
    for load in (DeMa.load, decision_policies.load):
        policy = load(saved, device="meta").policy
        assert policy is not None
        assert {weight.device.type for weight in policy.model.state_dict().values()} == {"meta"}
        with pytest.raises(RuntimeError, match="device"):
            load(saved, device="gpu")


def test_another_process_acts_the_same_to_the_last_bit(saved: Path) -> None:
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from tests.test_checkpoint import acts, DeMa\n"
        "sys.stdout.write(acts(DeMa.load(sys.argv[1])).hex())"
    )
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", script, str(saved)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert bytes.fromhex(done.stdout) == acts(DeMa.load(saved))


def test_nothing_at_the_place_is_a_missing_file(tmp_path: Path) -> None:
    for load in (DeMa.load, decision_policies.load):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent"):
            load(tmp_path / "absent")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, saved: Path) -> None:
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        DeMa.load(saved)


@pytest.mark.parametrize("name", FILES)
def test_truncation_anywhere_is_caught(name: str, saved: Path) -> None:
    content = (saved / name).read_bytes()
    end = len(content) - (name == "manifest.json")  # its final newline says nothing
    for length in {*range(0, end, end // 40 + 1), 1, 7, 8, end - 1}:
        (saved / name).write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=name):
            DeMa.load(saved)
    (saved / name).write_bytes(content + b"\n" * (name != "manifest.json"))
    if name != "manifest.json":
        with pytest.raises(CheckpointError, match=f"{name} is larger than"):
            DeMa.load(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_caught(name: str, saved: Path) -> None:
    content = (saved / name).read_bytes()
    rng = np.random.default_rng(0)
    every = 2 if name == "manifest.json" else len(content) // 80 + 1
    for place in range(0, len(content), every):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        (saved / name).write_bytes(flipped)
        with pytest.raises(CheckpointError):
            DeMa.load(saved)
    (saved / name).write_bytes(content)
    DeMa.load(saved)


@dataclass(kw_only=True, eq=False)
class Other(DeMa):
    """A system of another name."""


def test_a_checkpoint_of_another_class_names_both(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'DeMa' policy, not a Other; use DeMa.load"):
        Other.load(saved)


@pytest.mark.parametrize("name", ["Unknown", ["DeMa"], None, {"os": "system"}])
def test_an_unknown_algorithm_is_named_and_never_imported(name: Any, saved: Path) -> None:
    forge(saved, {"algorithm": name})
    known = r"unknown algorithm .*known are AD, BC, DC, DM, DMM, DT, DMHybrid, DeMa, MambaDM"
    with pytest.raises(CheckpointError, match=known):
        decision_policies.load(saved)


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_a_newer_format_names_both_versions(name: str, saved: Path) -> None:
    data = json.loads((saved / name).read_text())
    data.update(format_version=2, library_version="9.8.7", novelty=[1])
    (saved / name).write_text(json.dumps(data))
    if name == "config.json":
        reseal(saved)
    expected = rf"decision_policies 9.8.7 in format 2; this is {decision_policies.__version__}.* 1:"
    with pytest.raises(CheckpointVersionError, match=expected):
        DeMa.load(saved)


@pytest.mark.parametrize("version", [0, -1, 1.0, True, "1", None, [1]])
def test_a_format_that_never_was_is_refused(version: Any, saved: Path) -> None:
    forge(saved, {"format_version": version})
    with pytest.raises(CheckpointError, match="format_version is"):
        DeMa.load(saved)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.trace, "it ran")


def pickled(path: Path, payload: Payload) -> None:
    path.write_bytes(pickle.dumps(payload))


def zipped(path: Path, payload: Payload) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(payload))


def torch_saved(path: Path, payload: Payload) -> None:
    torch.save({"weight": payload}, path)


def old_torch_saved(path: Path, payload: Payload) -> None:
    torch.save({"weight": payload}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("file", ["model.safetensors", "training/tensors.safetensors"])
@pytest.mark.parametrize("write", [pickled, zipped, torch_saved, old_torch_saved])
def test_a_pickle_is_never_read(
    write: Callable[[Path, Payload], None], file: str, saved: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    write(saved / file, Payload(trace))
    reseal(saved)
    kind = "zip" if write in (zipped, torch_saved) else "pickle"
    with pytest.raises(CheckpointError, match=f"safetensors.*it is a {kind}"):
        DeMa.load(saved)
    assert not trace.exists()
    if write is pickled:  # the payload is live: unpickling it would have left its trace
        pickle.loads((saved / file).read_bytes())
        assert trace.read_text() == "it ran"


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (pickled, r"is a file: it is a pickle, .*; a checkpoint is a folder, or the zip that"),
        (zipped, r"holds 'data.pkl', which no checkpoint has: it is a zip of something else"),
        (torch_saved, r"is a zip|holds '.*data.pkl', which no checkpoint has"),
    ],
)
def test_a_file_in_the_place_of_the_folder_is_named(
    write: Callable[[Path, Payload], None], words: str, tmp_path: Path
) -> None:
    write(tmp_path / "model.zip", Payload(tmp_path / "trace"))
    with pytest.raises(CheckpointError, match=words):
        DeMa.load(tmp_path / "model.zip")
    assert not (tmp_path / "trace").exists()


def test_weights_that_do_not_fit_the_config_are_listed(saved: Path) -> None:
    forge(saved, {"hyperparameters.d_model": 32})
    with pytest.raises(CheckpointError, match="config says F32") as caught:
        DeMa.load(saved)
    lines = str(caught.value).splitlines()
    assert len(lines) == 7
    assert "does not fit its config" in lines[0]
    assert all("config says F32 [" in line and "file has F32 [" in line for line in lines[1:6])
    assert lines[6].startswith("  and ")


WEIGHTS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "missing": (lambda w: w.pop("norm.weight"), r"norm.weight: .* F32 \[16\], file has nothing"),
    "added": (lambda w: w.update(more=torch.ones(3)), r"more: config says nothing.* F32 \[3\]"),
    "half": (lambda w: w.update({"norm.weight": torch.ones(16).half()}), "file has F16"),
    "nan": (lambda w: w["norm.weight"][3:5].fill_(float("nan")), "2 of 16 .*'norm.weight'.*finite"),
    "infinite": (lambda w: w["norm.bias"][3].fill_(-float("inf")), "1 of 16 .*'norm.bias'"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_forged_weights_are_refused(name: str, saved: Path) -> None:
    change, message = WEIGHTS[name]
    weights = safetensors.torch.load_file(saved / "model.safetensors")
    change(weights)
    safetensors.torch.save_file(weights, saved / "model.safetensors")
    reseal(saved)
    with pytest.raises(CheckpointError, match=message):
        DeMa.load(saved)


def test_a_weight_that_is_not_finite_is_not_saved(saved: Path, tmp_path: Path) -> None:
    algorithm = DeMa.load(saved)
    before = acts(algorithm)
    assert algorithm.policy is not None
    with torch.no_grad():
        next(algorithm.policy.model.parameters()).view(-1)[0] = float("nan")
    for place in (saved, tmp_path / "new"):
        with pytest.raises(CheckpointError, match=r"saving .* 1 of .* are not finite"):
            algorithm.save(place)
    assert [p.name for p in tmp_path.iterdir()] == ["policy"]
    assert acts(DeMa.load(saved)) == before


def test_saving_again_replaces_the_checkpoint(saved: Path, tmp_path: Path) -> None:
    algorithm = DeMa.load(saved)
    algorithm.learn(tiny_trajectories(False), 3)
    (tmp_path / "link").symlink_to(saved, target_is_directory=True)
    algorithm.save(tmp_path / "link", training_state=False)
    assert (tmp_path / "link").is_symlink()
    assert acts(DeMa.load(saved)) == acts(algorithm)
    assert sorted(p.name for p in saved.iterdir()) == sorted(FILES[:3])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "policy"]


@pytest.mark.parametrize("extra", [["notes.txt"], ["config.json"], ["a.json", "config.json"]])
def test_a_folder_that_is_no_checkpoint_is_not_overwritten(
    extra: list[str], saved: Path, tmp_path: Path
) -> None:
    algorithm, place = DeMa.load(saved), tmp_path / "mine"
    place.mkdir()
    for name in extra:
        (place / name).write_text("{}")
    with pytest.raises(CheckpointError, match="mine is there already and is no checkpoint"):
        algorithm.save(place)
    assert sorted(p.name for p in place.iterdir()) == extra
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="file is there already"):
        algorithm.save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_that_a_user_put_into_a_checkpoint_is_not_deleted(saved: Path) -> None:
    algorithm = DeMa.load(saved)
    (saved / "training" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"more than a checkpoint \(training/notes.txt\)"):
        algorithm.save(saved)
    assert (saved / "training" / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    DeMa.load(saved).save(tmp_path / "empty")
    DeMa.load(tmp_path / "empty")


def test_what_would_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    place = tmp_path / "big"
    with pytest.raises(CheckpointError, match=r"config.json would have .* bytes, more than"):
        checkpoint.write(place, {"spec": "x" * MAX_JSON}, {})
    assert not place.exists()
