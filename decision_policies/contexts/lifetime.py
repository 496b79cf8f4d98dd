"""Memory over episodes: the best past ones, encoded again whenever one ends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from decision_policies import tree
from decision_policies.batch import Prediction, Step
from decision_policies.contexts.context import Executed, Rows
from decision_policies.contexts.episodes import Episodes, Steps, joined
from decision_policies.contexts.recurrent import RecurrentContext
from decision_policies.models.model import SequenceModel
from decision_policies.tree import State


class LifetimeContext(RecurrentContext):
    """A state carried through an episode, after the best past ones in the order of their returns.

    Of each row the best n - 1 episodes are kept. When one ends, the kept ones are encoded anew, for
    a state that has seen them cannot be made to have seen them in another order; between two ends
    the state is carried as ever.

    Args:
        model: The model; the size of its state does not depend on what it has seen.
        rows: Number of rows.
        episodes: Number n of episodes in a context, the present one included.
    """

    def __init__(self, model: SequenceModel, rows: int, episodes: int) -> None:
        super().__init__(model, rows)
        self.episodes = Episodes(rows, episodes - 1)

    @classmethod
    @torch.inference_mode()
    def of(cls, model: SequenceModel, episodes: Episodes, last: Step | None) -> LifetimeContext:
        """Make a context that goes on where another was: what it remembers is encoded anew.

        Args:
            model: The model.
            episodes: The other's.
            last: What was known of the step for which it has predicted; None before the first.
        """
        rows = len(episodes.lengths)
        context = cls(model, rows, episodes.most + 1)
        context.episodes, context.last = episodes, last
        if last is not None:
            begun = [[episodes.present(i)] if n else [] for i, n in enumerate(episodes.lengths)]
            pasts = [past + now for past, now in zip(episodes.past, begun, strict=True)]
            state = context._encoded(range(rows), pasts, context.state)
            _, context.state = model.act(last, state)
        return context

    def _next(
        self, executed: Executed | None, clear: Rows | None, step: Step, idle: Rows | None
    ) -> tuple[Prediction, State]:
        """Predict, after the best past episodes where one has just ended."""
        if executed is None or self.last is None:
            return super()._next(executed, clear, step, idle)
        ended = self.episodes.move_on(self.last, executed, clear, step, idle)
        if not ended.any():
            return super()._next(executed, None, step, idle)
        state = self.state
        if not ended.all():
            state = self.model.commit(*executed, self.last, state)
        rows = np.flatnonzero(ended).tolist()
        return self.model.act(
            step, self._encoded(rows, [self.episodes.past[row] for row in rows], state)
        )

    def _encoded(self, rows: Sequence[int], pasts: Sequence[list[Steps]], state: State) -> State:
        """Replace the state of rows by one that has seen these episodes, in order."""
        groups: dict[int, list[int]] = {}
        for place, past in enumerate(pasts):
            groups.setdefault(sum(len(x.rewards) for x in past), []).append(place)
        for length, places in groups.items():  # rows of one length need no padding
            seen = self.model.initial_state(len(places))
            if length:
                seen = self.model.remember(joined([pasts[place] for place in places]))
            index = torch.tensor([rows[p] for p in places], device=tree.leaves(seen)[0].device)
            state = tree.map_state(partial(_put, index), state, seen)
        return state


def _put(rows: Tensor, old: Tensor, new: Tensor) -> Tensor:
    return old.index_copy(0, rows, new)
