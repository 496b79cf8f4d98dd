"""Damage to files that lie still: cut, flipped, forged and poisoned; nothing of it is believed."""

from __future__ import annotations

import json
import pickle
import random
import re
import resource
import shutil
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import decision_policies
from decision_policies import DeMa
from decision_policies.errors import CheckpointError, TrainingDivergedError
from decision_policies.learning.hyperparameters import names
from tests.faults.counting import Suite
from tests.faults.forging import forged, scratched
from tests.fixtures import reseal, tiny_trajectories
from tests.test_checkpoint import FILES, Payload, acts

CONFIG, MANIFEST, WEIGHTS, TENSORS, VALUES = FILES
NUMPY = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "u1", "BOOL": "?"}
GROWTH = 200 << 10
"""KiB by which all refusals together may raise the largest memory that was ever used."""


def truncations(original: Path, room: Path, every: int = 64, last: int = 16) -> Suite:
    """Cut each file at every 64th byte and at each of its last ones."""
    suite = Suite("files cut short")
    folder = Path(shutil.copytree(original, room / "cut"))
    for name in FILES:
        content = (folder / name).read_bytes()
        size = len(content)
        for length in sorted({*range(0, size, every), *range(max(0, size - last), size)}):
            (folder / name).write_bytes(content[:length])
            newline = name == MANIFEST and length == size - 1  # all that is missing says nothing
            suite.inject(f"{name}[:{length}]", lambda: DeMa.load(folder), harmless=newline)
        (folder / name).write_bytes(content)
    return suite


def flips(original: Path, room: Path, count: int = 1000) -> Suite:
    """Flip single bits, anywhere in all files: each must be found."""
    suite, rng = Suite("bits flipped"), random.Random(1)
    folder = Path(shutil.copytree(original, room / "flipped"))
    sizes = [(folder / name).stat().st_size for name in FILES]
    for turn in range(count):
        # Half of them by size, so that large files get theirs; half on the small ones, too.
        name = rng.choices(FILES, sizes if turn % 2 else None)[0]
        content = (folder / name).read_bytes()
        bit = rng.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(flipped)
        suite.inject(f"{name}, bit {bit}", lambda: DeMa.load(folder), harmless=False)
        (folder / name).write_bytes(content)
    return suite


def zips(original: Path, room: Path, cuts: int = 300, count: int = 1000) -> Suite:
    """Cut a zip at many places, and flip single bits: what is still read must be the same."""
    suite, rng = Suite("zips cut and flipped"), random.Random(5)
    wanted, place = acts(DeMa.load(original)), room / "policy.zip"
    DeMa.load(original).save(place)
    content = place.read_bytes()

    def load() -> None:
        assert acts(DeMa.load(place)) == wanted

    for length in {*rng.sample(range(len(content)), cuts), len(content) - 1}:
        place.write_bytes(content[:length])
        suite.inject(f"zip[:{length}]", load, harmless=False)
    for turn in range(count):
        # Half of them anywhere; half among the heads of the members, the list and the end.
        bit = rng.choice(_marks(content)) if turn % 2 else rng.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        place.write_bytes(flipped)
        suite.inject(f"zip, bit {bit}", load)
    return suite


