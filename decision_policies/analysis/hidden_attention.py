"""Hidden attention: how much each token of a window weighs in what a Mamba block makes of another.

Letters: B batch, T environment steps, L tokens, D model width, E inner width of the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies.analysis import probe
from decision_policies.analysis.probe import Subject
from decision_policies.batch import Window
from decision_policies.models.model import TokenModel
from decision_policies.nets import Chunked, LocalMamba, Mamba
from decision_policies.ops.hidden_attention import hidden_attention

Reduce: TypeAlias = Literal["mean", "abs_mean"]

ENTRIES = 1 << 22
"""Channels are computed in groups of about this many matrix entries."""


@dataclass(frozen=True)
class HiddenAttention:
    """Attention matrices of the Mamba blocks of a model on a batch of windows.

    Attributes:
        names: Place of each block in the model's backbone, one a layer.
        matrices: (layers, B, L, L), float32. Entry [k, b, i, j] is what token j weighs in the
            output of block k at token i, 0 for j > i, reduced over the block's channels.
        inputs: What each block was given, normalised, (B, L, D), one a layer.
        mask: (B, L), bool, True where the token belongs to a real step.
        tokens: Names of a step's tokens, in order; ("step",) where one token carries everything.
    """

    names: tuple[str, ...]
    matrices: NDArray[np.float32]
    inputs: tuple[NDArray[np.float32], ...]
    mask: NDArray[np.bool_]
    tokens: tuple[str, ...]


def attention_matrix(
    mamba: Mamba,
    x: Tensor,
    reduce: Reduce | None = "mean",
    gated: bool = False,
    include_D: bool = False,
) -> Tensor:
    """Write what a Mamba block does along the sequence as an attention matrix.

    The block's scan gives y[i] = sum_j alpha[i, j] u[j] + D u[i] in each channel, where u is its
    input after projection, convolution and SiLU: position j already mixes the last W tokens. The
    block starts from the zero state. A `LocalMamba` has a band of the matrix, its window wide.

    Args:
        mamba: The block.
        x: What it is given, that is the normalised tokens, (B, L, D).
        reduce: "mean" is the mean over channels, "abs_mean" the mean of absolute values, None
            keeps the channels.
        gated: Multiply row i by the gate SiLU(z[i]), as the block does to its output.
        include_D: Add the skip weight D to the diagonal.

    Returns:
        (B, L, L), or (B, E, L, L) where the channels are kept; it carries gradients.

    Raises:
        ValueError: There is no such reduction.

    References:
        Ali et al., "The Hidden Attention of Mamba Models", arXiv 2403.01590, section 3.
    """
    if reduce not in ("mean", "abs_mean", None):
        raise ValueError(f"reduce must be 'mean', 'abs_mean' or None, got {reduce!r}")
    u, z = F.linear(x, mamba.in_proj.weight, mamba.in_proj.bias).chunk(2, -1)
    if mamba.d_conv is not None:
        past = F.pad(u.transpose(1, 2), (mamba.d_conv - 1, 0))
        u = mamba.conv1d(past).transpose(1, 2)
    delta, A, B, C = mamba.selection(F.silu(u))
    gate = F.silu(z).transpose(1, 2).unsqueeze(-1)  # (B, E, L, 1)

    def part(channels: slice) -> Tensor:
        alpha = hidden_attention(delta, A, B, C, channels=channels)
        if isinstance(mamba, LocalMamba):
            alpha = alpha.triu(1 - mamba.window)
        if include_D:
            alpha = alpha + torch.diag_embed(mamba.D[channels, None].expand(-1, x.shape[1]))
        return alpha * gate[:, channels] if gated else alpha

    if reduce is None:
        return part(slice(None))
    total = x.new_zeros(len(x), x.shape[1], x.shape[1])
    for channels in _groups(mamba.d_inner, total.numel()):
        alpha = part(channels)
        total = total + (alpha.abs() if reduce == "abs_mean" else alpha).sum(1)
    return total / mamba.d_inner


@torch.no_grad()
def attention_matrices(
    subject: Subject,
    window: Window,
    layer: int | None = None,
    *,
    reduce: Reduce = "abs_mean",
    gated: bool = False,
    include_D: bool = False,
) -> HiddenAttention:
    """Run a model over windows and write each of its Mamba blocks as an attention matrix.

    The model sees each window by itself, from the empty memory, in evaluation mode. Blocks stand
    in the order in which they are called; blocks side by side, such as MambaDM's global and local
    one, count as a layer each. Where a mixer restarts its block every few tokens, the matrix is
    block-diagonal.

    Args:
        subject: A `TokenModel`, or a policy or algorithm with one.
        window: (B, T) steps.
        layer: Which of the blocks, negative from the end; None is all of them.
        reduce: "abs_mean" or "mean" over the channels, see `attention_matrix`.
        gated: Multiply row i by the gate of token i.
        include_D: Add the skip weight D to the diagonal.

    Returns:
        Names, matrices and inputs of the blocks.

    Raises:
        TypeError: The model is no `TokenModel`, or holds no Mamba block.
        IndexError: There is no such layer.
    """
    model = probe.token_model(subject)
    window = probe.on_device(model, window)
    calls = _calls(model, window)
    if layer is not None:
        if not -len(calls) <= layer < len(calls):
            raise IndexError(f"there is no Mamba block {layer}: the model calls {len(calls)}")
        calls = [calls[layer]]
    blocks = [_block_diagonal(call, reduce, gated, include_D) for call in calls]
    return HiddenAttention(
        names=tuple(call.name for call in calls),
        matrices=np.stack([matrix.cpu().numpy() for matrix in blocks]),
        inputs=tuple(torch.cat(call.chunks, 1).cpu().numpy() for call in calls),
        mask=probe.real_tokens(model, window).cpu().numpy(),
        tokens=probe.token_names(model),
    )


def attention_rollout(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Follow the weights through all layers: how much each token reaches the last layer's tokens.

    Each layer is taken as |A| + I, the identity standing for the residual path, with rows that add
    up to 1; the rollout is the product of the layers, the first one rightmost.

    Args:
        matrices: (layers, ..., L, L), first layer first.

    Returns:
        (..., L, L), float64; rows add up to 1.

    Raises:
        ValueError: The matrices are not square, or there is no layer.

    References:
        Abnar & Zuidema, "Quantifying Attention Flow in Transformers", arXiv 2005.00928; used for
        Mamba by Ali et al., arXiv 2403.01590.
    """
    array: NDArray[np.float64] = np.abs(np.asarray(matrices, np.float64))
    if array.ndim < 3 or array.shape[-1] != array.shape[-2] or not len(array):
        raise ValueError(f"expected matrices (layers, ..., L, L), got shape {array.shape}")
    array = array + np.eye(array.shape[-1])
    array /= array.sum(-1, keepdims=True)
    rollout: NDArray[np.float64] = array[0]
    for matrix in array[1:]:
        rollout = matrix @ rollout
    return rollout


