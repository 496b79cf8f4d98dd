"""Models whose steps are written down, and random lives to compare ways of running them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from decision_policies import AD, BC, DC, DM, DMM, DT, DeMa, MambaDM, SequenceAlgorithm
from decision_policies.batch import Step
from decision_policies.contexts import (
    Context,
    Executed,
    NativeContext,
    make_context,
)
from decision_policies.laws.cases import sample
from decision_policies.models import SequenceModel
from decision_policies.spaces import model_shape

BOX = spaces.Box(-np.inf, np.inf, (5,))
SYSTEMS: dict[str, SequenceAlgorithm] = {
    "DeMa": DeMa(d_model=24),
    "DeMa-post": DeMa(d_model=33, n_layers=2, block="post", d_state=5, d_conv=3, expand=2),
    "DeMa-tanh": DeMa(d_model=17, n_layers=1, embedding="tanh", d_conv=1),
    "DMM": DMM(d_model=20, n_layers=2),
    "DM": DM(d_model=16, n_layers=2, max_ep_len=7),
    "AD": AD(d_model=16, n_layers=2, backbone="mamba"),
    "DT": DT(d_model=24, n_layers=2, n_heads=3, max_ep_len=7, context_length=20),
    "DT-narrow": DT(
        d_model=130, n_layers=2, context_length=20, attention_window=2, activation="gelu"
    ),
    "AD-transformer": AD(d_model=32, n_layers=1, n_heads=2, context_length=3),
    "MambaDM": MambaDM(d_model=24, n_layers=2),
    "MambaDM-sum": MambaDM(d_model=64, n_layers=2, fuse="sum", window=3, local_expand=2),
    "BC": BC(d_model=24, n_layers=2, context_length=3),
    "DC": DC(d_model=24, n_layers=2, max_ep_len=0),
    "DC-hybrid": DC(d_model=64, n_layers=2, conv_proj=True, hybrid=True, window=4, max_ep_len=9),
}
SPACES: list[tuple[gym.Space[Any], gym.Space[Any]]] = [
    (BOX, spaces.Box(-2, 3, (3,))),
    (spaces.Discrete(4, start=-1), spaces.Discrete(5, start=2)),
    (spaces.Box(-1, 1, (2, 3)), spaces.Box(-np.inf, np.inf, ())),
    (BOX, spaces.Box(-1, 1, (70,))),
    (spaces.Dict({"a": BOX, "b": spaces.Discrete(3)}), spaces.Discrete(2)),
]


def model_of(
    name: str | SequenceAlgorithm,
    observation: gym.Space[Any] = BOX,
    action: gym.Space[Any] = SPACES[0][1],
) -> SequenceModel:
    """Make a model with weights and statistics that are nothing special."""
    algorithm = SYSTEMS[name] if isinstance(name, str) else name
    model = algorithm.make_policy(observation, action, target_return=50.0).model
    shape = torch.Size(model_shape(observation))
    model.set_statistics(torch.linspace(-1, 1, shape.numel()).view(shape), torch.full(shape, 1.7))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in model.parameters():
            x.add_(0.1 * torch.randn(x.shape, generator=generator))
    return model.eval()


class Life:
    """Random steps of n rows that begin anew, or are idle, by a chance.

    Args:
        model: The model.
        rows: Number n of rows.
        seed: Of everything.
        chance: Of a row that its episode ends, and of the others that they are idle.
        forgets: Chance of a row whose episode ends that it forgets all.
    """

    def __init__(
        self,
        model: SequenceModel,
        rows: int,
        seed: int = 0,
        chance: float = 0.2,
        forgets: float = 1.0,
    ) -> None:
        self.model, self.rows, self.chance, self.forgets = model, rows, chance, forgets
        self.rng = np.random.default_rng(seed)
        self.first = True
        self.clock = np.zeros(rows, np.int64)

    def step(self) -> tuple[Executed | None, np.ndarray[Any, Any] | None, Step, Any]:
        """Draw what `Context.advance` takes."""
        rng, n, spec = self.rng, self.rows, self.model.spec
        executed, clear, idle = None, None, None
        if not self.first:
            action = torch.from_numpy(sample(rng, spec.action_space, n))
            executed = Executed(action, torch.from_numpy(rng.normal(size=n).astype(np.float32)))
            self.clock += 1
            ended = rng.random(n) < self.chance
            self.clock[ended] = 0
            clear = ended & (rng.random(n) < self.forgets)
            idle = ~ended & (rng.random(n) < self.chance)
        self.first = False
        if isinstance(spec.observation_space, spaces.Dict):
            drawn = rng.normal(size=(n, *model_shape(spec.observation_space))).astype(np.float32)
        else:
            drawn = sample(rng, spec.observation_space, n)
        wanted = torch.from_numpy(rng.normal(20, 5, n).astype(np.float32))
        step = Step(torch.from_numpy(drawn), wanted, torch.from_numpy(self.clock.copy()))
        marked = (None if x is None or not x.any() else x for x in (clear, idle))
        return executed, next(marked), step, next(marked)


def native_of(model: SequenceModel, rows: int) -> NativeContext:
    context = make_context(model, rows, "recurrent")
    assert isinstance(context, NativeContext)
    return context


def difference(left: Context, right: Context, life: Life, steps: int) -> float:
    """Live on in both; give the largest difference of what they say of rows that are not idle."""
    worst = 0.0
    for _ in range(steps):
        given = life.step()
        counts = np.ones(life.rows, bool) if given[3] is None else ~given[3]
        error = left.advance(*given).action - right.advance(*given).action
        if counts.any():
            worst = max(worst, float(error[torch.from_numpy(counts)].abs().amax()))
    return worst


def alone(
    row: int, executed: Executed | None, clear: np.ndarray[Any, Any] | None, step: Step
) -> tuple[Executed | None, np.ndarray[Any, Any] | None, Step]:
    """Take one row out of what `Context.advance` takes."""
    mine = slice(row, row + 1)
    seen = (step.observations, step.returns_to_go, step.timesteps)
    done = None if executed is None else Executed(*(x[mine] for x in executed))
    cleared = None if clear is None or not clear[row] else clear[mine]
    return done, cleared, Step(*(x[mine] for x in seen))
