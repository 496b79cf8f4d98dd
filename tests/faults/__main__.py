"""Inject all faults, print what became of them, and fail on any escape: `make faults`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.faults.counting import Suite
from tests.faults.suites import SUITES
from tests.fixtures import trained

SHOWN = 10
"""Escapes of a suite that are printed."""


def main() -> int:
    """Run the suites that the command line names, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="suite", help=f"of {', '.join(SUITES)}")
    names = parser.parse_args().suites or list(SUITES)
    torch.set_num_threads(1)
    done, start = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "original"
        trained().save(original)
        for name in names:
            (Path(folder) / name).mkdir()
            suite = SUITES[name](original, Path(folder) / name, True)
            say(str(suite))
            for escape in suite.escapes[:SHOWN]:
                say(f"  escaped: {escape}")
            done.append(suite)
    say(table(done))
    say(f"{(time.monotonic() - start) / 60:.1f} minutes")
    return int(any(suite.escapes for suite in done))


def table(suites: list[Suite]) -> str:
    """Lay out the counts, and their sums, in Markdown."""
    rows = [(s.name, s.injected, s.refused, s.survived, len(s.escapes)) for s in suites]
    columns = list(zip(*rows, strict=True))[1:]
    rows.append(("**all**", *map(sum, columns)))  # type: ignore[arg-type]
    lines = ["", "| faults | injected | refused | survived | escapes |", "|---|--:|--:|--:|--:|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""])


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