@dataclass
class _Call:
    """One call of a Mamba block: its name, and its input (B, L, D), cut where it restarts."""

    name: str
    mamba: Mamba
    chunks: list[Tensor] = field(default_factory=list)


class _Recorder:
    """Notes what every Mamba block is given, in the order of the calls.

    A `Chunked` mixer may call its block in any order and shape, so what it holds is called here
    once more, chunk by chunk, and its own calls are left out.
    """

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.chunked: dict[str, _Call] | None = None
        self.muted = False

    def note(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(module, Mamba)
        if self.muted:
            return
        if self.chunked is None:
            self.calls.append(_Call(name, module, [args[0]]))
        else:
            self.chunked.setdefault(name, _Call(name, module)).chunks.append(args[0])

    def replay(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(module, Chunked)
        x, _, kind = (*args, None, None)[:3]
        self.chunked = {}
        for first in range(0, x.shape[1], module.window):
            cut = slice(first, first + module.window)
            module.inner(x[:, cut], None, None if kind is None else kind[cut])
        self.calls += self.chunked.values()
        self.chunked, self.muted = None, True

    def resume(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        self.muted = False


def _calls(model: TokenModel, window: Window) -> list[_Call]:
    """Run a model over windows and list the calls of its Mamba blocks."""
    blocks = {n: m for n, m in model.backbone.named_modules() if isinstance(m, Mamba)}
    if not blocks:
        raise TypeError(
            f"the backbone of this {type(model).__name__} holds no Mamba block, so it has no "
            f"hidden attention; it is a {type(model.backbone).__name__} of "
            + ", ".join(dict.fromkeys(map(probe.label, probe.layers(model.backbone))))
        )
    recorder = _Recorder()
    with probe.observed(model) as handles:
        for name, block in blocks.items():
            handles.append(block.register_forward_pre_hook(partial(recorder.note, name)))
        for module in model.backbone.modules():
            if isinstance(module, Chunked):
                handles.append(module.register_forward_pre_hook(recorder.replay))
                handles.append(module.register_forward_hook(recorder.resume))
        model(window)
    return recorder.calls


def _block_diagonal(call: _Call, reduce: Reduce, gated: bool, include_D: bool) -> Tensor:
    first = call.chunks[0]
    length = sum(x.shape[1] for x in call.chunks)
    matrix = first.new_zeros(len(first), length, length)
    start = 0
    for x in call.chunks:
        end = start + x.shape[1]
        matrix[:, start:end, start:end] = attention_matrix(call.mamba, x, reduce, gated, include_D)
        start = end
    return matrix


def _groups(channels: int, entries: int) -> Iterator[slice]:
    """Cut the channels into groups whose matrices, of so many entries each, fit into memory."""
    size = max(1, ENTRIES // max(1, entries))
    for first in range(0, channels, size):
        yield slice(first, first + size)
