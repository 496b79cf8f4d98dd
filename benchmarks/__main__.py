"""All benchmarks after each other, and the page of their ratios: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import ledger

FOLDER = Path(__file__).parent
PACKAGES = ("torch", "numpy", "stable_baselines3", "transformers", "mambapy", "minari")
QUICK: dict[str, dict[str, Any]] = {
    "scan": {"repeats": 3},
    "accuracy": {"stride": 97},
    "memory": {"repeats": 1},
    "loading": {"episodes": 100, "repeats": 3},
    "sampling": {"repeats": 7},
    "training": {"repeats": 3},
    "acting": {"repeats": 9, "predicts": 400, "late": 2000},
    "peers": {"repeats": 5},
    "startup": {"repeats": 3},
}
"""The benchmarks in their order, with what makes them quick."""


def files() -> tuple[Path, Path]:
    """Give the page and the stored ratios of processors like this one.

    What an instruction set makes faster differs from peer to peer, so each has its own; those of
    AVX-512 have the plain names.
    """
    from decision_policies.ops.native.library import native

    known = native().instruction_set or "none"
    suffix = "" if known == "avx512" else f"-{known}"
    return FOLDER / f"RESULTS{suffix}.md", FOLDER / f"results{suffix}.json"


def machine() -> dict[str, str]:
    """Describe where the figures come from."""
    from decision_policies import backends

    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    found = {"processor": f"{model}, {os.cpu_count()} cores", "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {**found, **{f"kernels: {name}": used for name, used in backends().items()}}


def page(rows: list[ledger.Row], where: dict[str, str], when: datetime.date) -> str:
    """Write the page."""
    met = sum(row.ratio >= row.at_least for row in rows if row.at_least is not None)
    wanted = sum(row.at_least is not None for row in rows)
    lines = [
        "# Speed",
        f"Written by `make benchmark` on {when.isoformat()}: both sides of a row in one run, by "
        "turns, one thread, medians of CPU time; in brackets the quartiles of the rounds' own "
        f"ratios. {met} of {wanted} rows are as good as we want them.",
        "",
        ledger.HEAD,
        *(row.line() for row in rows),
        "",
        *(f"- {name}: {value}" for name, value in where.items()),
    ]
    return "\n".join(lines) + "\n"


def main(words: list[str] | None = None) -> int:
    """Run what the command line asks for; 1 if a ratio has fallen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(QUICK)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: some minutes in all")
    text = f"name the ratios that are below {ledger.FALLEN} of the stored ones, and write nothing"
    parser.add_argument("--check", action="store_true", help=text)
    arguments = parser.parse_args(words)
    if unknown := sorted(set(arguments.names) - set(QUICK)):
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(QUICK)}")
    written, kept = files()
    for name in arguments.names or QUICK:
        print(f"\n== {name}", flush=True)
        settings = QUICK[name] if arguments.quick else {}
        importlib.import_module(f"benchmarks.{name}").main(**settings)
    if arguments.check:
        if not kept.exists():
            print(f"\nnothing to compare with: {kept} comes of `make benchmark`")
            return 1
        stored = ledger.read(kept)
        known = {(row.what, row.peer) for row in ledger.rows()}
        if arguments.names:
            stored = [row for row in stored if (row.what, row.peer) in known]
        lines = ledger.fallen(ledger.rows(), stored)
        print("\n".join(["", *lines]) if lines else "\nno ratio has fallen")
        return int(bool(lines))
    where = machine()
    ledger.write(kept, ledger.rows(), where)
    written.write_text(page(ledger.rows(), where, datetime.date.today()))
    print(f"\nwritten: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
