"""Write the acting step of a policy into one file that acts without this package."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from decision_policies import inputs, tree
from decision_policies.atomic import write_file
from decision_policies.batch import Step
from decision_policies.contexts import Executed, RecurrentContext, StaggeredContext
from decision_policies.errors import ExportError
from decision_policies.models import TokenModel
from decision_policies.models.heads import ContinuousHead, DiscreteHead, Head
from decision_policies.policy import SequencePolicy
from decision_policies.tree import State
from decision_policies.version import __version__

Format: TypeAlias = Literal["onnx", "torch"]
Run: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]

GIVEN = ("observation", "return_to_go", "timestep", "previous_action", "previous_reward")
CHOSEN = ("action", "parameters")
TOLERANCE = 1e-4
"""Largest difference from the policy, relative where above 1, that the check lets pass."""


def export_step(
    policy: SequencePolicy, path: str | os.PathLike[str], *, format: Format = "onnx", rows: int = 1
) -> None:
    """Write what `policy.predict` computes as a function with explicit state, in one file.

    With n = `rows`, the function takes, in this order:

    - `observation`, (n, *observation): float32; uint8 for images; int64 for Discrete; a Dict as
      one float32 vector, its entries in order, flattened, Discrete ones one-hot;
    - `return_to_go`, (n,), float32: what is still asked for;
    - `timestep`, (n,), int64: steps since the episode's start; at 0 a row begins anew, whatever its
      state and what came before;
    - `previous_action`, (n, *action): what was executed in the last step, float32 for Box, int64
      for Discrete, and `previous_reward`, (n,), float32, what followed;
    - `state_0`, `state_1`, ...: what the last call returned; zeros at first.

    It gives `action`, (n, *action), of the action space's dtype, as
    `predict` with `deterministic=True` does; `parameters`, (n, P), the head's output, such as the
    logits to sample from; and `new_state_0`, `new_state_1`, .... The caller subtracts rewards from
    the return-to-go. The file says how, and which return to ask for, in JSON: under
    `decision_policies` in ONNX's metadata, as the extra file `decision_policies.json` in torch's.

    Before it is written, the function is run beside the policy's own over an episode's border.

    Args:
        policy: Acts with "recurrent" or "staggered" memory, which the function then has.
        path: The file, such as `policy.onnx` or `policy.pt2`; one that is there is replaced.
        format: "onnx" is for onnxruntime and others, and needs the extra `[export]`; "torch" is
            for `torch.export.load`, which trusts its file: load none that you have not made.
        rows: Number n of environments that act in one call.

    Raises:
        ExportError: The policy cannot be exported; the message says why. Nothing is written.
        ImportError: The extra `[export]` is not installed.
        ValueError: There is no such format, or no row.
    """
    if format not in get_args(Format):
        raise ValueError(f"format must be one of {', '.join(get_args(Format))}; got {format!r}")
    if type(rows) is not int or rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows!r}")
    _check_policy(policy)
    step = _ActingStep(policy, rows)
    example = step.example()
    about = json.dumps(_about(policy))
    write = _onnx if format == "onnx" else _torch
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of exporters, about their own insides
            content, run = write(step, example, about)
    except ImportError:
        raise
    except Exception as error:
        raise ExportError(
            f"{type(policy.model).__name__} could not be exported by torch {torch.__version__} as "
            f"format={format!r}: {_reason(error)}"
        ) from error
    _compare(run, step, policy, example)
    write_file(Path(path), content)


def _reason(error: BaseException) -> str:
    """Give the first line of the error that others came from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _check_policy(policy: SequencePolicy) -> None:
    """Refuse what has no step of constant size with its memory in a state."""
    spec, model = policy.spec, policy.model
    if policy.inference == "window":
        raise ExportError(
            "a policy that acts by inference='window' has no state to carry: export "
            "policy.fork(inference='recurrent'), or 'staggered'"
        )
    if spec.memory == "lifetime":
        raise ExportError(
            "a policy that remembers over episodes (memory='lifetime') cannot be exported: its "
            "memory does not end where an episode does"
        )
    if type(model) is not TokenModel:
        raise ExportError(f"a {type(model).__name__} cannot be exported, only a TokenModel can")
    if type(model.head) not in (ContinuousHead, DiscreteHead):
        raise ExportError(f"a head of class {type(model.head).__name__} cannot be exported")


