"""Run a model's step by NumPy, where there is no native library: lighter calls than torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from decision_policies.models.native_step import Floats, NativeStep
from decision_policies.models.numpy_plan import Plan, Rows


class NumpyStep:
    """Steps of n rows, some of which may begin anew.

    Args:
        step: The step.
        rows: What the rows read and write; the arrays stay the same from step to step.
    """

    def __init__(self, step: NativeStep, rows: Rows) -> None:
        self.step, self.rows = step, rows
        self._matrices: dict[int, Floats] = {}
        self._plans: dict[tuple[int, bool], Plan] = {}

    def run(self, fresh: NDArray[np.bool_]) -> None:
        """Make one step.

        Args:
            fresh: Rows that begin with it, from a state of zeros, (n,).
        """
        self.rows.state[fresh] = 0.0
        if fresh.all() or not fresh.any():
            self._plan(self.rows, bool(fresh[0])).run()
            return
        for which in (fresh, ~fresh):
            plan = self._plan(self.rows.picked(which), bool(fresh[which][0]))
            plan.run()
            self.rows.state[which], self.rows.output[which] = plan.rows.state, plan.rows.output

    def _plan(self, rows: Rows, fresh: bool) -> Plan:
        """Find the plan of as many rows in this situation, with these rows in its arrays."""
        key = (len(rows.values), fresh)
        plan = self._plans.get(key)
        if plan is None:
            self._plans[key] = plan = Plan(self.step, rows, fresh, self._matrices)
        elif plan.rows is not rows:
            into: tuple[NDArray[Any], ...] = plan.rows
            for mine, given in zip(into, rows, strict=True):
                mine[:] = given
        return plan
