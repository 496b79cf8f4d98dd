"""Find the native library, make sure that it is ours and right, and say what became of it."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

SWITCH = "DECISION_POLICIES_NATIVE"
"""Environment variable: "off", or one of `INSTRUCTION_SETS` instead of the widest."""

INSTRUCTION_SETS = ("baseline", "avx2", "avx512")
"""From the narrowest; "baseline" is what every processor of the kind has (SSE2, NEON)."""

HERE = Path(__file__).parent
PATH = HERE / "kernels.so"


@dataclass(frozen=True)
class Native:
    """The library, or why there is none.

    Attributes:
        library: The loaded library; None where there is none to use.
        instruction_set: The one of `INSTRUCTION_SETS` whose functions are called; "" without.
        reason: One line for people.
    """

    library: ctypes.CDLL | None
    instruction_set: str
    reason: str


def source_digest(folder: Path = HERE) -> str:
    """Digest the C sources of a folder; a library knows the digest that it was built with."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@cache
def native() -> Native:
    """Load the native library once; where it cannot be used, log one line that says why.

    Raises:
        ValueError: If the environment variable names no instruction set.
    """
    found = _load(os.environ.get(SWITCH, ""))
    if found.library is None:
        logging.getLogger(__name__).info("native kernels are not used: %s", found.reason)
    return found


@cache
def function(name: str) -> Callable[[ctypes.Array[ctypes.c_int64]], None]:
    """Give a function of the library, in the instruction set that is used here.

    It takes the address of a struct of 64-bit slots, that is, an array of integers.
    """
    found = native()
    function = getattr(found.library, f"{name}_{found.instruction_set}")
    function.restype = None
    return cast(Callable[[ctypes.Array[ctypes.c_int64]], None], function)


def _load(choice: str) -> Native:
    if choice not in ("", "off", *INSTRUCTION_SETS):
        raise ValueError(f"{SWITCH} must be 'off' or one of {INSTRUCTION_SETS}, got {choice!r}")
    if choice == "off":
        return Native(None, "", f"{SWITCH}=off")
    if not PATH.exists():
        why = f"{PATH.name} is not there: no C compiler when the package was installed?"
        return Native(None, "", why)
    if not _is_whole(PATH):
        return Native(None, "", f"{PATH} is cut short; install the package again")
    try:
        library = ctypes.CDLL(str(PATH))
        for function in (library.source_digest, library.instruction_set):
            function.restype = ctypes.c_char_p
        built, widest = library.source_digest().decode(), library.instruction_set().decode()
    except (OSError, AttributeError, UnicodeDecodeError) as error:
        return Native(None, "", f"{PATH} cannot be loaded ({error}); install the package again")
    if built != source_digest():
        return Native(None, "", f"{PATH} was built from other source; install the package again")
    chosen = choice or widest
    if INSTRUCTION_SETS.index(chosen) > INSTRUCTION_SETS.index(widest):
        return Native(None, "", f"{SWITCH}={chosen}, but this processor has {widest} only")
    return Native(library, chosen, f"{chosen} of {PATH.name}, built from this source")


def _is_whole(path: Path) -> bool:
    """Whether a file is as long as its header says, if it is Linux's kind: ELF of 64 bits.

    One that was cut short, by a full disk say, is mapped all the same, and kills whoever reads on.
    """
    with path.open("rb") as file:
        header = file.read(64)
    if header[:5] != b"\x7fELF\x02" or len(header) < 64:
        return True  # whatever it is, the system's loader looks at it
    order: Literal["little", "big"] = "little" if header[5] == 1 else "big"
    sections, size, count = (
        int.from_bytes(header[start:end], order) for start, end in ((40, 48), (58, 60), (60, 62))
    )
    return path.stat().st_size >= sections + size * count
