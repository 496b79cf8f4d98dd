"""Context: what every way to remember does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.batch import Prediction, Step

Rows: TypeAlias = NDArray[np.bool_]
"""Which rows are meant, (n,). Rows are counted in numpy: no GPU has to be waited for."""


class Executed(NamedTuple):
    """What was done in the last step.

    Attributes:
        action: (n, *action), in the environment's units.
        reward: (n,), float32.
    """

    action: Tensor
    reward: Tensor


class Context(ABC):
    """Memory of n rows over the steps of their episodes."""

    @abstractmethod
    def advance(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None = None
    ) -> Prediction:
        """Take in the last step's action, forget what must be forgotten, and predict.

        Args:
            executed: What was done in the last step; None before the first.
            clear: Rows (n,), bool, whose memory ends before this step; None for no row.
            step: What is known of the present step.
            idle: Rows (n,), bool, that this step does not count for: their memory stays as it is,
                and what is predicted for them means nothing; None for no row.

        Returns:
            The prediction for the present step, (n, P).
        """
