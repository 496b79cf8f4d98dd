"""Nothing waits for a GPU between an update's ends or in a step: a CUDA graph could hold either.

On the meta device tensors have shapes and no values, so whatever looks at a value, or makes a shape
of one, raises: `item`, `nonzero`, masks as indices, copies to the CPU. No GPU is needed to see it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

from decision_policies import tree
from decision_policies.batch import Step, Window
from decision_policies.laws.cases import SPACES, Case, windows
from decision_policies.models.model import SequenceModel
from tests.laws.systems import SYSTEMS

KINDS = {name: list(SPACES)[i % len(SPACES)] for i, name in enumerate(SYSTEMS)}

LOOKS_IN_TRAINING = {
    "MambaDM-chunk-sum": "it compares the kinds of tokens of its chunks",
    "DMHybrid": "the data say how many chunks there are",
    "DMHybrid-aligned": "the data say how many chunks there are",
}
LOOKS_IN_A_STEP = {
    "DMHybrid": "most steps begin no chunk, and name no sub-goal",
    "DMHybrid-aligned": "most steps begin no chunk, and name no sub-goal",
}


@cache
def without_values(name: str) -> tuple[SequenceModel, Window]:
    system, changes = SYSTEMS[name]
    model = Case(system, KINDS[name], changes).model()
    return model.to("meta"), windows(KINDS[name], 4, 9).to("meta")


def update(model: SequenceModel, window: Window) -> None:
    """Do what `Training` does from the batch to the look at the loss, twice, the state carried."""
    model.train()
    losses, state = model.losses(window)
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    model.losses(window, tree.clear(tree.detach(state), window.starts))


@torch.inference_mode()
def step(model: SequenceModel, window: Window) -> None:
    """Do what a recurrent context does in a first, a second and a cleared step."""
    model.eval()
    given = (window.observations, window.returns_to_go, window.timesteps)
    first, second = (Step(*(x[:, t] for x in given)) for t in (0, 1))
    executed = window.actions[:, 0], window.rewards[:, 0]
    _, state = model.act(first, model.initial_state(len(window.mask)))
    model.commit_and_act(*executed, first, second, state)
    model.act(second, tree.clear(model.commit(*executed, first, state), window.starts))


def assert_blind(
    run: Callable[[SequenceModel, Window], None], name: str, exceptions: dict[str, str]
) -> None:
    if name in exceptions:
        with pytest.raises(RuntimeError, match=r"item\(\)|nonzero"):
            run(*without_values(name))
    else:
        run(*without_values(name))


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_update_looks_at_a_value(name: str) -> None:
    assert_blind(update, name, LOOKS_IN_TRAINING)


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_step_looks_at_a_value(name: str) -> None:
    assert_blind(step, name, LOOKS_IN_A_STEP)
