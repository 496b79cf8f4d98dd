"""A slice of every suite of faults; `make faults` injects the rest of them."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import pytest

from decision_policies.errors import CheckpointError
from tests.faults.counting import Suite
from tests.faults.suites import SUITES
from tests.test_checkpoint import Payload


@pytest.mark.parametrize("name", SUITES)
def test_no_fault_of_a_slice_escapes(name: str, original: Path, tmp_path: Path) -> None:
    suite = SUITES[name](original, tmp_path, False)
    assert suite.escapes == []
    assert suite.injected > 5, str(suite)


def test_the_count_tells_refusals_survivals_and_escapes_apart(tmp_path: Path) -> None:
    def refuse() -> None:
        raise CheckpointError("no")

    def fail() -> None:
        raise KeyError("unexpected")

    def differ() -> None:
        raise AssertionError("read, but wrong")

    def dawdle() -> None:
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass

    suite = Suite("all kinds")
    suite.inject("refused", refuse)
    suite.inject("survived", lambda: None)
    for name, read in (("error", fail), ("wrong", differ)):
        suite.inject(name, read)
    suite.inject("slow", dawdle, slow=0.01)
    suite.inject("unnoticed", lambda: None, harmless=False)
    poison = pickle.dumps(Payload(tmp_path / "trace"))
    suite.inject("pickle", lambda: pickle.loads(poison))
    assert [escape.split(":")[0] for escape in suite.escapes] == [
        *("error", "wrong", "slow", "unnoticed", "pickle")
    ]
    assert "pickle.find_class" in suite.escapes[-1]
    assert str(suite) == "all kinds: injected 7, refused 1, survived 1, escapes 5"
