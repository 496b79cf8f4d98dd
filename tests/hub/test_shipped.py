"""What the package ships: every policy of the registry loads without a hub, whole, and acts."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

import decision_policies
from decision_policies import DeMa, DMHybrid, evaluate_in_context
from decision_policies.algorithms import BY_NAME
from decision_policies.envs import Darkroom
from decision_policies.hub import registry
from decision_policies.laws.cases import sample
from decision_policies.space_json import from_json

SHIPPED = registry.read()
MOST = 15_000_000
"""Bytes that all policies together may have."""


def test_the_package_ships_policies_and_is_still_small() -> None:
    aliases = {entry.alias for entry in SHIPPED}
    assert aliases == {
        *("cartpole", "darkroom", "halfcheetah", "hopper", "lunarlander", "pendulum", "pointmaze")
    }
    assert {entry.algorithm for entry in SHIPPED if entry.alias == "hopper"} == set(BY_NAME)
    files = [path for path in registry.POLICIES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST
    listed = {entry.folder() for entry in SHIPPED}
    assert {path.parent for path in files} == {registry.POLICIES, *listed}


@pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: f"{entry.alias}-{entry.algorithm}")
def test_a_shipped_policy_is_what_the_registry_says(
    entry: registry.Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = (entry.folder() / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == entry.sha256
    card = (entry.folder() / "README.md").read_text()
    assert str(entry.dataset) in card and entry.environment in card
    results = json.loads((entry.folder() / "results.json").read_text())
    assert results["mean_reward"] == pytest.approx(entry.score, abs=0.01)
    assert results["n_eval_episodes"] >= 16
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody is there to ask
    algorithm = BY_NAME[entry.algorithm].load(f"hub/{entry.alias}")
    assert algorithm.policy is not None
    assert algorithm.policy.target_return == pytest.approx(entry.target_return)
    learns_in_context = algorithm.policy.spec.memory == "lifetime"  # its data are generated anew
    assert learns_in_context or algorithm.policy.spec.returns is not None
    config = json.loads((entry.folder() / "config.json").read_text())
    space = from_json(config["spec"]["observation_space"], "here")
    observation = space.sample() if hasattr(space, "spaces") else sample(RNG, space, 1)[0]
    action, _ = algorithm.predict(observation)
    assert algorithm.policy.action_space.contains(action)
    chosen = DMHybrid if entry.alias == "darkroom" else DeMa  # the one that the README speaks of
    assert type(decision_policies.load(f"hub/{entry.alias}")) is chosen


def test_the_shipped_darkroom_policy_gets_better_at_goals_that_it_never_saw() -> None:
    entry = registry.find("darkroom", "DMHybrid")
    results = json.loads((entry.folder() / "results.json").read_text())
    played = evaluate_in_context(
        DMHybrid.load("hub/darkroom"),
        Darkroom([0], **results["environment_options"]),
        results["tasks"],
        n_episodes=8,
        seed=7,
        deterministic=False,
    )
    assert played.last > played.first + 5
    assert entry.score is not None and entry.score > played.first + 5


def test_the_code_in_the_card_of_the_darkroom_policy_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    card = (registry.find("darkroom").folder() / "README.md").read_text()
    exec(card.partition("```python\n")[2].partition("```")[0], {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20 and lines[-1].startswith("episode 20: return ")


RNG = np.random.default_rng(0)
