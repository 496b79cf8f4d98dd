"""Makes JSON that a forger, a bug or an old disk might leave: other types, huge, twice, deep."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 1 << 31, -(1 << 31), 1 << 63, 10**18, 10**30, 10**400),
    *(0.5, -0.0, 1e-300, 5e-324, 1e39, 1.7e308, -1e300, 0.1 + 0.2),
    *("", "x", "1", "inf", "-inf", "nan", "\0", "é", "名", "\ud800", "\U0001f98b", "‮abc", " "),
    *("../../../etc/passwd", "os.system", "__class__", "a" * 10_000, "lin_1e-3", "cos_0", "cpu"),
    *("DT", "AD", "DeMa", "Box", "Discrete", "Dict", "Tuple", "float32", "object", "F16", "BOOL"),
    *([], {}, [[]], [None], [1] * 1000, [[1, 2], [3]], {"": None}, {"type": "Box"}, [0, 0]),
    {"type": "Dict", "spaces": {}},
    {"type": "Discrete", "n": 10**9, "start": 0, "dtype": "int64"},
)
DEEP = ("[", '{"a":')
NOT_FINITE = ("NaN", "Infinity", "-Infinity", "1e999", "-1e400")

Place = tuple[Any, Any]
"""A dict or list and the key or index of one of its values."""


def places(data: Any) -> list[Place]:
    """List where values stand, at any depth."""
    keys: list[Any] = []
    if isinstance(data, dict):
        keys = list(data)
    elif isinstance(data, list):
        keys = list(range(len(data)))
    return [(data, key) for key in keys] + [p for key in keys for p in places(data[key])]


def junk(rng: random.Random) -> Any:
    """Draw a value that is rarely the right one."""
    drawn = rng.random()
    if drawn < 0.1:
        return rng.randint(-(1 << 70), 1 << 70)
    if drawn < 0.2:
        return rng.uniform(-2, 2) * 10.0 ** rng.randint(-30, 30)
    if drawn < 0.25:
        return [junk(rng) for _ in range(rng.randint(0, 4))]
    if drawn < 0.3:
        return {rng.choice("abc"): junk(rng) for _ in range(rng.randint(0, 3))}
    return copy.deepcopy(rng.choice(JUNK))


def _values(data: Any, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 3)):
        owner, key = rng.choice(places(data))
        owner[key] = junk(rng)
    return json.dumps(data)


def _missing(data: Any, rng: random.Random) -> str:
    owner, key = rng.choice(places(data))
    del owner[key]
    return json.dumps(data)


def _more(data: Any, rng: random.Random) -> str:
    owner = rng.choice([data, *(o[k] for o, k in places(data) if isinstance(o[k], dict))])
    owner[rng.choice(["", "more", "__class__", "type", "\ud800", "d_modl"])] = junk(rng)
    return json.dumps(data)


def _exchanged(data: Any, rng: random.Random) -> str:
    (a, i), (b, j) = rng.choice(places(data)), rng.choice(places(data))
    a[i], b[j] = copy.deepcopy(b[j]), copy.deepcopy(a[i])
    return json.dumps(data)


def _twice(data: Any, rng: random.Random) -> str:
    text = json.dumps(data)
    starts = [
        i + 1 for i, sign in enumerate(text) if sign in "{," and text[i + 1 :].strip()[0] == '"'
    ]
    at = rng.choice(starts)
    end = text.find(":", at)
    return f"{text[:at]}{text[at:end]}: {json.dumps(junk(rng))}, {text[at:]}"


def _not_finite(data: Any, rng: random.Random) -> str:
    owner, key = rng.choice(places(data))
    owner[key] = "@here@"
    return json.dumps(data).replace('"@here@"', rng.choice(NOT_FINITE))


def _deep(data: Any, rng: random.Random) -> str:
    owner, key = rng.choice(places(data))
    owner[key] = "@here@"
    opened, depth = rng.choice(DEEP), rng.choice([10, 100, 1000, 100_000])
    closed = {"[": "]", '{"a":': "}"}[opened] * depth if rng.random() < 0.7 else ""
    return json.dumps(data).replace('"@here@"', opened * depth + "1" + closed)


def _huge(data: Any, rng: random.Random) -> str:
    owner, key = rng.choice(places(data))
    owner[key] = "@here@"
    big = rng.choice(['"' + "x" * 5_000_000 + '"', "[" + "0," * 200_000 + "0]", "9" * 5000])
    return json.dumps(data).replace('"@here@"', big)


def _other(_: Any, rng: random.Random) -> str:
    return rng.choice(["", "null", "[]", "{}", "1", '"x"', "[{}]", "{", "true", "\ufeff{}", "\0"])


CHANGES: dict[Callable[[Any, random.Random], str], int] = {
    _values: 45,
    _missing: 8,
    _more: 8,
    _exchanged: 8,
    _twice: 6,
    _not_finite: 5,
    _deep: 4,
    _huge: 2,
    _other: 1,
}


def forged(data: Any, rng: random.Random) -> bytes:
    """Write changed JSON: other values, or other bytes."""
    change = rng.choices(list(CHANGES), list(CHANGES.values()))[0]
    text = change(copy.deepcopy(data), rng).encode("utf-8", "surrogatepass")
    drawn = rng.random()
    if drawn < 0.02:
        return text.decode("utf-8", "replace").encode("utf-16")
    return scratched(text, rng) if drawn < 0.12 else text


def scratched(content: bytes, rng: random.Random) -> bytes:
    """Change, drop or insert a few bytes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        how = rng.random()
        if how < 0.5 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif how < 0.75:
            del changed[at : at + rng.choice([1, 1, 8, 200])]
        else:
            changed[at:at] = rng.randbytes(rng.choice([1, 1, 4, 64]))
    return bytes(changed)
