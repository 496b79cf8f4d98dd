"""Bad input that no other file has: what is said, and that nothing was lost by it.

docs/safety.md lists forty mistakes, each with its test; most of these stand in other files.
"""

from __future__ import annotations

import copy
import gc
import json
import pickle
import re
import subprocess
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from decision_policies import DeMa, SequencePolicy
from decision_policies.errors import CheckpointError
from tests.fixtures import reseal, tiny_policy, tiny_trajectories
from tests.test_checkpoint import acts

INFERENCE = ("window", "recurrent", "staggered")

TEXTS: dict[str, tuple[Callable[[str], str], str]] = {
    "no JSON": (
        lambda text: "not JSON",
        "not valid JSON: Expecting value: line 1 column 1 (char 0)",
    ),
    "nothing": (lambda text: "", "not valid JSON: Expecting value: line 1 column 1 (char 0)"),
    "cut": (lambda text: text[: text.index(",") + 1], "not valid JSON: Expecting property name "),
    "twice": (
        lambda text: text.replace('"seed": 0', '"seed": 1, "seed": 0'),
        "a key is there twice: 'seed'",
    ),
    "nan": (lambda text: text.replace('"seed": 0', '"seed": NaN'), "NaN is no finite number"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_config_that_is_no_strict_json_names_the_file_and_the_place(name: str, saved: Path) -> None:
    change, message = TEXTS[name]
    path = saved / "config.json"
    path.write_text(change(json.dumps(json.loads(path.read_text()), indent=None)))
    reseal(saved)
    with pytest.raises(CheckpointError) as caught:
        DeMa.load(saved)
    assert str(caught.value).startswith(f"{path}: {message}")
    if "JSON" in message:
        assert "line 1 column" in str(caught.value)


def hole(content: bytes) -> bytes:
    """Move all tensors but the first back by eight bytes."""
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size])
    for entry in head.values():
        if entry["data_offsets"][0]:
            entry["data_offsets"] = [place + 8 for place in entry["data_offsets"]]
    changed = json.dumps(head).encode()
    return len(changed).to_bytes(8, "little") + changed + content[8 + size :] + bytes(8)


TENSORS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda content: content[:-4], "file not fully covered"),
    "trailing bytes": (lambda content: content + bytes(8), "file not fully covered"),
    "hole": (hole, "invalid offset for tensor"),
}


@pytest.mark.parametrize("file", ["model.safetensors", "training/tensors.safetensors"])
@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_fill_their_file_are_refused_with_the_readers_reason(
    name: str, file: str, saved: Path
) -> None:
    change, reason = TENSORS[name]
    (saved / file).write_bytes(change((saved / file).read_bytes()))
    reseal(saved)
    with pytest.raises(CheckpointError, match=f"is no valid safetensors file .*{reason}") as caught:
        DeMa.load(saved)
    assert str(caught.value).startswith(f"{saved / file} is no valid safetensors file (")
    assert isinstance(caught.value.__cause__, SafetensorError)


@pytest.mark.parametrize("name", ["exp_avg_sq", "step"])
def test_an_optimiser_with_negative_squares_or_counts_is_refused(name: str, saved: Path) -> None:
    path = saved / "training" / "tensors.safetensors"
    tensors = load_file(path)
    tensors[f"optimizer.0.{name}"].view(-1)[0] = -1.0
    save_file(tensors, path)
    reseal(saved)
    algorithm = DeMa.load(saved)
    with pytest.raises(CheckpointError, match=rf"negative where .* optimizer\.0\.{name} is \["):
        algorithm.learn(tiny_trajectories(False), 1, reset_num_timesteps=False)


@pytest.mark.parametrize("content", [b"", b"\0" * 300_000], ids=["truncated", "overwritten"])
def test_a_live_policy_does_not_feel_what_happens_to_its_files(content: bytes, saved: Path) -> None:
    algorithm = DeMa.load(saved)
    before = acts(algorithm)
    for path in saved.rglob("*.*"):
        path.write_bytes(content)  # in place: whoever had mapped it would read this
    assert acts(algorithm) == before
    algorithm.learn(tiny_trajectories(False), 1, reset_num_timesteps=False)
    algorithm.save(saved)
    assert acts(DeMa.load(saved)) == acts(algorithm)


def test_learning_on_with_other_data_says_that_it_starts_anew(saved: Path) -> None:
    algorithm = DeMa.load(saved)
    with pytest.warns(UserWarning, match="trained on other data, so its optimiser and sampler"):
        algorithm.learn(tiny_trajectories(False, seed=9), 1, reset_num_timesteps=False)
    assert algorithm.num_timesteps == 4


