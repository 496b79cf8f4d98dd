"""What the benchmark shows while it works: two bars on a terminal, lines of text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from .benchmark_rows import Key, Row


def seconds_of(key: Key, rows: Iterable[Row]) -> float | None:
    """Estimates the seconds of a run from finished ones: the most alike that there are.

    Args:
        key: The run.
        rows: Finished runs.

    Returns:
        Mean seconds an update, evaluations included, of runs of the same system on the same set,
        else of the same system, else of any, times the updates; None without any row.
    """
    each = [(r, (r["wall_seconds"] + r["evaluation_seconds"]) / r["updates"]) for r in rows]
    for alike in (
        [s for r, s in each if (r["label"], r["dataset"]) == (key.label, key.dataset)],
        [s for r, s in each if r["label"] == key.label],
        [s for _, s in each],
    ):
        if alike:
            return key.updates * sum(alike) / len(alike)
    return None


def total_seconds(keys: Iterable[Key], rows: Mapping[Key, Row]) -> float | None:
    """Estimates the seconds of several runs; None where nothing is known."""
    each = [seconds_of(key, rows.values()) for key in keys]
    known = [seconds for seconds in each if seconds is not None]
    return sum(known) if len(known) == len(each) else None


def in_words(seconds: float | None) -> str:
    """Says a length of time: "about 2 h 10 min"."""
    if seconds is None:
        return "unknown before a first run is done"
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes:02d} min" if hours else f"about {minutes} min"


class Display:
    """Shows how far the benchmark is.

    Args:
        total: Number of runs.
        quiet: Show nothing.
    """

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total, self.quiet, self.done = total, quiet, 0
        self._outer: Any = None
        self._inner: Any = None
        self._tqdm: Any = None
        if not quiet and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return  # the extra `progress` is not installed: lines will do
            self._tqdm = tqdm
            form = "{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}"
            self._outer = tqdm(total=total, desc="runs", bar_format=form)

    def begin(self, key: Key, left: float | None) -> None:
        """Shows the start of a run, and the time left for all."""
        if self._tqdm is None:
            self.say(f"[{self.done + 1}/{self.total}] {key}; left: {in_words(left)}")
            return
        self._outer.set_postfix_str(f"left: {in_words(left)}")
        title = f"{key.label} {key.dataset} {key.seed}"
        self._inner = self._tqdm(total=key.updates, desc=title, leave=False)

    def tick(self, updates: int, doing: str) -> None:
        """Shows how far the run is."""
        if self._inner is not None:
            if self._inner.n == 0 and updates > 1:
                self._inner.initial = updates  # resumed: not the work of this bar's seconds
            self._inner.set_postfix_str(doing, refresh=False)
            self._inner.update(updates - self._inner.n)

    def end(self, text: str) -> None:
        """Shows the end of a run, with what came of it."""
        self.done += 1
        if self._inner is not None:
            self._inner.close()
            self._inner = None
            self._outer.update(1)
        self.say(text)

    def say(self, text: str) -> None:
        """Prints a line without breaking the bars."""
        if self.quiet:
            return
        if self._tqdm is not None:
            self._tqdm.write(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Ends the bars."""
        for bar in (self._inner, self._outer):
            if bar is not None:
                bar.close()
