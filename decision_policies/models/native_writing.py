"""Write a model as the list of operations that the native library or NumPy runs.

Models that this file does not know act by torch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from decision_policies.models.embedding import StepEmbedding
from decision_policies.models.encoders import FlatEncoder, IndexEncoder, VectorEncoder
from decision_policies.models.heads import ContinuousHead, DiscreteHead
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
    version_of,
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
    tensors = tensors_of(model)
    floats = [x for x in tensors if x.is_floating_point()]
    if any(x.dtype != torch.float32 or x.device.type != "cpu" or x.is_inference() for x in floats):
        raise NotNativeError("its weights are not float32 on the CPU")
    embedding = model.embedding
    given = embedding.acting_token + 1
    if embedding.tokens_per_step > TILE:
        raise NotNativeError(f"a step has {embedding.tokens_per_step} tokens")
    chunk = min(steps, TOKENS // embedding.tokens_per_step)
    step = NativeStep(embedding.tokens_per_step - given, given, chunk, tensors=tensors)
    step.version = version_of(tensors)
    x = step.buffer(embedding.d_model)
    _write_embedding(step, model, embedding, x)
    x = write_mixer(step, model.backbone, x, embedding.d_model)
    y = step.buffer(embedding.d_model)
    step.norm(model.norm, x, y, last=1)
    head = model.head
    if type(head) not in (ContinuousHead, DiscreteHead):
        raise NotNativeError(f"it has a {type(head).__name__}")
    assert isinstance(head, ContinuousHead | DiscreteHead)
    squash = "tanh" if isinstance(head, ContinuousHead) and head.bounded else "none"
    step.parameters = head.n_features
    out = step.buffer(head.n_features)
    step.linear(head.linear, y, out, last=1, activation=ACTIVATIONS.index(squash))
    step.copies = [x.detach().clone() for x in tensors]
    return step


def _write_embedding(
    step: NativeStep, model: TokenModel, embedding: StepEmbedding, x: Buffer
) -> None:
    """Write how the tokens of a step's end and of the next step come about, in this order."""
    names = embedding.modalities[step.given :] + embedding.modalities[: step.given]
    for token, name in enumerate(names):
        table: Floats | None = None
        weight: Floats = np.empty(0, np.float32)
        bias: Tensor | None = None
        if name == "action" and isinstance(model.head, DiscreteHead):
            table = array(embedding.action.weight).T
            if embedding.action.bias is not None:
                table = table + array(embedding.action.bias)
        elif name == "observation":
            encoder = embedding.observation
            if type(encoder) is IndexEncoder:
                table = array(encoder.table.weight)
            elif type(encoder) in (VectorEncoder, FlatEncoder):
                assert isinstance(encoder, VectorEncoder)
                weight, bias = array(encoder.linear.weight), encoder.linear.bias
            else:
                raise NotNativeError(f"it has a {type(encoder).__name__}")
        else:
            layer = {"action": "action", "return": "returns", "reward": "reward"}[name]
            linear = getattr(embedding, layer)
            weight, bias = array(linear.weight), linear.bias
        into = 1 if table is not None else weight.shape[1]
        columns = slice(step.width, step.width + into)
        step.width = columns.stop
        step.parts[name] = columns
        squash = "none" if embedding.norm is not None else "tanh"
        slots = {"token": token}
        if embedding.timestep is not None:
            slots["extra"] = BEFORE if token < step.done else NOW
            slots["table"] = step.keep(array(embedding.timestep.weight))
            slots["places"] = embedding.timestep.num_embeddings
        source = Buffer(columns.start, 0, 0)
        if table is not None:
            rows = step.keep(np.tanh(table) if squash == "tanh" else table)
            step.add(LOOKUP, source, x, out=embedding.d_model, weight=rows, **slots)
        else:
            address = 0 if bias is None else step.keep(padded(array(bias), PANEL))
            step.add(
                EMBED, source, x, in_=into, out=embedding.d_model, bias=address,
                weight=step.keep(packed(weight)), activation=ACTIVATIONS.index(squash), **slots,
            )  # fmt: skip
    if embedding.norm is not None:
        step.norm(embedding.norm, x, x)
