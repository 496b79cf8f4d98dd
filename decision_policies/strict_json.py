"""JSON read strictly: what a file says twice, or as no finite number, it does not say."""

from __future__ import annotations

import json
import math
import reprlib
from pathlib import Path
from typing import Any, NoReturn

from decision_policies.errors import CheckpointError

MAX_JSON = 1 << 22
"""Bytes of the largest file that is read."""


def parse_json(path: Path, content: bytes) -> dict[str, Any]:
    """Parse a JSON object strictly: no duplicate keys, finite numbers, at most 4 MiB.

    Raises:
        CheckpointError: It is something else; names the file and, where known, the place.
    """
    if len(content) > MAX_JSON:
        raise CheckpointError(f"{path}: {len(content)} bytes are too many (at most {MAX_JSON})")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise CheckpointError(f"{path}: a key is there twice: {reprlib.repr(twice)}")
        return made

    def refuse(constant: str) -> NoReturn:
        raise CheckpointError(f"{path}: {constant[:20]} is no finite number")

    def real(text: str) -> float:
        return float(text) if math.isfinite(float(text)) else refuse(text)

    def whole(text: str) -> int:
        return int(text) if len(text) < 300 else refuse(text)  # as a float it stays finite

    try:
        data = json.loads(
            content,
            object_pairs_hook=unique,
            parse_constant=refuse,
            parse_float=real,
            parse_int=whole,
        )
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data