@pytest.mark.parametrize("inference", INFERENCE)
def test_missing_rewards_cost_one_warning_and_hold_the_return(inference: str) -> None:
    policy = tiny_policy(inference=inference)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(9):
            policy.predict(np.ones((2, 3)))
    assert [str(w.message)[:47] for w in caught] == [
        "no reward was reported since the last action, so"[:47]
    ]
    assert policy.returns_to_go is not None
    assert policy.returns_to_go.tolist() == [5.0, 5.0]


@pytest.mark.parametrize("inference", INFERENCE)
def test_a_long_episode_takes_no_more_memory_than_a_short_one(inference: str) -> None:
    policy, rng = tiny_policy(inference=inference), np.random.default_rng(0)

    def play(steps: int) -> None:
        for _ in range(steps):
            action, _ = policy.predict(rng.normal(size=3))
            assert np.isfinite(action).all()
            policy.observe(0.01)

    play(50)
    tracemalloc.start()
    held = []
    try:
        for _ in range(5):
            play(200)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    growth = np.diff(held)  # caches fill up early on; a leak is there in every stretch
    assert growth.min() < 8 * 100, f"less than half a number a step is kept, not {growth} bytes"


def steps(policy: SequencePolicy, count: int) -> list[NDArray[Any]]:
    """Act along a fixed stream."""
    rng = np.random.default_rng(0)
    return [policy.predict(rng.normal(size=3), reward=1.0)[0] for _ in range(count)]


def test_a_policy_in_use_by_another_thread_says_so_and_goes_on_untouched() -> None:
    policy, twin = tiny_policy(), tiny_policy()
    inside, go_on = threading.Event(), threading.Event()
    act = policy.model.head.act

    def dawdle(*arguments: Any) -> NDArray[Any]:
        inside.set()
        assert go_on.wait(30)
        return act(*arguments)

    policy.model.head.act = dawdle  # type: ignore[method-assign, assignment]
    found: list[NDArray[Any]] = []
    thread = threading.Thread(target=lambda: found.extend(steps(policy, 1)))
    thread.start()
    assert inside.wait(30)
    named = "^thread 'MainThread' called a policy that another thread is using; .*policy.fork()"
    for call in (lambda: policy.predict(np.ones(3)), lambda: policy.observe(7.0)):
        with pytest.raises(RuntimeError, match=named):
            call()
    go_on.set()
    thread.join()
    policy.model.head.act = act  # type: ignore[method-assign]
    np.testing.assert_equal(found + steps(policy, 5), steps(twin, 1) + steps(twin, 5))


def test_forks_act_in_threads_as_they_do_one_after_another() -> None:
    policy = tiny_policy(inference="recurrent")
    wanted = steps(policy.fork(), 40)
    found: dict[int, list[NDArray[Any]]] = {}

    def act(number: int) -> None:
        found[number] = steps(policy.fork(), 40)

    threads = [threading.Thread(target=act, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_equal(found[number], wanted)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_a_copy_of_a_policy_goes_on_where_it_was(copied: Callable[[Any], Any]) -> None:
    policy = tiny_policy()
    steps(policy, 3)
    twin = copied(policy)
    np.testing.assert_equal(steps(twin, 5), steps(policy, 5))


FORK = """
import os, sys, time, warnings
import numpy as np, torch
from tests.fixtures import tiny_algorithm, tiny_spaces
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside other threads
torch.set_num_threads(2)
policy = tiny_algorithm(d_model=128).make_policy(*tiny_spaces(False))
torch.randn(1000, 1000) @ torch.randn(1000, 1000)  # the threads of the pool start
observations = np.ones((64, 3), np.float32)
wanted = policy.predict(observations)[0]
policy.reset()
child = os.fork()
if not child:
    found = policy.predict(observations)[0]
    os._exit(0 if np.allclose(found, wanted, atol=1e-6) else 1)
for _ in range(300):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        sys.exit(status)
    time.sleep(0.1)
os.kill(child, 9)
sys.exit("the child hangs")
"""


def test_a_forked_child_acts_though_torch_had_threads() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", FORK], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_page_on_safety_names_tests_that_exist() -> None:
    root = Path(__file__).parent.parent
    rows = re.findall(r"^\| (\d+) \|.*\|$", page := (root / "docs/safety.md").read_text(), re.M)
    assert [int(row) for row in rows] == list(range(1, 41))
    named = set(re.findall(r"`(test_\w+)`", page))
    sources = "".join(path.read_text() for path in (root / "tests").rglob("test_*.py"))
    assert len(named) > 30
    assert sorted(name for name in named if f"def {name}(" not in sources) == []
