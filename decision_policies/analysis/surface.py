"""The decision surface: what each decision of an episode draws on, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from decision_policies.analysis import probe
from decision_policies.analysis.hidden_attention import Reduce, attention_matrices
from decision_policies.analysis.probe import Subject
from decision_policies.batch import Window

BATCH = 64
"""Decisions that are looked into at once."""


@dataclass(frozen=True)
class DecisionSurface:
    """Hidden attention of the token that decides, over an episode.

    Attributes:
        scores: (S, P), float32, 0 to 1 in each row: what the token at a position weighs in the
            decision of a step. nan where the episode had no such token yet.
        steps: (S,), the decision steps.
        positions: (P,), tokens counted back from the deciding one, which is 0: 1 - P to 0.
        kinds: (P,), name of the token at each position.
        tokens_per_step: Tokens of a step.
        block: Name of the Mamba block.
    """

    scores: NDArray[np.float32]
    steps: NDArray[np.int64]
    positions: NDArray[np.int64]
    kinds: tuple[str, ...]
    tokens_per_step: int
    block: str


def decision_surface(
    subject: Subject,
    episode: Window,
    layer: int = -1,
    *,
    first: int = 0,
    last: int | None = None,
    length: int | None = None,
    reduce: Reduce = "abs_mean",
) -> DecisionSurface:
    """Take, at every decision, the attention row of the token that the action is read from.

    That token is the step's observation (or its only token). Each decision sees the window of the
    last K steps, as in training, whatever way the policy remembers. Tokens behind the deciding one
    are not there yet, so the K steps have P = K m - (tokens of a step behind it) positions. Each
    row is scaled so that its smallest score is 0 and its largest 1; equal scores become 0.

    Args:
        subject: A `TokenModel`, or a policy or algorithm with one.
        episode: (1, T) steps of one episode, see `logged_episode` and `played_episode`.
        layer: Which Mamba block, negative from the end.
        first: The first decision step.
        last: The last decision step, itself included; None is the last of the episode.
        length: Number K of steps in a window; None is the model's context length.
        reduce: "abs_mean" or "mean" over the channels, see `attention_matrix`.

    Returns:
        The surface, S = last - first + 1 steps by P positions.

    Raises:
        ValueError: The episode is no single row, or the steps are not in it.
        TypeError: The model holds no Mamba block.
        IndexError: There is no such layer.

    References:
        Dai et al. (DeMa), arXiv 2405.12094, figure of the hidden attention over decision steps.
        The paper names neither layer nor scaling; both are choices of ours.
    """
    model = probe.token_model(subject)
    rows, total = episode.shape
    last = total - 1 if last is None else last
    length = model.spec.context_length if length is None else length
    if rows != 1 or not 0 <= first <= last < total or length < 1:
        raise ValueError(
            "decision_surface needs one episode (1, T), steps 0 <= first <= last < T and a length "
            f"of at least 1; got {rows} rows of T = {total}, first={first}, last={last}, "
            f"length={length}"
        )
    names, acting = probe.token_names(model), model.embedding.acting_token
    per_step = len(names)
    width = per_step * (length - 1) + acting + 1
    steps = np.arange(first, last + 1)
    scores = np.full((len(steps), width), np.nan, np.float32)
    block = ""
    for chunk in np.array_split(np.arange(len(steps)), -(-len(steps) // BATCH)):
        seen = np.minimum(steps[chunk] + 1, length)  # steps in each window
        window = _windows(episode, steps[chunk] + 1 - seen, seen)
        attention = attention_matrices(model, window, layer, reduce=reduce)
        block = attention.names[0]
        for row, matrix, n in zip(chunk, attention.matrices[0], seen, strict=True):
            deciding = per_step * (n - 1) + acting
            scores[row, width - deciding - 1 :] = _scaled(matrix[deciding, : deciding + 1])
    kinds = tuple(names[place % per_step] for place in range(width))
    return DecisionSurface(scores, steps, np.arange(1 - width, 1), kinds, per_step, block)


def _windows(episode: Window, starts: NDArray[np.int64], seen: NDArray[np.int64]) -> Window:
    """Cut windows of `seen` steps out of an episode, right-padded to the longest."""
    places = np.arange(int(seen.max()))
    index = np.minimum(starts[:, None] + places, starts[:, None] + seen[:, None] - 1)
    chosen = torch.from_numpy(index)
    gathered = {
        name: value[0][chosen]
        for name, value in episode.tensors().items()
        if name not in ("mask", "starts")
    }
    mask = torch.from_numpy(places < seen[:, None])
    return Window(**gathered, mask=mask, starts=torch.ones(len(starts), dtype=torch.bool))


def _scaled(row: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = row.min(), row.max()
    return (row - low) / (high - low) if high > low else np.zeros_like(row)
