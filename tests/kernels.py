"""Look for the native library again, under another choice, and put things back afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from decision_policies.ops import scan_native
from decision_policies.ops.native import library


def forget() -> None:
    """Let the next call look for the library again."""
    for found in (library.native, scan_native.problem, library.function):
        found.cache_clear()


def reason(monkeypatch: pytest.MonkeyPatch, choice: str = "") -> str:
    """Look again under that choice; say why the library is not used."""
    monkeypatch.setenv(library.SWITCH, choice)
    forget()
    return scan_native.problem()


@pytest.fixture
def looked_for_again() -> Iterator[None]:
    """Forget, after the test, what it has made of the library."""
    yield
    forget()


@pytest.fixture
def library_is_there(looked_for_again: None) -> None:
    """Skip where no library was built; one that was must be right."""
    if library.native().library is None:
        pytest.skip(library.native().reason)
    assert scan_native.problem() == ""


@pytest.fixture(params=library.INSTRUCTION_SETS)
def instruction_set(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, looked_for_again: None
) -> str:
    """Each instruction set that this processor has; it must be right."""
    why = reason(monkeypatch, request.param)
    if library.native().library is None:
        pytest.skip(why)
    assert why == ""
    return str(request.param)


@pytest.fixture(params=[*library.INSTRUCTION_SETS, "numpy"])
def engine(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, looked_for_again: None
) -> None:
    """Each instruction set that this processor has, which must be right, and NumPy."""
    if request.param == "numpy":
        reason(monkeypatch, "off")
        return
    why = reason(monkeypatch, request.param)
    if library.native().library is None:
        pytest.skip(why)
    assert why == ""
