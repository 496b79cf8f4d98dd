"""Hidden attention: the matrix is the scan, of one block and of every block inside a model."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import decision_policies
from decision_policies.analysis import attention_matrices, attention_matrix, attention_rollout
from decision_policies.batch import Window
from decision_policies.models import TokenModel
from decision_policies.nets import Chain, Chunked, LocalMamba, Mamba, Pointwise, Residual
from decision_policies.ops import selective_scan
from decision_policies.ops.hidden_attention import hidden_attention
from decision_policies.ops.selective_scan import Backend
from tests.laws.cases import SPACES, dema, windows

SIZES = [(2, 1, 5, 3), (3, 2, 7, 4), (2, 7, 3, 1), (2, 60, 5, 16)]


def arguments(
    rows: int, length: int, width: int, n: int, step: float, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Draw u, delta, A, B, C, D; step sizes are spread over two decades around `step`."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    delta = step * 10 ** normal(rows, length, width).clamp(-1, 1)
    A = -torch.arange(1, n + 1, dtype=torch.float64) * (1 + 0.1 * normal(width, n).abs())
    others = normal(rows, length, n), normal(rows, length, n), normal(width)
    return tuple(x.to(dtype) for x in (normal(rows, length, width), delta, A, *others))


def relative(left: Tensor, right: Tensor) -> float:
    return float((left - right).detach().abs().max() / right.detach().abs().max())


def attended(alpha: Tensor, u: Tensor, D: Tensor) -> Tensor:
    """Apply a matrix (B, E, L, L) to an input (B, L, E), with the skip connection."""
    return torch.einsum("beij,bje->bie", alpha, u) + D * u


def reference(delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Write down the definition, entry by entry."""
    rows, length, width = delta.shape
    alpha = delta.new_zeros(rows, width, length, length)
    for i in range(length):
        for j in range(i + 1):
            passed = delta[:, j + 1 : i + 1].sum(1)  # S_i - S_j, (B, E)
            decay = torch.exp(A * passed.unsqueeze(-1))  # (B, E, N)
            weight = (C[:, i] * B[:, j]).unsqueeze(1)
            alpha[:, :, i, j] = (weight * decay).sum(-1) * delta[:, j]
    return alpha


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("step", [1e-6, 0.02, 1e3], ids=["tiny", "usual", "large"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_matrix_times_the_input_is_the_scan(
    size: tuple[int, int, int, int], step: float, dtype: torch.dtype
) -> None:
    u, delta, A, B, C, D = arguments(*size, step, dtype)
    y = attended(hidden_attention(delta, A, B, C), u, D)
    backends: tuple[Backend, ...] = ("reference", "torch")
    for backend in backends:
        scanned, _ = selective_scan(u, delta, A, B, C, D, backend=backend)
        assert relative(y, scanned) <= (1e-6 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("size", SIZES[:3], ids=str)
def test_the_matrix_equals_its_definition(size: tuple[int, int, int, int]) -> None:
    _, delta, A, B, C, _ = arguments(*size, 0.1, torch.float64)
    alpha, expected = hidden_attention(delta, A, B, C), reference(delta, A, B, C)
    assert torch.allclose(alpha, expected, rtol=1e-12, atol=1e-15)
    assert torch.equal(alpha, alpha.tril())


def test_a_large_step_costs_later_small_ones_no_digits() -> None:
    """Subtracted cumulative sums would: float32 keeps 7 digits, and 1e5 + 1e-3 has 8."""
    _, delta, A, B, C, _ = arguments(1, 12, 3, 4, 1e-3, torch.float32)
    delta[:, 4] = 1e5
    exact = hidden_attention(*(x.double() for x in (delta, A, B, C)))
    assert relative(hidden_attention(delta, A, B, C)[:, :, 5:, 5:], exact[:, :, 5:, 5:]) < 1e-6
    assert relative(delta.cumsum(1)[:, 6] - delta.cumsum(1)[:, 5], delta[:, 6]) > 1e-2


def test_channels_are_a_part_of_the_whole() -> None:
    _, delta, A, B, C, _ = arguments(2, 5, 7, 3, 0.1, torch.float32)
    whole = hidden_attention(delta, A, B, C)
    part = hidden_attention(delta, A, B, C, channels=slice(2, 5))
    assert torch.equal(part, whole[:, 2:5])


def test_gradients_equal_those_of_the_scan() -> None:
    u, *rest = arguments(2, 6, 3, 4, 0.1, torch.float64)
    leaves = [x.requires_grad_() for x in rest]
    D = leaves.pop()
    weight = torch.cos(torch.arange(u.numel(), dtype=u.dtype)).view_as(u)
    delta, A, B, C = leaves
    y = attended(hidden_attention(delta, A, B, C), u, D)
    scanned, _ = selective_scan(u, delta, A, B, C, D, backend="reference")
    for ours, theirs in zip(
        torch.autograd.grad((y * weight).sum(), leaves),
        torch.autograd.grad((scanned * weight).sum(), leaves),
        strict=True,
    ):
        assert relative(ours, theirs) < 1e-12


def test_shapes_that_disagree_are_named() -> None:
    _, delta, A, B, C, _ = arguments(2, 5, 7, 3, 0.1, torch.float32)
    with pytest.raises(ValueError, match=r"B \(2, 4, 3\).*B and C \(B, L, N\)"):
        hidden_attention(delta, A, B[:, :4], C)


BLOCKS: dict[str, Any] = {
    "stock": {},
    "narrow": {"d_state": 3, "d_conv": 2, "expand": 1, "bias": True, "conv_bias": False},
    "without-convolution": {"d_conv": None, "expand": 1},
    "conv-1": {"d_conv": 1},
}


def block(**options: Any) -> Mamba:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Mamba(12, **options)


def tokens(length: int = 9) -> Tensor:
    return torch.randn(2, length, 12, generator=torch.Generator().manual_seed(1))


def scan_input(mamba: Mamba, x: Tensor) -> Tensor:
    """Give u, what the block's scan is applied to, one token at a time."""
    u = mamba.in_proj(x)[..., : mamba.d_inner]
    if mamba.d_conv is not None:
        weight, w = mamba.conv1d.weight[:, 0], mamba.d_conv
        rows = []
        for t in range(u.shape[1]):
            past = u[:, max(0, t - w + 1) : t + 1]
            rows.append((past * weight[:, w - past.shape[1] :].t()).sum(1))
        u = torch.stack(rows, 1)
        u = u if mamba.conv1d.bias is None else u + mamba.conv1d.bias
    return F.silu(u)


@pytest.mark.parametrize("options", BLOCKS.values(), ids=BLOCKS)
def test_gate_matrix_and_skip_reproduce_the_blocks_output(options: dict[str, Any]) -> None:
    mamba, x = block(**options), tokens()
    alpha = attention_matrix(mamba, x, reduce=None, gated=True, include_D=True)
    y = torch.einsum("beij,bje->bie", alpha, scan_input(mamba, x))
    out, _ = mamba(x)
    assert relative(mamba.out_proj(y), out) < 2e-6


def test_a_local_block_has_a_band_that_reproduces_its_output() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mamba = LocalMamba(12, 3)
    x = tokens()
    alpha = attention_matrix(mamba, x, reduce=None, gated=True, include_D=True)
    y = torch.einsum("beij,bje->bie", alpha, scan_input(mamba, x))
    assert relative(mamba.out_proj(y), mamba(x)[0]) < 2e-6
    assert bool((alpha.triu(-2) == alpha).all()) and bool((alpha[..., 2, 0] != 0).all())


def test_reductions_are_means_over_the_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    from decision_policies.analysis import hidden_attention as module

    mamba, x = block(), tokens()
    whole = attention_matrix(mamba, x, reduce=None)
    for entries in (1, 700, 1 << 22):  # one channel at a time, a few, all
        monkeypatch.setattr(module, "ENTRIES", entries)
        assert torch.allclose(attention_matrix(mamba, x), whole.mean(1), atol=1e-7)
        absolute = attention_matrix(mamba, x, reduce="abs_mean")
        assert torch.allclose(absolute, whole.abs().mean(1), atol=1e-7)
    gated = attention_matrix(mamba, x, gated=True, reduce=None)
    gate = F.silu(mamba.in_proj(x)[..., mamba.d_inner :]).transpose(1, 2).unsqueeze(-1)
    assert torch.allclose(gated, whole * gate)
    skip = attention_matrix(mamba, x, include_D=True, reduce=None) - whole
    assert torch.allclose(skip, torch.eye(9).expand_as(skip), atol=1e-6), "D starts as ones"
    with pytest.raises(ValueError, match="'mean', 'abs_mean' or None, got 'sum'"):
        attention_matrix(mamba, x, reduce=cast(Any, "sum"))


def make(name: str, **changes: Any) -> TokenModel:
    """Make a tiny model of a system."""
    small: dict[str, Any] = {"d_model": 16, "n_layers": 2, "context_length": 6, "seed": 0}
    algorithm = getattr(decision_policies, name)(**{**small, **changes})
    return cast(TokenModel, algorithm.make_policy(*SPACES["box-box"], return_scale=3.0).model)


def given(model: TokenModel, window: Window, kind: type[nn.Module]) -> list[tuple[Any, Tensor]]:
    """List the modules of a kind that a model calls, and what they are given."""
    calls: list[tuple[Any, Tensor]] = []
    handles = [
        module.register_forward_pre_hook(lambda m, args: calls.append((m, args[0])))
        for module in model.modules()
        if isinstance(module, kind)
    ]
    with torch.no_grad():
        model(window)
    for handle in handles:
        handle.remove()
    return calls


@pytest.mark.parametrize(
    ("name", "changes", "blocks"),
    [
        ("DeMa", {}, ["layers.0.inner", "layers.1.inner"]),
        ("DeMa", {"block": "post", "layout": "BL3D"}, ["0.layers.0.inner", "1.layers.0.inner"]),
        ("DM", {}, ["0.layers.0.inner", "1.layers.0.inner"]),
        ("DMM", {}, ["layers.1.inner", "layers.3.inner"]),
        ("DMM", {"dsm_mode": "shared_frozen"}, ["layers.1.inner", "layers.3.inner"]),
        ("MambaDM", {}, ["first", "second"] * 2),
    ],
    ids=str,
)
def test_every_mamba_block_of_a_system_is_found(
    name: str, changes: dict[str, Any], blocks: list[str]
) -> None:
    model, window = make(name, **changes), windows("box-box", 3, 5)
    found = attention_matrices(model, window, reduce="mean")
    calls = given(model, window, Mamba)
    assert len(found.names) == len(calls) == len(blocks)
    per_step = 1 if changes.get("layout") == "BL3D" else 3
    assert found.matrices.shape == (len(blocks), 3, 5 * per_step, 5 * per_step)
    assert np.array_equal(found.mask[:, ::per_step], window.mask.numpy())
    for index, (mamba, x) in enumerate(calls):
        assert found.names[index].endswith(blocks[index])
        assert np.array_equal(found.inputs[index], x.numpy())
        assert np.array_equal(found.matrices[index], attention_matrix(mamba, x).detach().numpy())
        single = attention_matrices(model, window, index - len(blocks), reduce="mean")
        assert single.names == found.names[index : index + 1]
        assert np.array_equal(single.matrices[0], found.matrices[index])


@pytest.mark.parametrize("window_tokens", [6, 4, 1], ids=["whole steps", "cut steps", "one token"])
def test_a_block_that_restarts_has_a_block_diagonal_matrix(window_tokens: int) -> None:
    model = make("MambaDM", local_mode="chunk", window=window_tokens, n_layers=1)
    window = windows("box-box", 3, 5)
    found = attention_matrices(model, window, reduce="mean")
    assert [name.split(".")[-2:] for name in found.names] == [
        ["inner", "first"],
        ["second", "inner"],
    ]
    ((chunked, x),) = given(model, window, Chunked)
    expected = torch.zeros(3, 15, 15)
    for start in range(0, 15, window_tokens):
        cut = slice(start, start + window_tokens)
        expected[:, cut, cut] = attention_matrix(chunked.inner, x[:, cut])
    assert np.array_equal(found.matrices[1], expected.detach().numpy())
    assert np.array_equal(found.inputs[1], x.numpy())


def test_policies_and_algorithms_stand_for_their_models() -> None:
    algorithm = dema()
    policy, window = algorithm.make_policy(*SPACES["box-box"]), windows("box-box", 2, 4)
    expected = attention_matrices(cast(TokenModel, policy.model), window).matrices
    for subject in (algorithm, policy):
        assert np.array_equal(attention_matrices(subject, window).matrices, expected)
    with pytest.raises(ValueError, match="this DeMa has no policy yet: call learn"):
        attention_matrices(dema(), window)
    with pytest.raises(TypeError, match="expected a policy or an algorithm, got int"):
        attention_matrices(cast(Any, 3), window)


def test_what_cannot_be_looked_into_is_named() -> None:
    model, window = make("DeMa"), windows("box-box", 2, 4)
    with pytest.raises(IndexError, match="no Mamba block 2: the model calls 2"):
        attention_matrices(model, window, 2)
    model.backbone = Chain(Residual(16, Pointwise(16)))
    with pytest.raises(TypeError, match=r"TokenModel holds no Mamba block.*a Chain of Pointwise"):
        attention_matrices(model, window)
    with pytest.raises(TypeError, match="expected a TokenModel, got Linear"):
        attention_matrices(cast(Any, nn.Linear(2, 2)), window)


def test_the_rollout_of_no_attention_is_the_identity() -> None:
    """Neither nothing nor the identity moves anything from token to token."""
    eye = np.eye(6)
    for matrix in (np.zeros((6, 6)), eye, -3 * eye):
        assert np.allclose(attention_rollout(np.stack([matrix] * 4)), eye)


def test_the_rollout_is_the_product_of_the_layers_last_one_first() -> None:
    rng = np.random.default_rng(0)
    matrices = np.tril(rng.normal(size=(3, 2, 5, 5)))
    rollout = attention_rollout(matrices)
    for row in range(2):
        expected = np.eye(5)
        for layer in range(3):
            weights = np.abs(matrices[layer, row]) + np.eye(5)
            expected = np.diag(1 / weights.sum(1)) @ weights @ expected
        assert np.allclose(rollout[row], expected)
    assert np.allclose(rollout.sum(-1), 1)
    with pytest.raises(ValueError, match=r"\(layers, ..., L, L\), got shape \(5, 5\)"):
        attention_rollout(matrices[0, 0])
