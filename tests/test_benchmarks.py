"""The benchmarks' pieces run at a tiny size, so that they cannot rot; no time is asserted."""

from __future__ import annotations

import datetime
import importlib
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import __main__ as pages
from benchmarks import (
    accuracy,
    acting,
    gpu,
    in_context,
    ledger,
    lifetimes,
    loading,
    memory,
    sampling,
    scan,
    startup,
    systems,
    training,
)
from benchmarks.ledger import Row
from benchmarks.lifetimes import Shape
from decision_policies import DeMa
from decision_policies.data import HistorySampler
from tests.kernels import reason


def test_sampling_compares_equal_windows(capsys: pytest.CaptureFixture[str]) -> None:
    sampling.main(episodes=3, length=30, repeats=1)
    printed = capsys.readouterr().out
    assert re.search(r"ratio +\d+\.\dx", printed)
    gap = re.search(r"agree to (\S+) of each value", printed)
    assert gap
    assert float(gap[1]) < 1e-5


def test_accuracy_is_measured_from_the_shortest_length_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    accuracy.main(stride=2000)
    printed = capsys.readouterr().out
    found = re.findall(
        r"^(?:native|torch) +(values|gradients) +(\S+) at length (\d+)", printed, re.M
    )
    assert {kind for kind, *_ in found} == {"values", "gradients"}
    assert all(float(error) <= accuracy.BOUNDS[kind] for kind, error, _ in found)
    assert {length for *_, length in found} <= {"1", "2001"}


def test_training_prints_each_variant_against_each_peer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    training.main(width=8, layers=1, context=2, batch=2, repeats=1, compiled=["DC"])
    printed = capsys.readouterr().out
    ratios = re.findall(r".* dropout (0\.\d) .* (\d+\.\d\d)x", printed)
    assert [peer for peer, _ in ratios] == ["0.1", "0.0"] * 10
    assert re.search(r"^DC, compiled: \d+\.\d\dx as fast as not compiled$", printed, re.M)


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
    rows = re.findall(r"^(\w+) +(\w+) +(\d+) .*x$", printed, re.MULTILINE)
    assert rows[: len(acting.SETTINGS)] == [
        ("DeMa", inference, str(envs)) for inference, envs in acting.SETTINGS
    ]
    assert [row[0] for row in rows[len(acting.SETTINGS) :]] == ["DMM", "DM", "DT", "DC", "MambaDM"]
    assert re.findall(r"^DeMa +(\w+) without the library +(\d+) .*x$", printed, re.MULTILINE) == [
        (inference, str(envs)) for inference, envs in acting.WITHOUT_LIBRARY
    ]
    assert len(re.findall(r"[+-]\d+\.\d %$", printed, re.MULTILINE)) == 2


def test_systems_prints_each_way_to_remember(capsys: pytest.CaptureFixture[str]) -> None:
    systems.main(repeats=1, systems=(DeMa,))
    printed = capsys.readouterr().out
    lines = re.findall(r"^DeMa +(\w+) +\d+ us +\d+ us +\d+\.\dx$", printed, re.MULTILINE)
    assert lines == list(systems.MODES)


def test_a_fork_acts_by_torch_as_the_policy_does() -> None:
    policy = DeMa(d_model=16).make_policy(acting.OBSERVATION, acting.ACTION)
    for mode in systems.MODES:
        ours = policy.fork(inference=mode)
        assert type(systems.context_of(ours)).__name__.lower().startswith(mode)
        acting.acting(ours, 1)()
        assert ours._session is not None
        ours._session.context = systems.context_of(ours)
        acting.acting(systems.by_torch(ours), 1)()


def test_startup_prints_each_side_against_importing_torch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    startup.main(repeats=1, warmup=0)
    printed = capsys.readouterr().out
    sides = re.findall(r"^(.*?) +\d+\.\d+ s +\d+\.\d+ s +\d+\.\d\dx +\d+\.\d\dx$", printed, re.M)
    assert sides == list(startup.SIDES)
    assert re.search(r"^(within|beyond) 1\.5 times import torch \+ 0\.3 s: ", printed, re.M)
    with pytest.raises(RuntimeError, match="a process ended with 3: raise SystemExit"):
        startup.run("raise SystemExit(3)", startup.ROOT)


def test_scan_agrees_with_its_peer() -> None:
    arguments = scan.make_arguments(2, 3, 4, 5)
    sides = (scan.ours("auto"), scan.parallel, scan.step_by_step)
    ours, *others = (scan.forward_backward(side, arguments)() for side in sides)
    for theirs in others:
        assert scan.largest_difference(ours, theirs) < 1e-5


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    shape = (8, 100, 64, 16)
    assert 1.0 < memory.extra("torch", shape) < memory.extra("mambapy", shape)
    with pytest.raises(RuntimeError, match="measuring nobody failed"):
        memory.extra("nobody", shape)


def test_scans_of_a_gpu_are_measured_or_the_line_says_why_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 2
    assert capsys.readouterr().err == "not measured: torch can use no GPU here\n"
    absent = SimpleNamespace(problem=lambda: "it is not there")
    monkeypatch.setattr(gpu, "KERNELS", {"triton": absent, "mamba_ssm": absent})
    monkeypatch.setattr(torch.Tensor, "cuda", lambda x: x)
    for name in ("milliseconds", "peak_megabytes"):
        monkeypatch.setattr(gpu, name, lambda call: float(call() is not None))
    gpu.compare((2, 3, 4, 5))
    measured, *others = capsys.readouterr().out.splitlines()
    assert re.search(r"torch +1\.000 ms +1\.000 ms +1\.0 MB +\d+e-0[678]$", measured)
    assert all(line.endswith("not measured: it is not there") for line in others)
    assert len(others) == 2


