"""Write the acting step of a policy into one file that acts without this package."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from decision_policies import inputs
from decision_policies.atomic import write_file
from decision_policies.batch import Step
from decision_policies.contexts import Executed, RecurrentContext, StaggeredContext
from decision_policies.errors import ExportError
from decision_policies.export.formats import GIVEN, Run, to_onnx, to_torch
from decision_policies.export.step import HEADS, ActingStep, drawn_observations
from decision_policies.models import TokenModel
from decision_policies.policy import SequencePolicy
from decision_policies.version import __version__

Format: TypeAlias = Literal["onnx", "torch"]

TOLERANCE = 1e-4
"""Largest difference from the policy, relative where above 1, that the check lets pass."""


def export_step(
    policy: SequencePolicy, path: str | os.PathLike[str], *, format: Format = "onnx", rows: int = 1
) -> None:
    """Write what `policy.predict` computes as a function with explicit state, in one file.

    With n = `rows`, the function takes, in this order:

    - `observation`, (n, *observation), as `inputs.observation` returns it: float32; uint8 for
      images, channels first; int64 for Discrete; all else as the flat float32 vector that
      `gymnasium.spaces.flatten` makes;
    - `return_to_go`, (n,), float32: what is still asked for;
    - `timestep`, (n,), int64: steps since the episode's start; at 0 a row begins anew, whatever its
      state and what came before;
    - `previous_action`, (n, *action): what was executed in the last step, float32 for Box of
      floats, else int64; and `previous_reward`, (n,), float32, what followed;
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
    step = ActingStep(policy, rows)
    example = step.example()
    about = json.dumps(_about(policy))
    write = to_onnx if format == "onnx" else to_torch
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
    if spec.predicts_rewards:
        raise ExportError(
            'a policy of return_mode="predict" cannot be exported: the function is given its '
            "return-to-go, which only the model could count down; learn with "
            'return_mode="constant" to act without rewards from a file'
        )
    if type(model) is not TokenModel:
        raise ExportError(f"a {type(model).__name__} cannot be exported, only a TokenModel can")
    if type(model.head) not in HEADS:
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


def _compare(
    run: Run, step: ActingStep, policy: SequencePolicy, example: tuple[Tensor, ...]
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
        seen = drawn_observations(spec.observation_space, rows, seed=t)
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
