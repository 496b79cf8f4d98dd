"""HybridModel: a long memory names a sub-goal for every chunk, and a short one acts on it.

Letters: B batch, T environment steps, M chunks, c steps in a chunk, D token width.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decision_policies import tree
from decision_policies.batch import Losses, Prediction, Step, Window
from decision_policies.models.chunks import Chunks, lay_out
from decision_policies.models.embedding import StepEmbedding
from decision_policies.models.encoders import standardise
from decision_policies.models.heads import Head
from decision_policies.models.model import SequenceModel
from decision_policies.models.subgoals import ChunkEmbedding, SubgoalHead
from decision_policies.nets.mixer import Mixer, mixed
from decision_policies.tree import State

NAMING = slice(2, None, 3)
"""Tokens from which the long memory names sub-goals: the last of each chunk's three."""


class HybridState(NamedTuple):
    """State of a HybridModel.

    Attributes:
        memory: State of the long memory, which has seen all chunks up to the present one's start.
        short: State of the short one, which has seen the present chunk.
        paid: Sum of the rewards since the chunk began, (B,).
        clock: Steps taken in the chunk, (B,), int64; 0: the next step begins one.
    """

    memory: State
    short: State
    paid: Tensor
    clock: Tensor


class HybridModel(SequenceModel):
    """Two memories: the long one sees three tokens a chunk, the short one prompt and chunk.

    A chunk is c steps, and an episode begins a new one. At its start the long memory takes in the
    sum of the last chunk's rewards, whether an episode has begun, and the observation, and names a
    sub-goal, a vector. The short one starts afresh, with the sub-goal as its first token, the
    prompt, and acts. Thus what is remembered costs a step in c, and what is attended to is short.

    Args:
        subgoal: Reads sub-goals from the long memory.
        embedding: Turns steps into the short memory's tokens.
        memory: Causal map of the long memory's tokens.
        short: Causal map of at most 1 + c (tokens of a step) tokens; its state holds as many.
        head: Reads the action from the short memory.
        chunk_length: Steps c of a chunk.
        align_coef: Weight of the distance between the sub-goals that are named and those that are
            reached.
        chunks_per_update: Chunks, drawn at random from the batch, that the short memory learns
            from in an update; None is all.

    References:
        Huang et al., "Decision Mamba-Hybrid" (DM-H), arXiv 2406.00079, section 4.
    """

    fixed_shapes = False  # how many chunks there are depends on where episodes begin

    def __init__(
        self,
        subgoal: SubgoalHead,
        embedding: StepEmbedding,
        memory: Mixer,
        short: Mixer,
        head: Head,
        chunk_length: int,
        *,
        align_coef: float = 0.0,
        chunks_per_update: int | None = None,
    ) -> None:
        super().__init__()
        self.spec = subgoal.spec
        self.chunk_length = chunk_length
        self.align_coef = align_coef
        self.chunks_per_update = chunks_per_update
        self.look = ChunkEmbedding(self.spec, embedding.d_model)
        self.memory = memory
        self.memory_norm = nn.LayerNorm(embedding.d_model)
        self.subgoal = subgoal
        self.embedding = embedding
        self.short = short
        self.norm = nn.LayerNorm(embedding.d_model)
        self.head = head

    def initial_state(self, batch: int) -> HybridState:
        """Make the all-zero state of `batch` rows."""
        paid = self.norm.weight.new_zeros(batch)
        clock = torch.zeros_like(paid, dtype=torch.int64)
        memory, short = self.memory.initial_state(batch), self.short.initial_state(batch)
        return HybridState(memory, short, paid, clock)

    def forward(
        self, window: Window, state: State | None = None, read_from: int | None = None
    ) -> tuple[Prediction, State]:
        """Predict the actions of a window's steps; see `SequenceModel.forward`.

        Where rows are shorter than the window, nothing is predicted for the padding, and the state
        is the one after the last real step. Rows that are in the midst of a chunk are stepped.
        """
        known = cast(HybridState, self.initial_state(len(window.mask)) if state is None else state)
        if bool(known.clock.any()):
            prediction, after = self._step_through(window, known)
            return Prediction(prediction.action[:, read_from:]), after
        chunks = lay_out(window, self.chunk_length)
        prompts, memory = self._prompts(window, chunks, known)
        tokens = self._tokens(window, chunks)
        actions = chunks.give_back(self._act_on(prompts, tokens), window.mask)
        after = self._after(window, chunks, prompts, tokens, memory, known)
        return Prediction(actions[:, read_from:]), after

    def remember(self, window: Window) -> State:
        """Find the state after a window; see `SequenceModel.remember`."""
        known, chunks = self.initial_state(len(window.mask)), lay_out(window, self.chunk_length)
        prompts, memory = self._prompts(window, chunks, known)
        tokens = self._tokens(window, chunks)
        return self._after(window, chunks, prompts, tokens, memory, known)

    def act(self, step: Step, state: State) -> tuple[Prediction, State]:
        """Predict the action of one step; see `SequenceModel.act`."""
        memory, short, paid, clock = cast(HybridState, state)
        begins = step.timesteps == 0
        new = begins | (clock == 0)
        given = (step.observations, step.returns_to_go, step.timesteps, None)
        tokens = self.embedding.before_action(*given)
        begun: State | None = short
        if bool(new.any()):
            seen = self.look(paid, begins, step.observations)
            features, after = self.memory(seen, memory)
            goal, _ = self.subgoal(self.memory_norm(features[:, -1:]))
            prompt = self.subgoal.prompt(goal)
            if bool(new.all()):
                memory, begun = after, None  # a short memory that starts afresh
                tokens = torch.cat((prompt, tokens), 1)
            else:
                memory = tree.where(new, after, memory)
                _, prompted = self.short(prompt, tree.clear(short, new))
                begun = tree.where(new, prompted, short)
        y, short = self.short(tokens, begun)
        action = self.head(self.norm(y[:, -1]))
        paid, clock = paid.masked_fill(new, 0), clock.masked_fill(new, 0)
        return Prediction(action), HybridState(memory, short, paid, clock)

    def commit(self, action: Tensor, reward: Tensor, step: Step, state: State) -> State:
        """Take in an executed action; see `SequenceModel.commit`."""
        memory, short, paid, clock = cast(HybridState, state)
        features = self.head.features(action)
        tokens = self.embedding.after_action(features, reward, step.timesteps)
        _, short = self.short(tokens, short)
        return HybridState(memory, short, paid + reward, (clock + 1) % self.chunk_length)

    def commit_and_act(
        self, action: Tensor, reward: Tensor, previous: Step, step: Step, state: State
    ) -> tuple[Prediction, State]:
        """`commit` and `act` in one pass, of what the short memory needs to see."""
        memory, short, paid, clock = cast(HybridState, state)
        paid, clock = paid + reward, (clock + 1) % self.chunk_length
        new = (clock == 0) | (step.timesteps == 0)
        if bool(new.all()):  # the chunk's end is not looked at any more
            return self.act(step, HybridState(memory, short, paid, clock))
        if bool(new.any()):
            return self.act(step, self.commit(action, reward, previous, state))
        known = (step.observations, step.returns_to_go, step.timesteps)
        features = self.head.features(action)
        tokens = self.embedding.between(features, reward, previous.timesteps, *known)
        y, short = self.short(tokens, short)
        action = self.head(self.norm(y[:, -1]))
        return Prediction(action), HybridState(memory, short, paid, clock)

    def losses(self, window: Window, state: State | None = None) -> tuple[Losses, State]:
        """Learn to act on the sub-goals that the memory names, and on those that were reached.

        Both halves of the loss count the same. The first trains both memories, the second the
        short one: to listen to the prompt.
        """
        known = self.initial_state(len(window.mask))
        chunks = lay_out(window, self.chunk_length)
        seen = self._seen_by_memory(window, chunks, known.paid).flatten(1, 2)
        features, _ = mixed(self.memory, seen, None, None, NAMING)
        mean, std = self.subgoal(self.memory_norm(features))
        rows, numbers = chunks.real[:, :, 0].nonzero(as_tuple=True)
        if self.chunks_per_update is not None and len(rows) > self.chunks_per_update:
            drawn = torch.randperm(len(rows))[: self.chunks_per_update].to(rows.device)
            rows, numbers = rows[drawn], numbers[drawn]
        mean, std = mean[rows, numbers], std[rows, numbers]
        tokens = self._tokens(window, chunks)[rows, numbers]
        named = self.subgoal.prompt(mean + std * torch.randn_like(mean))
        prompts = [named]
        if window.goals is not None:
            reached = self.subgoal.reached(chunks.take(window.goals)[rows, numbers, 0])
            prompts.append(self.subgoal.prompt(reached))
        count = len(prompts)
        actions = self._act_on(torch.stack(prompts), tokens.expand(count, *tokens.shape))
        logged = chunks.take(window.actions)[rows, numbers]
        real = chunks.real[rows, numbers]
        halves = [self.head.loss(part, logged, real) for part in actions]
        losses = dict(halves[0])
        for name, half in itertools.product(losses, halves[1:]):
            losses[f"{name}_reached"] = half[name]
        losses["loss"] = torch.stack([half["loss"] for half in halves]).mean()
        if window.goals is not None:
            spread = reached.var(0, correction=0).mean()  # rare observations are standardised large
            losses["distance"] = F.mse_loss(mean, reached) / (spread + 1e-6)
            if self.align_coef:
                losses["loss"] = losses["loss"] + self.align_coef * losses["distance"]
        return losses, known

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Standardise observations by these, in all three places; see `SequenceModel`."""
        for encoder in (self.look.observation, self.subgoal.reached, self.embedding.observation):
            standardise(encoder, mean, std)

    def _seen_by_memory(self, window: Window, chunks: Chunks, paid: Tensor) -> Tensor:
        """Make the long memory's tokens, (B, M, 3, D)."""
        sums = (chunks.take(window.rewards) * chunks.real).sum(2)
        before = torch.cat((paid.unsqueeze(1), sums[:, :-1]), 1)
        tokens: Tensor = self.look(before, chunks.begins, chunks.take(window.observations)[:, :, 0])
        return tokens

    def _prompts(self, window: Window, chunks: Chunks, known: HybridState) -> tuple[Tensor, State]:
        """Name a sub-goal for each chunk; prompts (B, M, D), and the long memory's state."""
        seen = self._seen_by_memory(window, chunks, known.paid).flatten(1, 2)
        features, memory = mixed(self.memory, seen, known.memory, None, NAMING)
        goals, _ = self.subgoal(self.memory_norm(features))
        if not bool((3 * chunks.counts == seen.shape[1]).all()):
            memory = _fed(self.memory, seen, 3 * chunks.counts, known.memory)
        return self.subgoal.prompt(goals), memory

    def _after(
        self,
        window: Window,
        chunks: Chunks,
        prompts: Tensor,
        tokens: Tensor,
        memory: State,
        known: HybridState,
    ) -> HybridState:
        """Find the state after each row's last real step."""
        real = chunks.last(chunks.real)
        taken = real.sum(1)
        last = torch.cat((chunks.last(prompts).unsqueeze(1), chunks.last(tokens)), 1)
        places = torch.where(taken > 0, 1 + taken * self.embedding.tokens_per_step, 0)
        short = _fed(self.short, last, places, self.short.initial_state(len(last)))
        paid = (chunks.last(chunks.take(window.rewards)) * real).sum(1)
        after = HybridState(memory, short, paid, taken % self.chunk_length)
        return tree.where(chunks.counts > 0, after, known)

    def _tokens(self, window: Window, chunks: Chunks) -> Tensor:
        """Make the short memory's tokens, without the prompts, (B, M, c m, D)."""
        given = window.observations, window.returns_to_go, window.timesteps
        features = self.head.features(window.actions)
        tokens = self.embedding.whole(*given, features, window.rewards, None)
        return chunks.take(tokens).flatten(2, 3)

    def _act_on(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        """Predict the actions (..., c, P) of chunks, given prompts (..., D) and tokens."""
        batch = prompts.shape[:-1]
        x = torch.cat((prompts.unsqueeze(-2), tokens), -2)
        acting = slice(1, None, self.embedding.tokens_per_step)
        y, _ = mixed(self.short, x.flatten(0, -3), None, None, acting)
        return cast(Tensor, self.head(self.norm(y)).unflatten(0, batch))

    def _step_through(self, window: Window, state: HybridState) -> tuple[Prediction, State]:
        """Do what `forward` does, a step at a time."""
        actions = []
        for t in range(window.mask.shape[1]):
            real = window.mask[:, t]
            known = (window.observations[:, t], window.returns_to_go[:, t], window.timesteps[:, t])
            step = Step(*known)
            prediction, acted = self.act(step, state)
            after = self.commit(window.actions[:, t], window.rewards[:, t], step, acted)
            state = tree.where(real, cast(HybridState, after), state)
            actions.append(prediction.action * real.unsqueeze(-1))
        return Prediction(torch.stack(actions, 1)), state


def _fed(mixer: Mixer, tokens: Tensor, counts: Tensor, state: State) -> State:
    """Find the state after the first `counts`, (B,), of each row's tokens."""
    common = int(counts.min())
    if common:
        _, state = mixer(tokens[:, :common], state)
    for place in range(common, int(counts.max())):
        _, after = mixer(tokens[:, place : place + 1], state)
        state = tree.where(counts > place, after, state)
    return state
