"""Checkpoints: config.json, model.safetensors, manifest.json; the only file that reads weights.

A checkpoint is data and cannot run code. Everything read is compared with the manifest's SHA-256,
and tensors with what the config says, before anything of their size is allocated.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from decision_policies import archive, atomic
from decision_policies.contents import Contents, guess
from decision_policies.errors import CheckpointError, CheckpointVersionError
from decision_policies.strict_json import MAX_JSON, parse_json
from decision_policies.version import __version__

FORMAT = 1
CONFIG, WEIGHTS, MANIFEST = "config.json", "model.safetensors", "manifest.json"
TRAINING_TENSORS, TRAINING_VALUES = "training/tensors.safetensors", "training/values.json"
PLAIN, TRAINING = frozenset({CONFIG, WEIGHTS}), frozenset({TRAINING_TENSORS, TRAINING_VALUES})
DATA = "data"
"""How Stable-Baselines3's zips call their JSON, and its readers look for it: our config again."""
KNOWN = PLAIN | TRAINING | {MANIFEST, DATA}
MAX_HEADER = 1 << 24
DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

Signature = Mapping[str, tuple[str, tuple[int, ...]]]
"""dtype and shape of each tensor, by name."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: its config is read and verified, its weights are not yet.

    Attributes:
        contents: The folder or zip.
        config: The parsed config.
        files: Size and SHA-256 of each file, from the manifest.
    """

    contents: Contents
    config: dict[str, Any]
    files: Mapping[str, tuple[int, str]]

    @property
    def folder(self) -> Path:
        """Where it is; a zip, if it is in one."""
        return self.contents.place

    def weights(self, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Read the weights, if they have exactly the expected names, dtypes and shapes.

        Args:
            expected: Tensors to compare with; they may be on the meta device.

        Raises:
            CheckpointError: Names up to five differences, or what is wrong with the file; or a
                weight is not finite.
        """
        wanted = {name: (_dtype(t), tuple(t.shape)) for name, t in expected.items()}
        path = self.folder / WEIGHTS
        with self.contents.open(WEIGHTS) as file:
            _compare(path, _header(path, file), wanted)
        tensors = _parse(path, self.read(WEIGHTS))
        _check_finite(tensors, str(path))
        return tensors

    def training(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read the training state; None where none was saved, or its folder was left behind.

        Raises:
            CheckpointError: It is damaged.
        """
        left_behind = not any(name in self.contents for name in TRAINING)
        if TRAINING_VALUES not in self.files or left_behind:
            return None
        tensors = _parse(self.folder / TRAINING_TENSORS, self.read(TRAINING_TENSORS))
        return tensors, parse_json(self.folder / TRAINING_VALUES, self.read(TRAINING_VALUES))

    def read(self, name: str) -> bytes:
        """Read a file that the manifest lists.

        Raises:
            CheckpointError: It is not what the manifest says.
        """
        return _verified(self.contents, name, self.files)


def write(
    folder: str | PathLike[str],
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    training: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None = None,
) -> None:
    """Write a checkpoint atomically.

    Args:
        folder: Where; a checkpoint that is already there is replaced once the new one is whole. A
            name that ends in .zip is that of a zip, in which nothing is compressed.
        config: JSON-able description; format and version are added.
        weights: The model's tensors.
        training: Tensors and JSON-able values of the training state.

    Raises:
        CheckpointError: Something else is at that place, or a weight is not finite.
        OSError: It cannot be written; what was there is untouched.
    """
    target = Path(folder).resolve()  # what a symbolic link points to is replaced, not the link
    atomic.steadily(target, lambda: _check_free(target))
    _check_finite(weights, f"saving {target}")
    header = {"format_version": FORMAT, "library_version": __version__}
    files = {CONFIG: _dump({**header, **config}), WEIGHTS: _pack(weights)}
    if training is not None:
        files[TRAINING_TENSORS] = _pack(training[0])
        files[TRAINING_VALUES] = _dump(training[1])
    entries = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    files[MANIFEST] = _dump({**header, "files": entries})
    for name in (CONFIG, MANIFEST, TRAINING_VALUES):
        if len(files.get(name, b"")) > MAX_JSON:
            raise CheckpointError(
                f"saving {target}: {name} would have {len(files[name])} bytes, more than the "
                f"{MAX_JSON} that are read back; do the spaces have very many different bounds?"
            )
    if target.suffix == archive.SUFFIX:
        archive.write(target, {DATA: files[CONFIG], **files})
    else:
        atomic.write_folder(target, files)


def open_checkpoint(folder: str | PathLike[str]) -> Checkpoint:
    """Open a checkpoint and verify its config.

    Args:
        folder: The folder or zip that `write` wrote.

    Raises:
        FileNotFoundError: There is nothing at that place.
        CheckpointVersionError: A newer version of the package wrote it.
        CheckpointError: It is no checkpoint, not whole, or altered.
    """
    target = Path(folder)
    return atomic.steadily(target, lambda: _open(target))


def _open(target: Path) -> Checkpoint:
    atomic.recover(target)
    if not target.exists():
        raise FileNotFoundError(f"no checkpoint at {str(target)!r} (in the folder {Path.cwd()})")
    contents = Contents.of(target, KNOWN)
    for name in (CONFIG, MANIFEST, WEIGHTS):
        if name not in contents:
            there = ", ".join(contents.names()) or "nothing"
            raise CheckpointError(
                f"{target} is no whole checkpoint: {name} is missing ({there} there)"
            )
    contents.check_links(PLAIN | TRAINING | {MANIFEST})
    manifest = parse_json(target / MANIFEST, contents.read(MANIFEST, MAX_JSON))
    _check_version(target, manifest)
    files = _entries(target / MANIFEST, manifest)
    config = parse_json(target / CONFIG, _verified(contents, CONFIG, files))
    _check_version(target, config)
    if config.get("library_version") != manifest["library_version"]:
        raise CheckpointError(f"{target}: {CONFIG} and {MANIFEST} name different versions")
    if contents.held and contents.held.get(DATA, b"") not in (b"", contents.held[CONFIG]):
        raise CheckpointError(f"{target}: {DATA} says something else than {CONFIG}")
    return Checkpoint(contents, config, files)


def _check_free(target: Path) -> None:
    """Refuse to replace anything but a checkpoint, or a folder with more than a checkpoint."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    contents = Contents(target) if target.is_dir() else _zip_at(target)
    other_kind = target.is_file() != (target.suffix == archive.SUFFIX)
    if other_kind or not all(name in contents for name in (CONFIG, WEIGHTS, MANIFEST)):
        raise CheckpointError(
            f"{target} is there already and is no checkpoint; choose another name"
        )
    there = {str(p.relative_to(target)) for p in target.rglob("*")}
    foreign = sorted(there - PLAIN - TRAINING - {MANIFEST, "training"})
    if foreign:
        raise CheckpointError(
            f"{target} holds more than a checkpoint ({', '.join(foreign[:5])}), which saving would "
            "delete; move that, or choose another name"
        )


def _zip_at(target: Path) -> Contents:
    """Look into a file that is to be replaced; what is no checkpoint's zip holds nothing."""
    try:
        return Contents.of(target, KNOWN)
    except CheckpointError:
        return Contents(target, {})


def _check_version(target: Path, data: Mapping[str, Any]) -> None:
    version = data.get("format_version")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{target}: format_version is {version!r}, not a whole number")
    if version > FORMAT:
        writer = data.get("library_version", "a newer version")
        raise CheckpointVersionError(
            f"{target} was written by decision_policies {writer} in format {version}; this is "
            f"{__version__}, which reads up to {FORMAT}: pip install -U decision-policies"
        )


def _entries(path: Path, manifest: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    listed = manifest.get("files")
    if set(manifest) != {"format_version", "library_version", "files"} or not (
        isinstance(listed, dict) and set(listed) in (PLAIN, PLAIN | TRAINING)
    ):
        raise CheckpointError(f"{path}: it does not list the files of a checkpoint")
    entries = {}
    for name, entry in listed.items():
        if not isinstance(entry, dict) or set(entry) != {"size", "sha256"}:
            raise CheckpointError(f"{path}: {name} needs a size and a sha256, and no more")
        size, digest = entry["size"], entry["sha256"]
        if type(size) is not int or size < 0 or not isinstance(digest, str):
            raise CheckpointError(f"{path}: size and sha256 of {name} are {size!r}, {digest!r}")
        entries[name] = (size, digest)
    return entries


def _verified(contents: Contents, name: str, files: Mapping[str, tuple[int, str]]) -> bytes:
    """Read a file once and hash the very bytes that will be parsed."""
    path, (size, digest) = contents.place / name, files[name]
    content = contents.read(name, size)
    if len(content) != size:
        raise CheckpointError(f"{path} is truncated: {len(content)} of {size} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise CheckpointError(f"{path} was altered: sha256 {found[:16]}…, expected {digest[:16]}…")
    return content


def _header(path: Path, file: BinaryIO) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read names, dtypes and shapes from the head of a safetensors file."""
    total = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(8)
    size = int.from_bytes(start, "little")
    if not 2 <= size <= min(MAX_HEADER, total):
        raise CheckpointError(f"{path} is no safetensors file{guess(start)}")
    try:
        data = json.loads(file.read(size))
        data.pop("__metadata__", None)
        return {k: (str(v["dtype"]), tuple(int(n) for n in v["shape"])) for k, v in data.items()}
    except (*DAMAGED, RecursionError) as error:
        raise CheckpointError(f"{path} has no valid safetensors header: {error!r}") from error


def _compare(path: Path, found: Signature, wanted: Signature) -> None:
    odd = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if odd:
        lines = "".join(
            f"\n  {name}: config says {_say(wanted.get(name))}, file has {_say(found.get(name))}"
            for name in odd[:5]
        )
        more = f"\n  and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise CheckpointError(f"{path} does not fit its config:{lines}{more}")


def _say(signature: tuple[str, tuple[int, ...]] | None) -> str:
    return "nothing" if signature is None else f"{signature[0]} {list(signature[1])}"


def _parse(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return {k: v.clone() for k, v in safetensors.torch.load(content).items()}
    except Exception as error:  # SafetensorError derives from Exception only
        raise CheckpointError(
            f"{path} is no valid safetensors file ({error}){guess(content)}"
        ) from error


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    return bytes(safetensors.torch.save(plain))


def _dump(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, allow_nan=False) + "\n").encode()


def _dtype(tensor: Tensor) -> str:
    names = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL"}
    return names.get(tensor.dtype, str(tensor.dtype))


def _check_finite(tensors: Mapping[str, Tensor], place: str) -> None:
    for name, tensor in tensors.items():
        bad = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
        if bad:
            raise CheckpointError(
                f"{place}: {bad} of {tensor.numel()} values of {name!r} are not finite"
            )
