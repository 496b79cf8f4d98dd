"""The compiled scan: equal to the reference in every instruction set, and never a risk."""

from __future__ import annotations

import logging
import multiprocessing
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from decision_policies import backends
from decision_policies.models import native_step
from decision_policies.ops import scan_native, scan_torch, selective_scan
from decision_policies.ops.native import library
from tests.kernels import forget, reason
from tests.ops.test_selective_scan import error, make_arguments, values_and_gradients

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc") or shutil.which("gcc")
SIZES = [
    (1, 1, 1, 1),
    (2, 1, 8, 16),
    (3, 2, 6, 1),
    (5, 4, 3, 2),
    (2, scan_native.CHUNK, 16, 8),
    (3, scan_native.CHUNK + 1, 17, 9),
    (4, 17, 7, 5),
    (2, 60, 33, 16),
    (2, 61, 16, 64),
    (2, 300, 3, 17),
]


pytestmark = pytest.mark.usefixtures("looked_for_again")


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_the_library_is_there_where_a_compiler_is() -> None:
    assert scan_native.problem() == ""
    assert backends()["scan"].startswith("native")


@pytest.mark.parametrize("entry", ["y", "state", "both"])
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "zeros"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.usefixtures("instruction_set")
def test_values_and_gradients_are_the_reference_s(
    size: tuple[int, int, int, int], with_state: bool, entry: str
) -> None:
    arguments = make_arguments(*size, dtype=torch.float32)[: 7 if with_state else 6]
    ours = values_and_gradients("native", arguments, entry)
    exact = values_and_gradients("reference", [x.double() for x in arguments], entry)
    for left, right, tolerance in zip(ours, exact, [1e-6] * 2 + [5e-6] * 7, strict=False):
        assert left.shape == right.shape
        assert error(left.double(), right) <= tolerance


@pytest.mark.parametrize("length", [*range(1, 50), 1000, 3000])
@pytest.mark.usefixtures("instruction_set")
def test_every_length_is_as_accurate(length: int) -> None:
    arguments = make_arguments(1, length, 5, 4, dtype=torch.float32)
    ours = values_and_gradients("native", arguments, "both")
    exact = values_and_gradients("torch", [x.double() for x in arguments], "both")
    for left, right, tolerance in zip(ours, exact, [1e-6] * 2 + [5e-6] * 7, strict=True):
        assert error(left.double(), right) <= tolerance


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e3, 1e12])
@pytest.mark.usefixtures("instruction_set")
def test_tiny_and_huge_steps_are_as_accurate(scale: float) -> None:
    u, delta, *others = make_arguments(2, 20, 9, 5, dtype=torch.float32)
    arguments = [u / scale, delta * scale, *others]
    ours = values_and_gradients("native", arguments, "both")
    exact = values_and_gradients("reference", [x.double() for x in arguments], "both")
    for left, right in zip(ours, exact, strict=True):
        assert torch.isfinite(left).all()
        assert error(left.double(), right) <= 5e-6


@pytest.mark.parametrize("where", range(7))
@pytest.mark.usefixtures("instruction_set")
def test_what_is_not_a_number_stays_so_and_keeps_to_its_row(where: int) -> None:
    arguments = make_arguments(2, 5, 9, 5, dtype=torch.float32)
    arguments[where].view(-1)[0] = torch.nan
    y, last = selective_scan(*arguments, backend="native")
    assert y[0].isnan().any()
    assert where in (2, 5) or not (y[1].isnan().any() or last[1].isnan().any())


@pytest.mark.usefixtures("instruction_set")
def test_a_row_and_a_step_are_bit_equal_alone_and_among_others() -> None:
    u, delta, A, B, C, D, state = make_arguments(6, 40, 33, 17, dtype=torch.float32)
    y, last = selective_scan(u, delta, A, B, C, D, state, backend="native")
    h = state[4:5]
    for t in range(40):
        at = (slice(4, 5), slice(t, t + 1))
        step, h = selective_scan(u[at], delta[at], A, B[at], C[at], D, h, backend="native")
        assert torch.equal(step, y[at])
    assert torch.equal(h[0], last[4])


