"""The mixer law, row reset, right padding and row independence, of every mixer."""

from __future__ import annotations

import pytest
import torch

from decision_policies.laws import check_mixer
from tests.laws.systems import KINDS, MIXERS, WIDTH


@pytest.mark.parametrize("name", MIXERS)
def test_the_laws_of_mixers_hold(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mixer = MIXERS[name]()
    check_mixer(mixer, WIDTH, KINDS.get(name, 1))
