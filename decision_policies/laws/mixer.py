"""Laws of mixers: cuts, cleared rows, right padding, rows by themselves, gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from decision_policies import tree
from decision_policies.laws.law import close, is_zero, naming, require, same, same_state
from decision_policies.nets.mixer import Mixer, mixed
from decision_policies.tree import State

B, L = 5, 24
CUTS = ([1] * L, [3] * 8, [L], [7, 7, 7, 3], [1, 23], [23, 1], [2, 1] * 8)


@dataclass(frozen=True)
class MixerCase:
    """A mixer with the tokens that it is given.

    Attributes:
        mixer: The mixer, in evaluation mode.
        x: Tokens, (B, L, D).
        kind: Modality of each token, (L,), in turn 0, 1, 2, ...
    """

    mixer: Mixer
    x: Tensor
    kind: Tensor

    def run(self, first: int, last: int, state: State | None = None) -> tuple[Tensor, State]:
        """Feed the tokens from `first` up to but not including `last`."""
        return self.mixer(self.x[:, first:last], state, self.kind[first:last])

    def whole(self, x: Tensor) -> Tensor:
        """Feed other tokens (B, L, D) from the initial state."""
        return self.mixer(x, None, self.kind)[0]


@torch.no_grad()
def cutting_the_sequence_anywhere_changes_nothing(case: MixerCase) -> None:
    """The mixer law: parts fed one after the other give what the whole gives, and its state."""
    whole, last = case.run(0, L)
    for cuts in CUTS:
        state, parts, at = case.mixer.initial_state(B), [], 0
        for length in cuts:
            y, state = case.run(at, at + length, state)
            parts.append(y)
            at += length
        what = f"of parts of {cuts} tokens, against the whole,"
        close(torch.cat(parts, 1), whole, f"the output {what}")
        same_state(state, last, f"the state {what}")


@torch.no_grad()
def wanting_some_tokens_gives_what_all_give_there(case: MixerCase) -> None:
    """`mixed` gives the output of all tokens at those that are wanted, and the state after all."""
    for before in (None, case.run(0, 9)[1]):
        whole, last = case.run(9, L, before)
        for wanted in (slice(1, None, 3), slice(-2, None), slice(None)):
            some, after = mixed(case.mixer, case.x[:, 9:], before, case.kind[9:], wanted)
            close(some, whole[:, wanted], f"the output at {wanted}, against that of all,")
            same_state(after, last, f"the state after {wanted} was wanted")


@torch.no_grad()
def the_zero_state_is_the_initial_state(case: MixerCase) -> None:
    """`initial_state` is all zero, and `None` stands for it.

    Up to rounding only: a mixer may take a faster way where there is nothing to remember.
    """
    empty = case.mixer.initial_state(B)
    require(is_zero(empty), "the initial state is not all zero")
    what = "the output from None, against that from the initial state,"
    close(case.run(0, L)[0], case.run(0, L, empty)[0], what, 1e-6)


@torch.no_grad()
def a_cleared_row_is_a_fresh_row_and_the_others_are_bit_equal(case: MixerCase) -> None:
    """Setting rows of a state to zero starts them afresh, and touches no other row."""
    _, state = case.run(0, 10)
    rows = torch.tensor([False, True, False, True, False])
    cleared, _ = case.run(10, L, tree.clear(state, rows))
    kept, _ = case.run(10, L, state)
    fresh, _ = case.run(10, L)
    close(cleared[rows], fresh[rows], "the output for a cleared row, against a fresh one,", 1e-6)
    same(cleared[~rows], kept[~rows], "the output for a row beside a cleared one")


@torch.no_grad()
def junk_after_the_end_changes_nothing_before_it(case: MixerCase) -> None:
    """No token sees a later one."""
    junk = case.x.clone()
    junk[:, 15:] = 1e3
    what = "the output before junk"
    same(case.whole(junk)[:, :15], case.whole(case.x)[:, :15], what)


@torch.no_grad()
def a_batch_is_its_rows_alone(case: MixerCase) -> None:
    """No row of a batch has an influence on another."""
    alone = torch.cat([case.whole(case.x[i : i + 1]) for i in range(B)])
    close(case.whole(case.x), alone, "the output for a batch, against its rows alone,")


@torch.no_grad()
def no_state_is_changed_in_place(case: MixerCase) -> None:
    """A state that was handed in is afterwards what it was."""
    _, state = case.run(0, 10)
    before = tree.map_state(torch.clone, state)
    case.run(10, L, state)
    case.run(10, 11, state)
    same_state(state, before, "a state that was handed in", tolerance=0)
    for found, expected in zip(tree.leaves(state), tree.leaves(before), strict=True):
        same(found, expected, "a state that was handed in")


def gradients_flow_through_a_cut_as_if_there_were_none(case: MixerCase) -> None:
    """Every parameter has a gradient, and it is the same with the state carried over a cut."""
    weights = dict(case.mixer.named_parameters())

    def gradients(*pieces: tuple[int, int]) -> dict[str, Tensor]:
        case.mixer.zero_grad()
        state, total = case.mixer.initial_state(B), torch.zeros(())
        for first, last in pieces:
            y, state = case.run(first, last, state)
            total = total + y.square().sum()
        if total.requires_grad:
            total.backward()  # type: ignore[no-untyped-call]
        return {name: p.grad.clone() for name, p in weights.items() if p.grad is not None}

    whole, cut = gradients((0, L)), gradients((0, 9), (9, L))
    idle = ", ".join(weights.keys() - whole.keys())
    require(not idle, f"no gradient reaches {idle}")
    for name, gradient in whole.items():
        require(name in cut, f"with a cut, no gradient reaches {name}")
        bound = 1e-5 * float(gradient.abs().max() + 1) + 1e-4 * gradient.abs()
        excess = ((cut[name] - gradient).abs() - bound).clamp(min=0)
        what = f"what the gradient of {name} with a cut differs by beyond its tolerance"
        same(excess, torch.zeros_like(excess), what)


MIXER_LAWS: dict[str, Callable[[MixerCase], None]] = {
    law.__name__: law
    for law in (
        cutting_the_sequence_anywhere_changes_nothing,
        the_zero_state_is_the_initial_state,
        a_cleared_row_is_a_fresh_row_and_the_others_are_bit_equal,
        junk_after_the_end_changes_nothing_before_it,
        a_batch_is_its_rows_alone,
        no_state_is_changed_in_place,
        gradients_flow_through_a_cut_as_if_there_were_none,
        wanting_some_tokens_gives_what_all_give_there,
    )
}
"""What holds for every mixer, by name."""


def check_mixer(mixer: Mixer, width: int, kinds: int = 1) -> None:
    """Check that a mixer keeps all laws of mixers.

    Args:
        mixer: The mixer; a copy of it is tried, on the CPU and in evaluation mode.
        width: Width D of its tokens.
        kinds: Number of modalities; the tokens have them in turn.

    Raises:
        LawBroken: It breaks one; the message names it and what differed.

    Example:
        >>> from decision_policies.laws import check_mixer
        >>> from decision_policies.nets import Mamba
        >>> check_mixer(Mamba(8), width=8)
    """
    case = MixerCase(
        mixer=copy.deepcopy(mixer).cpu().eval(),
        x=torch.randn(B, L, width, generator=torch.Generator().manual_seed(1)),
        kind=torch.arange(L) % kinds,
    )
    for name, law in MIXER_LAWS.items():
        with naming(type(mixer).__name__, name):
            law(case)
