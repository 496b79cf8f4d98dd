"""Write a model as the list of operations that the native library or NumPy runs.

Models that this file does not know act by torch.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from decision_policies.models.embedding import StepEmbedding
from decision_policies.models.encoders import FlatEncoder, IndexEncoder, VectorEncoder
from decision_policies.models.heads import ContinuousHead, DiscreteHead, Head
from decision_policies.models.model import SequenceModel, TokenModel
from decision_policies.models.native_mixers import write_mixer
from decision_policies.models.native_step import (
    ACTIVATIONS,
    BEFORE,
    EMBED,
    LOOKUP,
    NOW,
    PANEL,
    TILE,
    TOKENS,
    Buffer,
    Floats,
    NativeStep,
    NotNativeError,
    array,
    packed,
    padded,
    tensors_of,
)


def written(model: SequenceModel, steps: int = 1) -> NativeStep:
    """Write down a model's step, or its pass over a window.

    Args:
        model: The model.
        steps: Steps of a window at most; 1 writes a single step.

    Raises:
        NotNativeError: The model has a part that is unknown here.
    """
    if type(model) is not TokenModel or not model.embedding.interleaved:
        raise NotNativeError(f"{type(model).__name__} is not a TokenModel of the layout B3LD")
    tensors = tensors_on_cpu(model)
    embedding = model.embedding
    given = embedding.acting_token + 1
    if embedding.tokens_per_step > TILE:
        raise NotNativeError(f"a step has {embedding.tokens_per_step} tokens")
    chunk = min(steps, TOKENS // embedding.tokens_per_step)
    step = NativeStep(embedding.tokens_per_step - given, given, chunk, tensors=tensors)
    x = step.buffer(embedding.d_model)
    write_embedding(step, embedding, model.head, x)
    x = write_mixer(step, model.backbone, x, embedding.d_model)
    write_head(step, model.norm, model.head, x)
    return step


def tensors_on_cpu(model: SequenceModel) -> list[Tensor]:
    """List what a step depends on.

    Raises:
        NotNativeError: The library and NumPy cannot read it.
    """
    tensors = tensors_of(model)
    floats = [x for x in tensors if x.is_floating_point()]
    if any(x.dtype != torch.float32 or x.device.type != "cpu" or x.is_inference() for x in floats):
        raise NotNativeError("its weights are not float32 on the CPU")
    return tensors


def write_head(step: NativeStep, norm: nn.LayerNorm, head: Head, x: Buffer) -> None:
    """Write how the action is read from the last of the tokens x."""
    if type(head) not in (ContinuousHead, DiscreteHead):
        raise NotNativeError(f"it has a {type(head).__name__}")
    assert isinstance(head, ContinuousHead | DiscreteHead)
    y, out = step.buffer(norm.normalized_shape[0]), step.buffer(head.n_features)
    step.norm(norm, x, y, last=1)
    squash = "tanh" if isinstance(head, ContinuousHead) and head.bounded else "none"
    step.parameters = head.n_features
    step.linear(head.linear, y, out, last=1, activation=ACTIVATIONS.index(squash))


def write_embedding(step: NativeStep, embedding: StepEmbedding, head: Head, x: Buffer) -> None:
    """Write how the tokens of a step's end and of the next step come about, in this order."""
    names = embedding.modalities[step.given :] + embedding.modalities[: step.given]
    for token, name in enumerate(names):
        maker: nn.Module | Floats
        if name == "action" and isinstance(head, DiscreteHead):
            maker = array(embedding.action.weight).T
            if embedding.action.bias is not None:
                maker = maker + array(embedding.action.bias)
        else:
            maker = getattr(embedding, "returns" if name == "return" else name)
        slots = {"token": token}
        if embedding.timestep is not None:
            slots["extra"] = BEFORE if token < step.done else NOW
            slots["table"] = step.keep(array(embedding.timestep.weight))
            slots["places"] = embedding.timestep.num_embeddings
        squash = "none" if embedding.norm is not None else "tanh"
        write_token(step, name, maker, x, squash, **slots)
    if embedding.norm is not None:
        step.norm(embedding.norm, x, x)


def write_token(
    step: NativeStep,
    name: str,
    maker: nn.Module | Floats,
    x: Buffer,
    squash: str = "none",
    **slots: int,
) -> None:
    """Write how a token comes about from columns of the input that are its own.

    Args:
        step: The list.
        name: What the columns are called in `parts`.
        maker: A linear map or an encoder, or a table of which the column names a row.
        x: The tokens.
        squash: Activation.
        slots: `token`, which of them it is, and how a clock is added.
    """
    table: Floats | None = None
    if isinstance(maker, np.ndarray):
        table = maker
    elif type(maker) is IndexEncoder:
        table = array(maker.table.weight)
    linear = maker
    if type(maker) in (VectorEncoder, FlatEncoder):
        linear = cast(VectorEncoder, maker).linear
    if table is None and not isinstance(linear, nn.Linear):
        raise NotNativeError(f"it has a {type(maker).__name__}")
    columns = step.takes(name, 1 if table is not None else cast(nn.Linear, linear).in_features)
    source = Buffer(columns.start, 0, 0)
    if table is not None:
        rows = step.keep(np.tanh(table) if squash == "tanh" else table)
        step.add(LOOKUP, source, x, out=table.shape[1], weight=rows, **slots)
        return
    assert isinstance(linear, nn.Linear)
    bias = 0 if linear.bias is None else step.keep(padded(array(linear.bias), PANEL))
    step.add(
        EMBED, source, x, in_=linear.in_features, out=linear.out_features, bias=bias,
        weight=step.keep(packed(array(linear.weight))), activation=ACTIVATIONS.index(squash),
        **slots,
    )  # fmt: skip
