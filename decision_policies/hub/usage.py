"""The code in a model card: it loads a policy and lets it act, as it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from decision_policies.envs.registration import ENVIRONMENTS

EPISODE = """\
observation, info = env.reset(seed=0)
total, done = 0.0, False
while not done:
    action, _ = policy.predict(observation{how})
    observation, reward, terminated, truncated, info = env.step(action)
    total, done = total + float(reward), terminated or truncated
print(f"return {{total:.1f}}")"""

LIFETIME = """\
for episode in range(20):  # the policy remembers them all
    observation, info = env.reset(seed=None if episode else 0)
    total, done = 0.0, False
    while not done:
        action, _ = policy.predict(observation{how})
        observation, reward, terminated, truncated, info = env.step(action)
        total, done = total + float(reward), terminated or truncated
    print(f"episode {{episode + 1}}: return {{total:.1f}}")
policy.reset()  # forgets them, for another task"""


def usage(
    config: Mapping[str, Any],
    name: str,
    system: type[Any],
    environment: str | None,
    results: Mapping[str, Any] | None,
) -> str:
    """Write code that runs as it stands, where the hub and the environment can be reached.

    It acts as the policy did when it was measured: it asks for the same return, and samples or
    not. A policy that remembers over episodes plays several at one task, which was measured.

    Args:
        config: Content of the checkpoint's config.json.
        name: What `load` takes.
        system: The class that saved the checkpoint.
        environment: Id of the environment; None where none is known.
        results: What `results_of` returned; None: nothing was measured.
    """
    module, found = system.__module__, results or {}
    home = "decision_policies" if module.startswith("decision_policies.") else module
    load = f'policy = {system.__name__}.load("{name}").policy'
    if environment is None:
        return f"""\
from {home} import {system.__name__}

{load}
observation = policy.observation_space.sample()  # put your environment's here
action, _ = policy.predict(observation)"""
    asked = found.get("target_return")
    if asked not in (None, config["spec"]["target_return"]):
        load += f"\npolicy.reset(target_return={asked:g})  # as in the evaluation below"
    lasting = config["spec"]["memory"] == "lifetime"
    how = "" if found.get("is_deterministic", True) else ", deterministic=False"
    return f"""\
import gymnasium as gym
from {home} import {system.__name__}

{load}
env = policy.wrap({_made(environment, found)})  # its rewards reach the policy by themselves
{(LIFETIME if lasting else EPISODE).format(how=how)}"""


def _made(environment: str, results: Mapping[str, Any]) -> str:
    """Code that makes the environment as it was when the policy was measured."""
    made = f"decision_policies.envs:{environment}" if environment in ENVIRONMENTS else environment
    options = dict(results.get("environment_options", {}))
    if results.get("tasks"):
        options["task"] = results["tasks"][0]
    given = "".join(f", {key}={value!r}" for key, value in options.items() if key.isidentifier())
    return f"gym.make({json.dumps(made)}{given})"
