"""A written step bound to the arrays that it reads and writes, for the library to run at once."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_policies.models.native_step import Floats, NativeStep
from decision_policies.ops.native.library import function

Ints = NDArray[np.int64]


class NativeCall:
    """A step of n rows, bound to arrays that stay where they are.

    Args:
        step: The step.
        values: What was taken in, (n, steps, width), the last steps at the end.
        counts: Steps of each row that are to be run, (n,); a row of none is left alone.
        fresh: Rows that begin with the first of them, from nothing, (n,).
        state: What the rows remember, (n, size), updated; (1, size), where all of them begin with
            each call, and none is asked for what it remembers.
        output: What is made of each row's last step, (n, parameters).
        clocks: Time of the step before and of this one, each (n, steps), where a step asks for it.
    """

    def __init__(
        self,
        step: NativeStep,
        values: Floats,
        counts: Ints,
        fresh: NDArray[np.bool_],
        state: Floats,
        output: Floats,
        clocks: tuple[Ints, Ints] | None = None,
    ) -> None:
        before, now = clocks or np.zeros((2, *values.shape[:2]), np.int64)
        scratch = np.zeros(step.scratch, np.float32)
        ops = np.array(step.ops, np.int64)
        arrays: list[NDArray[Any]] = [values, before, now, counts, fresh, state, scratch]
        assert all(x.flags.c_contiguous for x in arrays)
        slots = [ops.ctypes.data, len(ops), step.done, step.given, *values.shape, step.size]
        slots += [step.size if len(state) == len(values) else 0, int(step.prompt), step.chunk]
        slots += [*(x.ctypes.data for x in arrays), step.parameters, output.ctypes.data]
        self._held = (step, ops, output, *arrays)
        self._slots = (ctypes.c_int64 * len(slots))(*slots)
        self._function = function("policy_step")

    def __call__(self) -> None:
        """Run the step."""
        self._function(self._slots)
