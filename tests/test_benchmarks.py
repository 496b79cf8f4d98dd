"""The benchmarks' pieces run at a tiny size, so that they cannot rot; no time is asserted."""

from __future__ import annotations

import re

import pytest

from benchmarks import acting, sampling, scan, training
from decision_policies import DeMa


def test_sampling_compares_equal_windows(capsys: pytest.CaptureFixture[str]) -> None:
    sampling.main(episodes=3, length=30, repeats=1)
    printed = capsys.readouterr().out
    assert re.search(r"ratio +\d+\.\dx", printed)
    gap = re.search(r"agree to (\S+) of each value", printed)
    assert gap
    assert float(gap[1]) < 1e-5


def test_training_prints_each_variant_against_each_peer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    training.main(width=8, layers=1, context=2, batch=2, repeats=1)
    ratios = re.findall(r".* dropout (0\.\d) .* (\d+\.\d\d)x", capsys.readouterr().out)
    assert [peer for peer, _ in ratios] == ["0.1", "0.0"] * 9


def test_updates_of_both_sides_lower_their_loss() -> None:
    sampler = training.make_sampler(2, 2)
    window = sampler.sample()
    theirs, _ = training.transformer_update(window, 8, 1, 0.0)
    ours, _ = training.our_update(DeMa, sampler, window, d_model=8, n_layers=1)
    for update in (theirs, ours):
        losses = [float(update()) for _ in range(100)]
        assert losses[-1] < 0.99 * losses[0]


def test_acting_prints_each_way_of_remembering(capsys: pytest.CaptureFixture[str]) -> None:
    acting.main(repeats=1, predicts=10, late=20)
    printed = capsys.readouterr().out
    assert re.findall(r"^(\w+) +(\d+) .*x$", printed, re.MULTILINE) == [
        (inference, str(envs)) for inference, envs in acting.SETTINGS
    ]
    assert len(re.findall(r"[+-]\d+\.\d %$", printed, re.MULTILINE)) == 2


def test_scan_agrees_with_its_peer() -> None:
    arguments = scan.make_arguments(2, 3, 4, 5)
    ours, theirs = (scan.forward_backward(side, arguments)() for side in (scan.ours, scan.theirs))
    assert scan.largest_difference(ours, theirs) < 1e-5
