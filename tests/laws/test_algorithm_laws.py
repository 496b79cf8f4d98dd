"""Every law holds for every system, in every kind of spaces in which it is to be checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from decision_policies.laws import LAWS, SPACES, Case
from tests.laws.systems import SYSTEMS, systems_of


def cases() -> Iterator[tuple[str, str, str]]:
    for name, law in LAWS.items():
        for kind in law.kinds:
            for system in systems_of(kind):
                yield system, name, kind


@pytest.mark.parametrize(("system", "law", "kind"), list(cases()))
def test_the_law_holds(system: str, law: str, kind: str) -> None:
    algorithm, hyperparameters = SYSTEMS[system]
    LAWS[law](Case(algorithm, kind, hyperparameters))


def test_every_kind_of_spaces_is_enough_for_some_law_and_every_law_has_one() -> None:
    assert {kind for law in LAWS.values() for kind in law.kinds} == set(SPACES)
    assert all(law.kinds and law.checks for law in LAWS.values())
    assert all(law.description.endswith(".") for law in LAWS.values())
