"""Write a HybridModel's two memories as lists of operations, which only the native library runs."""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import nn

from decision_policies.models.embedding import StepEmbedding
from decision_policies.models.hybrid import HybridModel
from decision_policies.models.model import SequenceModel
from decision_policies.models.native_mixers import layers_of, write_layers, write_mixer
from decision_policies.models.native_step import (
    PLACE,
    TILE,
    Buffer,
    NativeStep,
    NotNativeError,
    array,
)
from decision_policies.models.native_writing import (
    tensors_on_cpu,
    write_embedding,
    write_head,
    write_token,
)
from decision_policies.models.subgoals import ChunkEmbedding, SubgoalHead
from decision_policies.nets import Positions


class HybridSteps(NamedTuple):
    """Both memories of a HybridModel, written down.

    Attributes:
        memory: What the long memory does at a chunk's start: from `paid`, `begins` and
            `observation` to a prompt.
        short: What the short one does in each step, which takes in `prompt` and `clock` as well.
    """

    memory: NativeStep
    short: NativeStep


def written_hybrid(model: SequenceModel) -> HybridSteps:
    """Write both memories down.

    Raises:
        NotNativeError: The model has a part that is unknown here.
    """
    if type(model) is not HybridModel:
        raise NotNativeError(f"{type(model).__name__} is not a HybridModel")
    return HybridSteps(_written_memory(model), _written_short(model))


def _written_memory(model: HybridModel) -> NativeStep:
    look, goals = model.look, model.subgoal
    if type(look) is not ChunkEmbedding or type(goals) is not SubgoalHead:
        raise NotNativeError(f"it has a {type(look).__name__} and a {type(goals).__name__}")
    step = NativeStep(0, 3, tensors=tensors_on_cpu(model))
    width = model.embedding.d_model
    x = step.buffer(width)
    for token, name in enumerate(("paid", "begins", "observation")):
        write_token(step, name, getattr(look, name), x, token=token)
    step.norm(look.norm, x, x)
    x = write_mixer(step, model.memory, x, width)
    y, mean, mapped, prompt = (step.buffer(width) for _ in range(4))
    step.norm(model.memory_norm, x, y, last=1)
    rows = slice(width)  # those of the mean; the deviation is for training
    step.product(array(goals.linear.weight)[rows], goals.linear.bias[rows], y, mean, last=1)
    linear, norm = goals.prompt
    step.linear(cast(nn.Linear, linear), mean, mapped, last=1)
    step.norm(cast(nn.LayerNorm, norm), mapped, prompt, last=1)
    step.parameters = width
    return step


def _written_short(model: HybridModel) -> NativeStep:
    embedding, (positions, *layers) = model.embedding, layers_of(model.short)
    if type(embedding) is not StepEmbedding or not embedding.interleaved:
        raise NotNativeError("it has no StepEmbedding of the layout B3LD")
    if type(positions) is not Positions:
        raise NotNativeError("its short memory does not begin with Positions")
    given = embedding.acting_token + 1
    done = embedding.tokens_per_step - given
    if not done or done + given > TILE:
        raise NotNativeError(f"a step has {done} tokens of its end, and {given} others")
    step = NativeStep(done, given, prompt=True, tensors=tensors_on_cpu(model))
    width = embedding.d_model
    x = step.buffer(width)
    write_embedding(step, embedding, model.head, x)
    prompt, clock = step.takes("prompt", width), step.takes("clock", 1)
    table = array(positions.table)
    step.add(
        PLACE, Buffer(prompt.start, 0, 0), x, out=width, weight=step.keep(table),
        extra=clock.start, places=len(table),
    )  # fmt: skip
    x = write_layers(step, layers, x, width)
    write_head(step, model.norm, model.head, x)
    return step
