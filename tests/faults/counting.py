"""Injects faults and counts what became of them; hears it if any of them runs code."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from decision_policies.errors import CheckpointError

SLOW = 1.0
"""Seconds of processor time in which a damaged checkpoint must be refused."""
RUNS_CODE = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")

_heard: list[str] = []
_listening: list[bool] = []


def _listen(event: str, _: tuple[object, ...]) -> None:
    if _listening and event.startswith(RUNS_CODE):
        _heard.append(event)


@contextmanager
def ear() -> Iterator[list[str]]:
    """Collect events of code being run out of a file, while the block lasts."""
    if not hasattr(sys, "_faults_are_heard"):  # a hook cannot be taken away again
        sys.addaudithook(_listen)
        sys._faults_are_heard = True  # type: ignore[attr-defined]
    _heard.clear()
    _listening.append(True)
    try:
        yield _heard
    finally:
        _listening.pop()


@dataclass
class Suite:
    """Faults of one kind.

    Attributes:
        name: What is done.
        refused: How many ended in an error of the promised type.
        survived: How many were read, and were whole.
        escapes: What ended in any other way; there must be none.
    """

    name: str
    refused: int = 0
    survived: int = 0
    escapes: list[str] = field(default_factory=list)

    @property
    def injected(self) -> int:
        """Faults so far."""
        return self.refused + self.survived + len(self.escapes)

    def inject(
        self,
        fault: str,
        read: Callable[[], object],
        *,
        refusals: tuple[type[Exception], ...] = (CheckpointError,),
        harmless: bool = True,
        slow: float | None = SLOW,
    ) -> None:
        """Read after a fault and count what happened.

        Args:
            fault: What was done, for the report of an escape.
            read: Reads what is there, and raises AssertionError if it is not whole.
            refusals: The errors that it may end in.
            harmless: Whether it may be survived.
            slow: Processor time in seconds that it may take; None is any.
        """
        start = time.process_time()
        outcome = "survived"
        with ear() as heard:
            try:
                read()
            except refusals:
                outcome = "refused"
            except Exception as error:  # whatever it is, it is counted
                outcome = f"{type(error).__name__}: {error}"[:1500]
        taken = time.process_time() - start
        if heard:
            outcome = f"it ran code: {', '.join(heard)}"
        elif slow is not None and taken > slow:
            outcome = f"it took {taken:.1f} s ({outcome})"
        elif outcome == "survived" and not harmless:
            outcome = "it was read as if nothing were wrong"
        self.count(fault, outcome)

    def count(self, fault: str, outcome: str) -> None:
        """Count a fault whose outcome is known: "refused", "survived" or what went wrong."""
        if outcome == "refused":
            self.refused += 1
        elif outcome == "survived":
            self.survived += 1
        else:
            self.escapes.append(f"{fault}: {outcome}")

    def __str__(self) -> str:
        """Describe the counts in one line."""
        return (
            f"{self.name}: injected {self.injected}, refused {self.refused}, "
            f"survived {self.survived}, escapes {len(self.escapes)}"
        )