def _about(policy: SequencePolicy) -> dict[str, Any]:
    """Collect what a caller must know beside the function."""
    target = policy.target_return
    return {
        "target_return": float(target) if target.ndim == 0 else target.tolist(),
        "counts_down": policy.spec.counts_down,
        "clip_rewards": policy.spec.clip_rewards,
        "inference": policy.inference,
        "version": __version__,
    }


class _ActingStep(nn.Module):
    """One step as a pure function of flat tensors: what was done, then what to do next.

    Args:
        policy: The policy; its model is copied to the CPU.
        rows: Number n of environments.
    """

    def __init__(self, policy: SequencePolicy, rows: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(policy.model).cpu().eval().requires_grad_(False)
        self.period = self.model.spec.context_length // 2 if policy.inference == "staggered" else 0
        self.rows = rows
        self.first_observation = _drawn(self.model.spec.observation_space, rows, seed=0)
        self.first_action = _drawn(self.model.spec.action_space, rows, seed=0)
        self.likeliest = _Likeliest(self.model.head)
        self.structure = self._steady_state()

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Map the tensors named in `export_step` to the action, its parameters and the state."""
        observation, return_to_go, timestep, action, reward, *flat = given
        fresh = timestep == 0
        action = torch.where(_column(fresh, action), self.first_action, action)
        before, restart = (timestep - 1).clamp(min=0), fresh
        if self.period:
            turn = torch.div(timestep, self.period, rounding_mode="floor")
            odd, due = turn % 2 == 1, (timestep % self.period == 0)
            restart = torch.cat((fresh | (due & ~odd), fresh | (due & odd)))
            twice = (observation, return_to_go, timestep, before, action, reward)
            observation, return_to_go, timestep, before, action, reward = map(_doubled, twice)
        state = tree.unflatten(self.structure, flat)
        last = Step(observation, return_to_go, before)  # of which only the time is looked at
        state = self.model.commit(action, reward, last, state)
        now = Step(observation, return_to_go, timestep)
        prediction, state = self.model.act(now, _cleared(state, restart))
        parameters = prediction.action
        if self.period:
            second = (turn > 0) & ~odd
            first, other = parameters.chunk(2)
            parameters = torch.where(second.unsqueeze(-1), other, first)
        return (self.likeliest(parameters), parameters, *tree.leaves(state))

    def example(self) -> tuple[Tensor, ...]:
        """Make arguments of the right shapes: those of an episode's first step."""
        asked, reward = torch.zeros(self.rows), torch.zeros(self.rows)  # one would be one argument
        state = (torch.zeros_like(x) for x in tree.leaves(self.structure))
        return (self.first_observation, asked, asked.long(), self.first_action, reward, *state)

    @torch.no_grad()
    def _steady_state(self) -> State:
        """Step until the state grows no more, as a cache of keys does up to its window.

        In front of such a cache zeros mean nothing, so the all-zero state of full size is the
        initial state, too.
        """
        rows = 2 * self.rows if self.period else self.rows
        observation = _doubled(self.first_observation)[:rows]
        action = _doubled(self.first_action)[:rows]
        zeros = torch.zeros(rows)
        step = Step(observation, zeros, zeros.long())
        state: State = self.model.initial_state(rows)
        for _ in range(self.model.spec.context_length + 1):
            before = state
            _, state = self.model.act(step, state)
            state = self.model.commit(action, zeros, step, state)
            if [x.shape for x in tree.leaves(before)] == [x.shape for x in tree.leaves(state)]:
                return state
        raise ExportError(
            "the model's state still grows after as many steps as its context has; a file has "
            "room for a state of constant size only"
        )


def _cleared(state: State, rows: Tensor) -> State:
    """`tree.clear` without the choice between bools, which onnxruntime does not know."""

    def clear(x: Tensor) -> Tensor:
        gone = _column(rows, x)
        return x & ~gone if x.dtype == torch.bool else x.masked_fill(gone, 0)

    return tree.map_state(clear, state)


def _doubled(x: Tensor) -> Tensor:
    return torch.cat((x, x))


def _column(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(-1, *(1 for _ in like.shape[1:]))


class _Likeliest(nn.Module):
    """`Head.act`, deterministic, in operators of torch.

    Args:
        head: A continuous or a discrete head.
    """

    low: Tensor
    high: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        assert isinstance(head, (ContinuousHead, DiscreteHead)), "export_step refuses every other"
        self.head = head
        self.dtype = torch.from_numpy(np.zeros(0, head.space.dtype)).dtype
        if isinstance(head, ContinuousHead):
            self.register_buffer("low", torch.from_numpy(head.space.low.copy()))
            self.register_buffer("high", torch.from_numpy(head.space.high.copy()))

    def forward(self, parameters: Tensor) -> Tensor:
        """Choose actions (n, *action) of the space's dtype from parameters (n, P)."""
        head = self.head
        if isinstance(head, DiscreteHead):
            return (parameters.argmax(-1) + int(head.space.start)).to(self.dtype)
        actions = (parameters * head.half_width + head.center).view(-1, *head.space.shape)
        if head.rounds:
            actions = actions.double().round()
        return actions.maximum(self.low).minimum(self.high).to(self.dtype)


def _drawn(space: spaces.Space[Any], rows: int, seed: int) -> Tensor:
    """Draw n elements of a space, as the model takes them."""
    space = copy.deepcopy(space)
    space.seed(seed)
    return torch.cat([inputs.observation(space.sample(), space)[0] for _ in range(rows)])


def _onnx(step: _ActingStep, example: tuple[Tensor, ...], about: str) -> tuple[bytes, Run]:
    """Export to ONNX; gives the file and a way to run it."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise ImportError(
            "format='onnx' needs onnx, onnxscript and onnxruntime: "
            "pip install 'decision-policies[export]'"
        ) from error
    states = [f"state_{i}" for i in range(len(example) - len(GIVEN))]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns where torchvision is not installed
    try:
        program = torch.onnx.export(
            step,
            example,
            input_names=[*GIVEN, *states],
            output_names=[*CHOSEN, *(f"new_{name}" for name in states)],
            dynamo=True,
            verbose=False,
        )
    finally:
        logger.setLevel(level)
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # where in this machine's files it comes from
    program.model.metadata_props["decision_policies"] = about
    content: bytes = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        feed = {entry.name: x.numpy() for entry, x in zip(session.get_inputs(), given, strict=True)}
        return [torch.from_numpy(x) for x in session.run(None, feed)]

    return content, run


def _torch(step: _ActingStep, example: tuple[Tensor, ...], about: str) -> tuple[bytes, Run]:
    """Export by torch.export; gives the file and a way to run it."""
    program = torch.export.export(step, example)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where in this machine's files it comes from
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"decision_policies.json": about})
    module = program.module()
    return file.getvalue(), lambda given: module(*given)


def _compare(
    run: Run, step: _ActingStep, policy: SequencePolicy, example: tuple[Tensor, ...]
) -> None:
    """Run the exported function and the policy's own context side by side over two episodes.

    Raises:
        ExportError: They differ.
    """
    length, rows = step.model.spec.context_length, step.rows
    context = RecurrentContext(step.model, 2 * rows if step.period else rows)
    own = StaggeredContext(context, rows, length) if step.period else context
    spec, state = step.model.spec, list(example[len(GIVEN) :])
    executed: Executed | None = None
    noise = torch.Generator().manual_seed(0)
    for t in (*range(length + 3), *range(3)):
        seen = _drawn(spec.observation_space, rows, seed=t)
        asked, reward = torch.randn(2, rows, generator=noise) * spec.return_scale
        timestep = torch.full((rows,), t)
        last = executed or Executed(example[3], reward)
        action, parameters, *state = run((seen, asked, timestep, *last, *state))
        clear = np.ones(rows, bool) if executed and not t else None
        expected = own.advance(executed, clear, Step(seen, asked, timestep)).action
        error = ((parameters - expected).abs() / expected.abs().clamp(min=1)).max()
        if not error < TOLERANCE:
            raise ExportError(
                f"the exported function differs from the policy by {error:.1e} in step {t}, more "
                f"than {TOLERANCE}; nothing was written"
            )
        executed = Executed(inputs.action_tensor(action.numpy()), reward)
