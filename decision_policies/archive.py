"""A checkpoint in one file: a plain zip, put in its place at once, and read only if it is no more.

What is refused needs no unpacking to be found out: other names (hence paths that lead elsewhere),
names twice, links, compression (hence bombs), encryption, parts that overlap, anything behind it.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from decision_policies import atomic
from decision_policies.errors import CheckpointError

SUFFIX = ".zip"
MOST = 1 << 31
"""Bytes that a zip may hold; larger ones are of a format that not every program reads."""
LONGEST_LIST = 1 << 12
"""Bytes of the list of what is inside; a checkpoint's has some 400."""
END = struct.Struct("<4s4H2LH")
LOCATOR = 20
"""Bytes before the end where a zip of the large format says so."""
DAMAGED = (zipfile.BadZipFile, EOFError, LookupError, OSError, RuntimeError, ValueError)


def find(path: Path) -> Path | None:
    """Find a folder or zip by its name, with ".zip" added or left out, as in Stable-Baselines3."""
    for candidate in (path, Path(f"{path}{SUFFIX}"), Path(str(path).removesuffix(SUFFIX))):
        atomic.recover(candidate)
        if candidate.exists():
            return candidate
    return None


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a zip atomically; equal files make equal bytes.

    Args:
        path: The zip; one that is already there is replaced.
        files: Contents by name.

    Raises:
        CheckpointError: They are too large for a zip.
        OSError: It cannot be written; what was there is untouched.
    """
    total = sum(map(len, files.values()))
    if total > MOST:
        raise CheckpointError(
            f"saving {path}: {total} bytes are more than the {MOST} of a zip; save to a folder, by "
            f"a name without {SUFFIX}"
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as opened:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)  # of 1980, since the time would be another each time
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            opened.writestr(member, content)
    atomic.write_file(path, packed.getvalue())


def read(path: Path, known: Set[str]) -> dict[str, bytes]:
    """Read a zip that holds known names only, and takes no more memory than it has bytes.

    Args:
        path: The zip.
        known: What may be inside.

    Returns:
        Contents by name.

    Raises:
        CheckpointError: Says what is wrong with it; nothing was unpacked.
    """
    try:
        with path.open("rb") as file:
            size = _check_end(path, file)
            with zipfile.ZipFile(file) as opened:
                _check_members(path, opened.infolist(), known, size)
                return {member.filename: opened.read(member) for member in opened.infolist()}
    except CheckpointError:
        raise
    except DAMAGED as error:
        raise CheckpointError(f"{path} is a damaged zip: {error}") from error


def _check_end(path: Path, file: io.BufferedReader) -> int:
    """Check the last bytes, which say how long the list of the contents is; return all's size."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - END.size - LOCATOR))
    tail = file.read()
    if len(tail) < END.size or tail[-END.size :][:4] != b"PK\5\6":
        raise CheckpointError(f"{path} is a zip that was cut short, or has something behind it")
    listed = END.unpack(tail[-END.size :])[5]
    if listed > LONGEST_LIST or tail[:4] == b"PK\6\7":
        raise CheckpointError(f"{path} is a zip that holds more than a checkpoint")
    return size


def _check_members(
    path: Path, members: Sequence[zipfile.ZipInfo], known: Set[str], size: int
) -> None:
    names = [member.orig_filename for member in members]
    odd = [name for name in names if name not in known]
    if odd:
        raise CheckpointError(
            f"{path} holds {odd[0]!r}, which no checkpoint has: it is a zip of something else (of "
            "torch.save or Stable-Baselines3?), which may hold pickles"
        )
    if len(set(names)) != len(names):
        raise CheckpointError(f"{path} holds a name twice: {sorted(names)}")
    for member in members:
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise CheckpointError(
                f"{path}: {member.filename} is a link or another odd kind of file"
            )
        if member.flag_bits & 1:
            raise CheckpointError(f"{path}: {member.filename} is encrypted")
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise CheckpointError(
                f"{path}: {member.filename} is compressed, so that nobody knows how large it is; "
                "if you trust it, unzip it into a folder and load that"
            )
    total = sum(member.file_size for member in members)
    if total > size:
        raise CheckpointError(f"{path} has {size} bytes and says that it holds {total}")