def test_in_context_prints_each_context_and_says_what_was_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shapes = Shape(2, 4, 2), Shape(3, 4, 2)
    growth = Shape(2, 4, 2), Shape(2, 8, 2)
    in_context.main(shapes, growth, width=8, repeats=1, updates=1, largest=8, lifetime=8)
    printed = capsys.readouterr().out
    steps = r"^ +(8|12)  \d x \d, c 2 .* (ms|run)( +\d\.\d+ ms){4} +(\S+) +\d+\.\d\dx$"
    rows = re.findall(steps, printed, re.MULTILINE)
    assert [(row[0], row[1]) for row in rows] == [("8", "ms"), ("12", "run")]
    assert re.fullmatch(r"\d+\.\dx", rows[0][3]) and rows[1][3] == "-"
    updates = re.findall(r"^ +(8|12)  .*(\dx|not run)$", printed, re.MULTILINE)[2:]
    assert [row[0] for row in updates] == ["8", "12"] and updates[1][1] == "not run"
    assert len(re.findall(r"ms: [+-]\d+\.\d %$", printed, re.MULTILINE)) == 2


def test_a_session_filled_with_a_window_acts_as_one_that_has_acted_it(
    monkeypatch: pytest.MonkeyPatch, looked_for_again: None
) -> None:
    assert reason(monkeypatch, "off")  # as long windows act, which go by torch
    shape = Shape(2, 4, 2)
    window = HistorySampler(lifetimes.make_histories(shape), 8, 1, seed=0).sample()
    ad = lifetimes.make_policy(lifetimes.make_systems(shape, 8)["AD"])
    filled, acted = ad.fork(inference="window"), ad.fork(inference="window")
    lifetimes.fill_window(filled, window)
    for t in range(8):
        acted.predict(window.observations[0, t].numpy())
        acted.observe(float(window.rewards[0, t]), action=window.actions[0, t].numpy())
    filled.observe(float(window.rewards[0, -1]), action=window.actions[0, -1].numpy())
    observation = acting.observations(1)
    np.testing.assert_array_equal(filled.predict(observation)[0], acted.predict(observation)[0])


def test_a_session_over_many_episodes_holds_no_more_than_over_a_few() -> None:
    shape = Shape(2, 4, 2)
    life = lifetimes.Lifetime(lifetimes.make_policy(lifetimes.make_hybrid(shape, 8)), shape)
    held = life.held_bytes()
    life.episodes(10)
    assert life.held_bytes() == held > 0


def test_loading_compares_equal_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MINARI_DATASETS_PATH", "DECISION_POLICIES_CACHE"):
        monkeypatch.setenv(name, "put back afterwards")
    loading.main(episodes=3, length=5, repeats=1)
    printed = capsys.readouterr().out
    assert "the same rows: True" in printed
    assert len(re.findall(r"Minari +[0-9.]+ s", printed)) == 2


ROW = Row("a thing", 1.0, "a peer", 3.0, (2.5, 3.5), at_least=2.0)


def test_a_page_says_what_is_met_and_a_check_names_what_fell(tmp_path: Path) -> None:
    slow = replace(ROW, what="another", theirs=1.9)
    page = pages.page([ROW, slow], {"processor": "one"}, datetime.date(2026, 1, 2))
    assert "| a thing | 1.00 s | a peer | 3.00 s | 3 (2.5 to 3.5) | 2 | yes |" in page
    assert "| another | 1.00 s | a peer | 1.90 s | 1.9 (2.5 to 3.5) | 2 | no |" in page
    assert "1 of 2 rows" in page and "- processor: one" in page
    ledger.write(tmp_path / "kept.json", [ROW, slow], {})
    kept = ledger.read(tmp_path / "kept.json")
    assert kept == [ROW, slow]
    assert ledger.fallen([ROW, slow], kept) == []
    fell = ledger.fallen([replace(ROW, theirs=2.3)], kept)
    assert fell == [
        "a thing against a peer: 2.3 times as fast, was 3",
        "another against a peer: no longer measured",
    ]


@pytest.mark.parametrize(
    ("switch", "names"),
    [
        ("off", ("RESULTS-none.md", "results-none.json")),
        ("baseline", ("RESULTS-baseline.md", "results-baseline.json")),
    ],
)
@pytest.mark.usefixtures("library_is_there")
def test_each_instruction_set_has_a_page_of_its_own(
    switch: str, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason(monkeypatch, switch)
    page, stored = pages.files()
    assert (page.name, stored.name) == names


def test_all_benchmarks_are_known_by_name_and_wrong_names_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in pages.QUICK:
        assert callable(importlib.import_module(f"benchmarks.{name}").main)
    with pytest.raises(SystemExit):
        pages.main(["scam"])
    assert (
        "no such benchmark: scam; there are scan, accuracy, memory, loading"
        in capsys.readouterr().err
    )


def test_a_benchmark_writes_the_page_or_compares_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = tmp_path / "page.md", tmp_path / "kept.json"
    monkeypatch.setattr(pages, "files", lambda: files)
    monkeypatch.setattr(ledger, "_ROWS", [])
    row = [ROW]
    monkeypatch.setattr(scan, "main", lambda: ledger.note(row[0]))
    assert pages.main(["scan", "--check"]) == 1
    assert "nothing to compare with" in capsys.readouterr().out
    assert pages.main(["scan"]) == 0
    assert "a thing" in (tmp_path / "page.md").read_text()
    assert pages.main(["scan", "--check"]) == 0
    row[0] = replace(ROW, theirs=1.0)
    assert pages.main(["scan", "--check"]) == 1
    assert "a thing against a peer: 1 times as fast, was 3" in capsys.readouterr().out
