"""Progress bars that do without tqdm where it is not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Tick: TypeAlias = Callable[[int], None]


@contextmanager
def progress_bar(title: str, total: int, wanted: bool) -> Iterator[Tick]:
    """Shows a bar on a terminal while the block runs.

    Args:
        title: what is going on.
        total: units of work in all.
        wanted: `False` shows nothing; nor is anything shown without tqdm (the `progress` extra)
            or when the error stream is not a terminal.

    Yields:
        A function that takes the units done since its last call; units beyond `total` do not show.
    """
    if wanted:
        try:
            from tqdm import tqdm
        except ImportError:
            wanted = False
    if not wanted:
        yield lambda amount: None
        return
    with tqdm(total=total, desc=title, disable=None, leave=False) as bar:

        def tick(amount: int) -> None:
            bar.update(min(amount, total - bar.n))

        yield tick


def say(text: str) -> None:
    """Prints a line; bars that are shown at the time stay whole, below it."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(text, flush=True)
        return
    tqdm.write(text)
