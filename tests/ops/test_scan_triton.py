"""The Triton scan where there is no GPU: interpreted, compiled for one, and never a risk."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from decision_policies import backends
from decision_policies.ops import scan_mamba_ssm, scan_torch, scan_triton, selective_scan
from tests.ops.test_selective_scan import LargestTensor, make_arguments

ROOT = Path(__file__).parents[2]
SCAN = importlib.import_module("decision_policies.ops.selective_scan")

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


def run(*words: str, **variables: str) -> str:
    """Run Python in a process: Triton reads its variables once, when it is imported."""
    command = [sys.executable, "-W", "error", *words]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_triton
def test_kernels_equal_the_reference_in_triton_s_interpreter() -> None:
    pytest_options = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    printed = run(*pytest_options, "tests/ops/triton_interpreted.py", TRITON_INTERPRET="1")
    assert " passed" in printed and "skipped" not in printed


@needs_triton
def test_kernels_compile_for_a_gpu_by_the_calls_that_launch_them(tmp_path: Path) -> None:
    printed = run("-m", "tests.ops.triton_compiled", TRITON_CACHE_DIR=str(tmp_path))
    assert printed.split("\n")[:-1] == [
        f"cuda 80 {kernel} {grid}: machine code"
        for grid in ("(2, 1)", "(2, 2)")
        for kernel in ("scan_forward", "scan_forward", "scan_backward")
    ]


@pytest.fixture
def asked_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take the CPU for a GPU, forget what was found, and forget it again afterwards."""
    caches = (scan_triton.problem, scan_triton._kernels, scan_mamba_ssm.problem, SCAN.automatic)
    for found in caches:
        found.cache_clear()
    monkeypatch.setattr(scan_triton, "KIND", "cpu")
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    yield
    for found in caches:
        found.cache_clear()


def stand_in(*given: Tensor) -> tuple[Tensor, Tensor]:
    return scan_torch.selective_scan(*given)


def broken(*given: Tensor) -> tuple[Tensor, Tensor]:
    raise RuntimeError("no kernel image\nis available")


def wrong(*given: Tensor) -> tuple[Tensor, Tensor]:
    y, last = scan_torch.selective_scan(*given)
    return y, 1.01 * last


@pytest.mark.parametrize(
    ("scan", "why"),
    [(broken, "RuntimeError: no kernel image is available"), (wrong, "relative errors")],
)
@pytest.mark.usefixtures("asked_again")
def test_kernels_that_fail_their_check_are_done_without(
    scan: object,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(scan_triton, "_kernels", lambda: None)
    monkeypatch.setattr(scan_triton, "selective_scan", scan)
    monkeypatch.setattr(SCAN, "automatic", lambda kind: ("triton",))
    arguments = make_arguments(2, 3, 4, 5, torch.float32)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            y, _ = selective_scan(*arguments)
            assert torch.equal(y, selective_scan(*arguments, backend="torch")[0])
    (line,) = caplog.messages
    assert line.startswith("triton kernels are not used: it failed its check") and why in line
    with pytest.raises(ValueError, match=r"backend='triton' cannot be used: it failed its check"):
        selective_scan(*arguments, backend="triton")


@pytest.mark.usefixtures("asked_again")
def test_kernels_that_pass_their_check_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_triton, "_kernels", lambda: None)
    monkeypatch.setattr(scan_triton, "selective_scan", stand_in)
    assert scan_triton.problem() == ""
    assert backends()["scan_gpu"].startswith("triton (mamba_ssm: ")
    given = tuple(make_arguments(2, 3, 4, 5, torch.float32))
    assert SCAN._implementation("auto", given, "cuda") is stand_in
    double = tuple(x.double() for x in given)
    assert SCAN._implementation("auto", double, "cuda") is scan_torch.selective_scan
    with pytest.raises(ValueError, match="float32, bfloat16 and float16 tensors on a GPU only"):
        selective_scan(*double, backend="triton")


@pytest.mark.parametrize("module", [None, ModuleType("triton")], ids=["missing", "broken"])
@pytest.mark.usefixtures("asked_again")
def test_without_triton_torch_scans_and_says_why(
    module: ModuleType | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "triton", module)
    monkeypatch.delitem(sys.modules, "decision_policies.ops.triton_kernels", raising=False)
    with caplog.at_level(logging.INFO):
        line = backends()["scan_gpu"]
    why = "triton is not installed" if module is None else "triton cannot be imported ("
    assert line.startswith("torch (mamba_ssm: ") and f"; triton: {why}" in line
    assert caplog.messages[-1] == f"triton kernels are not used: {scan_triton.problem()}"


@pytest.mark.usefixtures("asked_again")
def test_without_a_gpu_nothing_is_imported_to_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_triton, "KIND", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "triton", None)
    assert scan_triton.problem() == "torch can use no GPU"
    assert backends()["scan_gpu"] == "torch (torch can use no GPU)"


@pytest.mark.usefixtures("asked_again")
def test_the_switch_chooses_and_refuses_what_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both, alone = ("mamba_ssm", "triton"), {x: (x,) for x in ("mamba_ssm", "triton")}
    for choice, names in {"": both, "torch": (), **alone}.items():
        monkeypatch.setenv(SCAN.SWITCH, choice)
        SCAN.automatic.cache_clear()
        assert SCAN.automatic("cuda") == names
        assert SCAN.automatic("cpu") == ("native",) and SCAN.automatic("meta") == ()
    monkeypatch.setenv(SCAN.SWITCH, "tritium")
    SCAN.automatic.cache_clear()
    with pytest.raises(ValueError, match=r"must be 'torch' or one of .*'tritium'"):
        SCAN.automatic("cuda")


@pytest.mark.parametrize("length", [240, 2400])
def test_training_pass_never_holds_the_state_of_every_token(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_triton, "_launch", lambda *given: None)
    arguments = [x.float().requires_grad_() for x in make_arguments(4, length, 64, 16)]
    with LargestTensor() as largest:
        y, last = scan_triton.selective_scan(*arguments)
        torch.autograd.grad((y, last), arguments, (torch.ones_like(y), torch.ones_like(last)))
    assert largest.elements <= 4 * 64 * 16 * max(scan_triton.CHUNK, length // scan_triton.CHUNK)
