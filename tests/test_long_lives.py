"""Policies live long, in forked processes too, and say so where their model is moved away."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decision_policies import DT, SequencePolicy
from tests.fixtures import tiny_algorithm, tiny_spaces
from tests.test_checkpoint_faults import in_child

STEPS = 5_000
MODES = ("window", "recurrent", "staggered")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_stays_flat_and_actions_finite_in_long_lives() -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "tests.long_lives", "--steps", str(STEPS)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout + done.stderr
    assert done.stdout.count("steps  ") == 2 * len(MODES)


def some_policy(native: bool, mode: Any) -> SequencePolicy:
    """Make a policy that the native library runs, or torch."""
    made = tiny_algorithm() if native else DT(d_model=16, n_layers=1, context_length=4, seed=0)
    policy = made.make_policy(*tiny_spaces(discrete=False), target_return=5.0)
    return policy.fork(inference=mode)


def acts(policy: SequencePolicy, first: int, last: int) -> Any:
    """Act in some steps of a fixed stream, of two environments."""
    seen = np.random.default_rng(0).normal(size=(20, 2, 3))
    return np.array([policy.predict(seen[t], reward=[1.0, t])[0] for t in range(first, last)])


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_forked_worker_goes_on_in_the_midst_of_an_episode(
    mode: str, native: bool, tmp_path: Path
) -> None:
    policy = some_policy(native, mode)
    acts(policy, 0, 7)
    child = in_child(lambda: np.save(tmp_path / "acted.npy", acts(policy, 7, 20)))
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "acted.npy"), acts(policy, 7, 20))


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_is_moved_in_an_episode_is_missed_and_goes_on_once_it_is_back(
    mode: str, native: bool
) -> None:
    policy, twin = some_policy(native, mode), some_policy(native, mode)
    np.testing.assert_array_equal(acts(policy, 0, 5), acts(twin, 0, 5))
    policy.model.to("cpu")  # where it is
    np.testing.assert_array_equal(acts(policy, 5, 9), acts(twin, 5, 9))
    kept, policy.model = policy.model, copy.deepcopy(policy.model).to("meta")
    with pytest.raises(RuntimeError, match="moved from cpu to meta in the midst of an episode"):
        acts(policy, 9, 10)
    policy.model = kept
    np.testing.assert_array_equal(acts(policy, 9, 20), acts(twin, 9, 20))