@pytest.mark.parametrize("swapped", [(0,), (1, 2), (0, 1, 2, 3, 4)], ids=str)
@pytest.mark.usefixtures("library_is_there")
def test_strides_may_be_any(swapped: tuple[int, ...]) -> None:
    plain = make_arguments(4, 17, 6, 5, dtype=torch.float32)
    strided = [x.repeat_interleave(2, dim=-1)[..., ::2] for x in plain]
    for i in swapped:
        strided[i] = plain[i].transpose(0, 1).contiguous().transpose(0, 1)
    ours = values_and_gradients("native", strided, "both")
    for left, right in zip(ours, values_and_gradients("native", plain, "both"), strict=True):
        assert torch.equal(left, right)


def test_low_precision_goes_in_and_out_while_the_state_stays_float32() -> None:
    arguments = make_arguments(3, 20, 8, 16, dtype=torch.float32)
    u, delta, A, B, C, D, state = arguments
    low = [u.bfloat16(), delta, A, B.bfloat16(), C.bfloat16(), D, state]
    for backend in ("native", "torch") if not scan_native.problem() else ("torch",):
        y, last = selective_scan(*low, backend=backend)  # type: ignore[arg-type]
        full, full_last = selective_scan(*(x.float() for x in low), backend="reference")
        assert y.dtype == torch.bfloat16 and last.dtype == torch.float32
        assert error(y.float(), full) <= 1e-2
        assert error(last, full_last) <= 1e-6
        leaf = low[0].clone().requires_grad_()
        selective_scan(leaf, *low[1:], backend=backend)[0].sum().backward()  # type: ignore[arg-type]
        assert leaf.grad is not None and leaf.grad.dtype == torch.bfloat16


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch, library_is_there: None) -> Iterator[None]:
    monkeypatch.setattr(scan_native, "WORTH_A_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def scanned(arguments: list[Tensor]) -> list[Tensor]:
    return values_and_gradients("native", arguments, "both")


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_rows_shared_out_over_threads_are_the_same_rows(rows: int) -> None:
    arguments = make_arguments(rows, 19, 9, 5, dtype=torch.float32)
    shared = scanned(arguments)
    torch.set_num_threads(1)
    alone = scanned(arguments)
    for i, (left, right) in enumerate(zip(shared, alone, strict=True)):
        if i in (4, 7):  # the gradients of A and D are sums over rows
            assert error(left, right) <= 1e-6
        else:
            assert torch.equal(left, right)


def _threads_of_a_child(answers: multiprocessing.Queue[int]) -> None:
    answers.put(scan_native._POOL.get().submit(sum, [1, 2]).result(10))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.usefixtures("three_threads")
def test_a_process_forked_after_threads_ran_has_threads_of_its_own() -> None:
    scanned(make_arguments(7, 19, 9, 5, dtype=torch.float32))
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[int] = context.Queue()
    child = context.Process(target=_threads_of_a_child, args=(answers,))
    child.start()
    assert answers.get(timeout=20) == 3
    child.join(20)
    assert child.exitcode == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "is not there: no C compiler"),
        (b"", "cannot be loaded"),
        (b"\x7fELF garbage", "cannot be loaded"),
    ],
)
def test_a_library_that_is_missing_or_broken_is_done_without(
    content: bytes | None,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "kernels.so"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(library, "PATH", path)
    with caplog.at_level(logging.INFO):
        assert why in reason(monkeypatch)
        selective_scan(*make_arguments(2, 3, 4, 5, torch.float32))
        selective_scan(*make_arguments(2, 3, 4, 5, torch.float32))
    assert len(caplog.records) == 1
    assert "native kernels are not used" in caplog.text
    assert backends()["scan"].startswith("torch (") and why in backends()["scan"]
    with pytest.raises(ValueError, match=why):
        selective_scan(*make_arguments(2, 3, 4, 5, torch.float32), backend="native")


@pytest.mark.parametrize("size", [64, 5000, 20_000, 60_000])
@pytest.mark.usefixtures("library_is_there")
def test_a_library_that_was_cut_short_is_done_without(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded, it would kill the process."""
    (tmp_path / "kernels.so").write_bytes(library.PATH.read_bytes()[:size])
    monkeypatch.setattr(library, "PATH", tmp_path / "kernels.so")
    library.native.cache_clear()
    assert library.native().library is None
    assert "cut short" in library.native().reason


@pytest.mark.usefixtures("library_is_there")
def test_a_library_of_other_source_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "source_digest", lambda: "0" * 16)
    assert "built from other source" in reason(monkeypatch)


@pytest.mark.usefixtures("library_is_there")
def test_a_library_that_computes_wrongly_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_torch, "selective_scan", wrong_scan)
    assert "failed its check" in reason(monkeypatch)


def wrong_scan(*given: Tensor) -> tuple[Tensor, Tensor]:
    y, last = selective_scan(*given, backend="reference")
    return 1.1 * y, last


def test_the_switch_turns_it_off_and_refuses_what_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert reason(monkeypatch, "off") == f"{library.SWITCH}=off"
    with pytest.raises(ValueError, match=r"must be 'off' or one of .*'avx9'"):
        reason(monkeypatch, "avx9")


@pytest.mark.usefixtures("library_is_there")
def test_torch_s_defaults_of_type_and_device_change_nothing() -> None:
    arguments = make_arguments(2, 20, 9, 5, dtype=torch.float32)
    before = scanned(arguments)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        after = scanned(arguments)
        forget()
        assert scan_native.problem() == ""
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert all(map(torch.equal, before, after))


def test_float64_is_not_for_the_library() -> None:
    with pytest.raises(ValueError, match="float32 and bfloat16 tensors on the CPU only"):
        selective_scan(*make_arguments(2, 3, 4, 5), backend="native")


@pytest.mark.parametrize("compiler", ["false", COMPILER])
def test_the_package_builds_with_and_without_a_compiler(
    compiler: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiler is None:
        pytest.skip("there is no C compiler")
    kept = shutil.ignore_patterns("*.so", "policies", "datasets", "__pycache__")
    shutil.copytree(ROOT / "decision_policies", tmp_path / "decision_policies", ignore=kept)
    shutil.copytree(ROOT / "zoo", tmp_path / "zoo", ignore=kept)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setenv("CC", compiler)
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.name.endswith("none-any.whl") == (compiler == "false")


def test_both_languages_have_the_same_numbers() -> None:
    folder = library.HERE
    text = "".join((folder / f"{name}.h").read_text() for name in ("scan", "step", "attend"))
    known = {name: int(value) for name, value in re.findall(r"#define (\w+) (\d+)", text)}
    names = ("PANEL", "TILE", "TOKENS", "HEADER")
    ours = {name: getattr(native_step, name) for name in names}
    assert known == {"CHUNK": scan_native.CHUNK, **ours}
    codes, activations = re.findall(r"enum \w+ \{ (.*?) \};", text)
    for code, name in enumerate(codes.split(", ")):
        assert getattr(native_step, name) == code
    assert tuple(activations.lower().split(", ")) == native_step.ACTIVATIONS
    fields = re.search(r"struct op \{(.*?)\n\};", text, re.DOTALL)
    assert fields is not None
    declared = re.findall(
        r"[*]?(\w+)(?=[,;])", re.sub(r"/\*.*?\*/", "", fields[1], flags=re.DOTALL)
    )
    assert tuple(name.rstrip("_") for name in native_step.SLOTS) == tuple(declared)
