"""Ctrl-C between updates rather than in the middle of one."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether the user has asked to stop.

    Attributes:
        requested: Set by the first Ctrl-C.
    """

    requested = False

    def check(self) -> None:
        """Stop here if it was asked for.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed since the block began.
        """
        if self.requested:
            raise KeyboardInterrupt


def warn_interrupted(done: int, total: int) -> None:
    """Tell the caller of `learn` how to go on."""
    warnings.warn(
        f"interrupted after {done} of {total} updates; what was learnt is kept. To go on as if "
        f"nothing had happened: learn(dataset, {total - done}, reset_num_timesteps=False)",
        UserWarning,
        stacklevel=3,
    )


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Hold the first Ctrl-C back until `check`, so that no update is cut in two.

    A second one interrupts at once. Outside the main thread, and where the program handles the
    signal itself, nothing is changed.
    """
    interrupt = Interrupt()
    previous = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or previous is not signal.default_int_handler:
        yield interrupt
        return

    def note(_: int, __: FrameType | None) -> None:
        interrupt.requested = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, previous)