def _marks(content: bytes) -> list[int]:
    """List the bits within 50 bytes behind each signature of a zip."""
    starts = [m.start() for m in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", content)]
    places = (byte for s in starts for byte in range(s, min(s + 50, len(content))))
    return [8 * byte + bit for byte in places for bit in range(8)]


def configs(original: Path, room: Path, count: int = 5000) -> Suite:
    """Forge config.json, and now and then the other JSON, under a manifest that fits."""
    suite, rng = Suite("JSON forged"), random.Random(2)
    folder = Path(shutil.copytree(original, room / "forged"))
    kept = {name: (folder / name).read_bytes() for name in FILES}
    parsed = {name: json.loads(kept[name]) for name in (CONFIG, VALUES, MANIFEST)}
    says_what_it_holds(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for turn in range(count):
        name = rng.choices((CONFIG, VALUES, MANIFEST), (80, 10, 10))[0]
        content = forged(parsed[name], rng)
        (folder / name).write_bytes(content)
        if name != MANIFEST:
            reseal(folder)
        suite.inject(
            f"{name} of turn {turn}, {content[:200]!r}",
            partial(says_what_it_holds, folder, learns=name == VALUES),
        )
        for other in (name, MANIFEST):
            (folder / other).write_bytes(kept[other])
    return check_memory(suite, before)


def headers(original: Path, room: Path, count: int = 2000) -> Suite:
    """Forge the heads of the files that hold tensors, under a manifest that fits."""
    suite, rng = Suite("safetensors headers forged"), random.Random(3)
    folder = Path(shutil.copytree(original, room / "headers"))
    kept = {name: (folder / name).read_bytes() for name in FILES}
    says_what_it_holds(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for turn in range(count):
        name = WEIGHTS if turn % 2 else TENSORS
        (folder / name).write_bytes(forged_tensors(kept[name], rng))
        reseal(folder)
        suite.inject(
            f"{name} of turn {turn}",
            partial(says_what_it_holds, folder, learns=name == TENSORS),
            refusals=(CheckpointError, TrainingDivergedError),
        )
        for other in (name, MANIFEST):
            (folder / other).write_bytes(kept[other])
    return check_memory(suite, before)


def forged_tensors(content: bytes, rng: random.Random) -> bytes:
    """Change the head of a safetensors file, its length, or what follows it."""
    size = int.from_bytes(content[:8], "little")
    head, rest = content[8 : 8 + size], content[8 + size :]
    drawn = rng.random()
    if drawn < 0.7:
        head = forged(json.loads(head), rng)
    elif drawn < 0.8:
        head = scratched(head, rng)
    elif drawn < 0.9:
        rest = rng.choice([rest[:-1], rest + b"\0", rest[: len(rest) // 2], b"", rest * 2])
    length = len(head)
    if drawn >= 0.9:
        length = rng.choice([0, 1, size - 1, size + 1, 1 << 24, 1 << 40, (1 << 63) - 1, 1 << 63])
    return length.to_bytes(8, "little") + head + rest


def says_what_it_holds(folder: Path, *, learns: bool = True) -> None:
    """Load everything; compare it with another reading of the same files, and learn on."""
    loaded = decision_policies.load(folder, device="cpu")
    assert loaded.policy is not None
    config = json.loads((folder / CONFIG).read_bytes())
    assert type(loaded).__name__ == config["algorithm"], config["algorithm"]
    given, found = config["hyperparameters"], loaded.hyperparameters()
    machine = {"device", "tensorboard_log"}
    assert set(given) <= set(names(type(loaded)))
    odd = {k: (found[k], v) for k, v in given.items() if k not in machine and found[k] != v}
    assert not odd, odd
    spec, said = loaded.policy.spec.to_json(), said_once({"returns": None, **config["spec"]})
    assert spec == said, (spec, said)
    assert loaded.num_timesteps == config["num_timesteps"]
    assert_equal(dict(loaded.policy.model.state_dict()), tensors(folder / WEIGHTS))
    saved = loaded._saved_training
    assert saved is not None
    assert_equal(saved.tensors, tensors(folder / TENSORS))
    assert saved.values == json.loads((folder / VALUES).read_bytes())
    if learns:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of other data, where that was forged
            loaded.learn(tiny_trajectories(False), 1, reset_num_timesteps=False)


def said_once(data: Any) -> Any:
    """Say bounds that are the same everywhere once, as the package does."""
    if not isinstance(data, dict):
        return data
    plain = {key: said_once(value) for key, value in data.items()}
    for key in {"low", "high"} & data.keys():
        if isinstance(data[key], list) and data[key] and len(set(data[key])) == 1:
            plain[key] = data[key][0]
    return plain


def tensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read a safetensors file in the plainest way there is."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    found = {}
    for name, entry in json.loads(content[8 : 8 + size]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            flat = np.frombuffer(content[8 + size + first : 8 + size + last], NUMPY[entry["dtype"]])
            found[name] = flat.reshape(entry["shape"])
    return found


def assert_equal(held: dict[str, torch.Tensor], expected: dict[str, np.ndarray[Any, Any]]) -> None:
    assert held.keys() == expected.keys()
    assert all(np.array_equal(held[name].numpy(), expected[name]) for name in expected)


def check_memory(suite: Suite, before: int) -> Suite:
    """Count one more fault, that of the memory used meanwhile."""
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    outcome = "survived" if growth < GROWTH else f"{growth >> 10} MiB more were used at once"
    suite.count("memory", outcome)
    return suite


def poisons(original: Path, room: Path) -> Suite:
    """Put pickles, and archives of them, in the place of every file and of the folder."""
    suite = Suite("pickles in the place of files")
    folder, trace = Path(shutil.copytree(original, room / "poisoned")), room / "trace"
    for name, (kind, write) in ((n, w) for n in (*FILES, "") for w in POISONS.items()):
        place = folder / name if name else room / f"{kind.replace(' ', '-')}.zip"
        content = place.read_bytes() if name else b""
        write(place, Payload(trace))
        if name and name != MANIFEST:
            reseal(folder)
        for load in (DeMa.load, decision_policies.load):
            target = folder if name else place
            fault = f"{kind} as {name or 'the folder'}"
            suite.inject(fault, partial(load, target), harmless=False)
        assert not trace.exists()
        if name:
            place.write_bytes(content)
            reseal(folder)
    assert acts(DeMa.load(folder)) == acts(DeMa.load(original))
    return suite


def _pickled(protocol: int) -> Callable[[Path, Payload], object]:
    return lambda path, payload: path.write_bytes(pickle.dumps(payload, protocol))


def _zipped(path: Path, payload: Payload) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps({":serialized:": pickle.dumps(payload).hex()}))
        archive.writestr("policy.pth", pickle.dumps(payload))


POISONS: dict[str, Callable[[Path, Payload], object]] = {
    **{f"pickle {protocol}": _pickled(protocol) for protocol in range(6)},
    "zip": _zipped,
    "torch": lambda path, payload: torch.save({"a": payload}, path),
    "old torch": lambda path, payload: torch.save(
        {"a": payload}, path, _use_new_zipfile_serialization=False
    ),
}
