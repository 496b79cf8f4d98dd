"""The mixer law, row reset, right padding and row independence, of every mixer."""

from __future__ import annotations

import pytest
import torch

from decision_policies import tree
from decision_policies.nets import Mixer
from tests.laws.cases import MIXERS, WIDTH

B, L = 5, 24
CUTS = ([1] * L, [3] * 8, [L], [7, 7, 7, 3], [1, 23], [23, 1], [2, 1] * 8)


@pytest.fixture(params=MIXERS)
def mixer(request: pytest.FixtureRequest) -> Mixer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MIXERS[request.param]().eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(B, L, WIDTH, generator=torch.Generator().manual_seed(1))


def states_equal(a: tree.State, b: tree.State, tolerance: float) -> bool:
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return all(torch.allclose(p, q, atol=tolerance, rtol=0) for p, q in pairs)


@torch.no_grad()
@pytest.mark.parametrize("cuts", CUTS, ids=lambda c: f"{len(c)}-parts")
def test_cutting_the_sequence_anywhere_changes_nothing(
    mixer: Mixer, x: torch.Tensor, cuts: list[int]
) -> None:
    whole, last = mixer(x)
    state, parts = mixer.initial_state(B), []
    for piece in x.split(cuts, 1):
        y, state = mixer(piece, state)
        parts.append(y)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)
    assert states_equal(state, last, 1e-5)


@torch.no_grad()
def test_the_zero_state_is_the_initial_state(mixer: Mixer, x: torch.Tensor) -> None:
    assert all(not leaf.any() for leaf in tree.leaves(mixer.initial_state(B)))
    assert torch.equal(mixer(x)[0], mixer(x, mixer.initial_state(B))[0])


@torch.no_grad()
def test_a_cleared_row_is_a_fresh_row_and_the_others_are_bit_equal(
    mixer: Mixer, x: torch.Tensor
) -> None:
    _, state = mixer(x[:, :10])
    rows = torch.tensor([False, True, False, True, False])
    cleared, _ = mixer(x[:, 10:], tree.clear(state, rows))
    kept, _ = mixer(x[:, 10:], state)
    fresh, _ = mixer(x[:, 10:])
    assert torch.allclose(cleared[rows], fresh[rows], atol=1e-6, rtol=0)
    assert torch.equal(cleared[~rows], kept[~rows])


@torch.no_grad()
def test_junk_after_the_end_changes_nothing_before_it(mixer: Mixer, x: torch.Tensor) -> None:
    junk = x.clone()
    junk[:, 15:] = 1e3
    assert torch.equal(mixer(junk)[0][:, :15], mixer(x)[0][:, :15])


@torch.no_grad()
def test_a_batch_is_its_rows_alone(mixer: Mixer, x: torch.Tensor) -> None:
    together, _ = mixer(x)
    alone = torch.cat([mixer(x[i : i + 1])[0] for i in range(B)])
    assert torch.allclose(together, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_no_state_is_changed_in_place(mixer: Mixer, x: torch.Tensor) -> None:
    _, state = mixer(x[:, :10])
    before = tree.map_state(torch.clone, state)
    mixer(x[:, 10:], state)
    mixer(x[:, 10:11], state)
    assert states_equal(state, before, 0.0)


def test_gradients_flow_through_a_cut_as_if_there_were_none(mixer: Mixer, x: torch.Tensor) -> None:
    def gradients(*pieces: torch.Tensor) -> list[torch.Tensor]:
        mixer.zero_grad()
        state, total = mixer.initial_state(B), torch.zeros(())
        for piece in pieces:
            y, state = mixer(piece, state)
            total = total + y.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return [p.grad.clone() for p in mixer.parameters() if p.grad is not None]

    whole, cut = gradients(x), gradients(x[:, :9], x[:, 9:])
    assert len(whole) == len(list(mixer.parameters()))
    for a, b in zip(whole, cut, strict=True):
        assert torch.allclose(a, b, atol=1e-5 * float(a.abs().max() + 1), rtol=1e-4)
