"""The linear map is torch's own, in values and gradients, whoever computes it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from decision_policies.ops import linear as module
from decision_policies.ops.linear import linear


@pytest.fixture(params=["torch", "onednn"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(module.SWITCH, request.param)
    module.onednn.cache_clear()
    yield request.param
    module.onednn.cache_clear()


@pytest.mark.parametrize("rows", [(1,), (7, 5), (64, 60), (500,)])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 3), (64, 128), (33, 1), (48, 36)])
@pytest.mark.parametrize("biased", [True, False])
def test_the_map_is_torchs_own(
    backend: str, rows: tuple[int, ...], inputs: int, outputs: int, biased: bool
) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    x, weight = draw(*rows, inputs), draw(outputs, inputs)
    given = [x, weight, *([draw(outputs)] if biased else [])]
    ours, theirs = linear(*given), F.linear(*given)
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours.sin().sum(), given),
        torch.autograd.grad(theirs.sin().sum(), given),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-3, rtol=1e-4)
    with torch.inference_mode():
        assert torch.allclose(linear(*given), theirs, atol=1e-4, rtol=1e-5)


def test_inputs_with_gaps_and_frozen_weights_are_served(backend: str) -> None:
    x = torch.randn(300, 2, 64)[:, 1].requires_grad_()
    weight = torch.randn(64, 128)[:, ::2]
    y = linear(x, weight)
    assert torch.allclose(y, x @ weight.t(), atol=1e-4)
    (gradient,) = torch.autograd.grad(y.sum(), [x])
    assert torch.allclose(gradient, weight.sum(0).expand_as(x), atol=1e-4)


@pytest.mark.parametrize("bias", [torch.arange(96.0)[::2], torch.ones(1).expand(48)])
def test_a_bias_with_gaps_is_added_as_it_is(backend: str, bias: Tensor) -> None:
    x, weight = torch.randn(200, 64), torch.randn(48, 64)  # dense: only so were the gaps missed
    assert torch.allclose(linear(x, weight, bias), F.linear(x, weight, bias), atol=1e-4)


def test_every_third_token_reaches_onednn_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Tensor] = []

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        given.extend((x, weight))
        return F.linear(x, weight, bias)

    monkeypatch.setattr(module, "onednn", lambda: True)
    monkeypatch.setattr(module, "_product", product)
    tokens = torch.randn(20, 60, 64, requires_grad=True)
    weight = torch.randn(48, 64, requires_grad=True)
    linear(tokens[:, 1::3], weight).sum().backward()
    assert len(given) == 6  # the map, and the gradients of tokens and weight
    assert all(x.is_contiguous() or x.t().is_contiguous() for x in given)


def test_what_is_exported_holds_torchs_own_operator(backend: str) -> None:
    class Map(torch.nn.Module):
        def forward(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            return module.linear(x, weight)

    program = torch.export.export(Map(), (torch.randn(200, 48), torch.randn(64, 48)))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called == ["aten.linear.default"], backend


def test_other_dtypes_go_to_torch(backend: str) -> None:
    x, weight = torch.randn(300, 64, dtype=torch.float64), torch.randn(8, 64, dtype=torch.float64)
    assert torch.equal(linear(x, weight), F.linear(x, weight))


def test_an_unknown_choice_is_refused() -> None:
    code = "import torch; from decision_policies.ops.linear import onednn; onednn()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "", module.SWITCH: "mkl"},
        capture_output=True,
        text=True,
    )
    assert "DECISION_POLICIES_LINEAR must be 'torch' or 'onednn', got 'mkl'" in result.stderr
