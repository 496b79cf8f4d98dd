"""Forged configs: strict JSON, known names, sane sizes, refused before anything is allocated."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from decision_policies import DeMa
from decision_policies.errors import CheckpointError
from tests.fixtures import forge, reseal, tiny_trajectories, trained

HYPER, SPEC = "hyperparameters", "spec"
BOX = "spec.observation_space"

FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt": ({f"{HYPER}.d_modl": 16}, "no hyper-parameter 'd_modl'; did you mean 'd_model'"),
    "strange": ({f"{HYPER}.zzz": 1}, "no hyper-parameter 'zzz'; it has context_length"),
    "bool": ({f"{HYPER}.d_model": True}, r"DeMa\(d_model=...\) must be int, got True"),
    "string": ({f"{HYPER}.n_layers": "2"}, "n_layers.* must be int, got '2'"),
    "list": ({f"{HYPER}.block": ["pre"]}, "block.* must be one of 'pre', 'post'"),
    "range": ({f"{HYPER}.dropout": 2}, "dropout.* from 0.0 to 0.99, got 2"),
    "rate": ({f"{HYPER}.learning_rate": "lin_x"}, "learning_rate must be a positive"),
    "no object": ({HYPER: [1]}, "hyperparameters are no JSON object"),
    "entry": ({"entry": 1}, r"unexpected: \['entry'\]"),
    "count": ({"num_timesteps": -1}, "num_timesteps is -1"),
    "count kind": ({"num_timesteps": True}, "num_timesteps is True"),
    "source": ({"source": {}}, "source entries missing"),
    "source entry": ({"source.digest": 3}, "source.digest is 3, not a string"),
    "scores": ({"source.reference_scores": 3}, "reference_scores are 3"),
    "three scores": ({"source.reference_scores": [1.0, 2.0, 3.0]}, "not two numbers"),
    "spec": ({SPEC: {}}, "spec: entries missing or unexpected"),
    "spec entry": ({f"{SPEC}.more": 1}, "spec: entries missing or unexpected"),
    "length": ({f"{SPEC}.context_length": "4"}, "context_length: bad value '4'"),
    "layout": ({f"{SPEC}.layout": ["B3LD"]}, "layout must be one of"),
    "scale": ({f"{SPEC}.return_scale": 0}, "return_scale must be positive"),
    "scale kind": ({f"{SPEC}.return_scale": "1"}, "return_scale: expected a number"),
    "modalities": ({f"{SPEC}.modalities": "return"}, "modalities: expected a list"),
    "modality": ({f"{SPEC}.modalities": [["return"]]}, "modalities must be among"),
    "space": ({BOX: 3}, "observation_space: expected a JSON object"),
    "space type": ({f"{BOX}.type": "Graph"}, "unknown space type 'Graph'"),
    "space type list": ({f"{BOX}.type": ["Box"]}, "unknown space type"),
    "space dtype": ({f"{BOX}.dtype": "object"}, "unknown dtype 'object'"),
    "space dtype list": ({f"{BOX}.dtype": ["float32"]}, "unknown dtype"),
    "space entry": ({f"{BOX}.more": 1}, r"unexpected entries \['more'\]"),
    "space shape": ({f"{BOX}.shape": [-1]}, "bad size"),
    "space rank": ({f"{BOX}.shape": [1] * 9}, "at most 8"),
    "space size": ({f"{BOX}.shape": [10**6, 10**6]}, "bad size"),
    "space axis": ({f"{BOX}.shape": [3.0]}, "expected an integer, got 3.0"),
    "space bounds": ({f"{BOX}.low": [1.0]}, "1 values for the shape"),
    "space bound": ({f"{BOX}.low": "nan"}, "'nan' is no number"),
    "space order": ({f"{BOX}.low": 2.0, f"{BOX}.high": 1.0}, "not a valid Box"),
    "discrete": (
        {BOX: {"type": "Discrete", "n": 0, "start": 0, "dtype": "int64"}},
        "not a valid Discrete",
    ),
    "discrete n": (
        {BOX: {"type": "Discrete", "n": 2.5, "start": 0, "dtype": "int64"}},
        "expected an integer, got 2.5",
    ),
    "width": ({f"{HYPER}.d_model": 10**9}, "d_model.* from 1 to 8192, got 1000000000"),
    "large": ({f"{HYPER}.d_model": 8192, f"{HYPER}.expand": 16}, "does not fit its config"),
    "deep": ({f"{HYPER}.n_layers": 128, f"{HYPER}.d_state": 1024}, "does not fit its config"),
    "wide": ({f"{BOX}.shape": [1 << 19]}, "does not fit its config"),
    "many": (
        {BOX: {"type": "Discrete", "n": 10**12, "start": 0, "dtype": "int64"}},
        r"observation_space\.n: 1000000000000 is too large",
    ),
}
RAW: dict[str, tuple[str, str, str]] = {
    "key twice": ('"seed": 0', '"seed": 0, "seed": 0', "a key is there twice"),
    "nan": ('"target_return": null', '"target_return": NaN', "NaN is no finite number"),
    "infinity": ('"target_return": null', '"target_return": -Infinity', "-Infinity is no finite"),
    "overflow": ('"target_return": null', '"target_return": 1e999', "1e999 is no finite number"),
    "digits": ('"target_return": null', f'"target_return": {10**400}', "10000.* is no finite"),
    "list": ("{", "[{", "not valid JSON"),
    "depth": ('"seed": 0', '"seed": ' + "[" * 200_000, "not valid JSON"),
    "bytes": ('"seed"', '"se\udcffd"', "not valid JSON"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_config_is_refused(name: str, saved: Path) -> None:
    changes, message = FORGED[name]
    forge(saved, changes)
    with pytest.raises(CheckpointError, match=message):
        DeMa.load(saved)


@pytest.mark.parametrize("name", RAW)
def test_json_that_is_not_strict_is_refused(name: str, saved: Path) -> None:
    old, new, message = RAW[name]
    text = (saved / "config.json").read_text()
    assert old in text
    changed = text.replace(old, new, 1).encode(errors="surrogateescape")
    (saved / "config.json").write_bytes(changed)
    reseal(saved)
    with pytest.raises(CheckpointError, match=message):
        DeMa.load(saved)


MANIFESTS: dict[str, Any] = {
    "no files": {"files": None},
    "unlisted weights": {"files": {"config.json": {"size": 1, "sha256": ""}}},
    "more": {"more": 1},
    "elsewhere": {"files.../../secret": {"size": 1, "sha256": ""}},
    "half a training": {"files.training/values.json": None},
    "size": {"files.config.json.size": 10**18},
    "size beyond all": {"files.model.safetensors.size": 10**200},
    "negative": {"files.config.json.size": -1},
    "size kind": {"files.config.json.size": 1.0},
    "digest kind": {"files.config.json.sha256": 1},
    "version": {"library_version": "0.0.0.1"},
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_forged_manifest_is_refused(name: str, saved: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    for path, value in MANIFESTS[name].items():
        if not path.startswith("files."):
            manifest[path] = value
            continue
        file, _, entry = path.removeprefix("files.").rpartition(".")
        if entry in ("size", "sha256"):
            manifest["files"][file][entry] = value
        elif value is None:
            del manifest["files"][path.removeprefix("files.")]
        else:
            manifest["files"][path.removeprefix("files.")] = value
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"manifest|config.json|truncated"):
        DeMa.load(saved)


VALUES: tuple[dict[str, Any], ...] = ({}, {"sampler": {}}, {"sampler": {}, "data": [], "more": 1})


@pytest.mark.parametrize("values", VALUES)
def test_a_forged_training_state_is_refused(values: dict[str, Any], saved: Path) -> None:
    (saved / "training" / "values.json").write_text(json.dumps(values))
    reseal(saved)
    with pytest.raises(CheckpointError, match="training state has missing or unexpected entries"):
        DeMa.load(saved)


def test_a_training_state_of_another_model_is_refused_when_learning_goes_on(
    saved: Path, tmp_path: Path
) -> None:
    trained(d_model=24).save(tmp_path / "wide")
    name = "training/tensors.safetensors"
    shutil.copy(tmp_path / "wide" / name, saved / name)
    reseal(saved)
    algorithm = DeMa.load(saved)
    with pytest.raises(CheckpointError, match="training state does not fit the model"):
        algorithm.learn(tiny_trajectories(False), 1)


def test_poisoned_sizes_are_refused_before_they_are_allocated(saved: Path, tmp_path: Path) -> None:
    names = ("width", "large", "deep", "wide", "many", "space size")
    for name in names:
        forge(Path(shutil.copytree(saved, tmp_path / name)), FORGED[name][0])
    script = (
        "import resource, sys\n"
        "from decision_policies import DeMa\n"
        "from decision_policies.errors import CheckpointError\n"
        "DeMa.load(sys.argv[1])\n"
        "for folder in sys.argv[2:]:\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    try:\n"
        "        DeMa.load(folder)\n"
        "    except CheckpointError:\n"
        "        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    root = Path(__file__).parent.parent
    folders = [str(saved), *(str(tmp_path / name) for name in names)]
    command = [sys.executable, "-c", script, *folders]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    growth = dict(zip(names, map(int, done.stdout.split()), strict=True))  # KiB
    assert max(growth.values()) < 50 * 1024, growth
