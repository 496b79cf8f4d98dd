"""Laws of policies: three ways of reporting a reward, rows with lives of their own, three modes."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from decision_policies.laws.cases import Case, RandomEpisodes, sample
from decision_policies.laws.law import (
    PAIR,
    close,
    differ,
    law_in_modes,
    no_warning,
    one_warning,
    require,
    same,
)
from decision_policies.laws.memory import Outputs, taken_off
from decision_policies.policy import SequencePolicy
from decision_policies.spec import Inference

TARGET = 5.0
CLEAR = 1e-4
"""Logits this far apart leave no doubt about the likeliest action."""

Report: TypeAlias = Literal["keyword", "observe", "wrapper", "executed"]


def roll(
    policy: SequencePolicy, kind: str, seeds: list[int], report: Report, steps: int | None = None
) -> NDArray[Any]:
    """Act through episodes, reporting rewards in one of the three ways.

    Args:
        policy: The policy.
        kind: Space kind.
        seeds: Seeds of the episodes.
        report: The way; "executed" is `observe` with other actions than the predicted ones, so
            that errors do not feed back.
        steps: Stop after this many.
    """
    env: gym.Env[Any, Any] = RandomEpisodes(kind)
    if report == "wrapper":
        env = policy.wrap(env)
    actions: list[NDArray[Any]] = []
    reward: Any = None
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        start, done = True, False
        while not done and len(actions) != steps:
            flag = None if report == "wrapper" else [start]
            keyword = reward if report == "keyword" else None
            action, _ = policy.predict(observation, None, flag, reward=keyword)
            observation, reward, terminated, truncated, info = env.step(action)
            if report in ("observe", "executed"):
                executed = info["executed"] if report == "executed" else action
                policy.observe(reward, terminated, truncated, executed)
            actions.append(np.asarray(action).copy())
            start, done = False, terminated or truncated
    return np.array(actions)


@law_in_modes(PAIR)
def keyword_observe_and_wrapper_give_bit_equal_actions(case: Case, mode: Inference) -> None:
    """However rewards and episode ends are reported, the policy does the same."""
    policy = case.policy(mode, TARGET)
    keyword = roll(policy.fork(), case.kind, [0, 1, 2], "keyword")
    require(len(keyword) > 12, "the episodes are too short to tell")
    for way in ("observe", "wrapper"):
        run = roll(policy.fork(), case.kind, [0, 1, 2], way)
        same(run, keyword, f"the actions with rewards by {way}, against predict(reward=),")


@law_in_modes()
def rewards_lower_what_is_asked_for(case: Case, mode: Inference) -> None:
    """A reward comes off the return-to-go, and the model gives something else; or off none.

    Where the whole episode's return is asked for at each step, rewards change nothing; nor do they
    where predicted ones come off.
    """
    model = case.model()
    outputs = Outputs(model)
    policy = SequencePolicy(model, inference=mode, target_return=TARGET)
    first, second = case.sample(2)[0]
    for reward in (50.0, -50.0):
        paid = policy.fork()
        action = np.asarray(paid.predict(first)[0])
        paid.observe(reward)
        paid.predict(second)
        if model.spec.uses_returns:
            left = paid.returns_to_go
            require(left is not None, "there is no return-to-go after two steps")
            what = f"the return-to-go after a target of {TARGET} and a reward of {reward}"
            off = taken_off(model, np.stack((first, second)), action[None], reward)
            close(left, TARGET - off, what)  # type: ignore[arg-type]
    if "reward" in model.spec.modalities:
        return
    if not model.spec.counts_down:
        same(outputs.seen[1], outputs.seen[3], "the output after a reward of 50, against -50,")
    else:
        differ(outputs.seen[1], outputs.seen[3], "rewards of 50 and -50 lead to the same output")


def margin(parameters: NDArray[Any], space: spaces.Space[Any]) -> NDArray[Any]:
    """Find how far the logits (n, P) of n choices are from those of another; (n,)."""
    if isinstance(space, spaces.Box):
        return np.full(len(parameters), np.inf)
    if isinstance(space, spaces.MultiBinary):
        margins: NDArray[Any] = np.abs(parameters).min(1)
        return margins
    assert isinstance(space, (spaces.Discrete, spaces.MultiDiscrete))
    counts = np.ravel(space.n if isinstance(space, spaces.Discrete) else space.nvec)
    each = np.split(parameters, np.cumsum(counts)[:-1], 1)
    gaps: NDArray[Any] = np.min([np.diff(np.sort(part)[:, -2:])[:, 0] for part in each], 0)
    return gaps


def plan_of(row: int) -> list[int]:
    """Seeds of the four episodes of a row."""
    return [10 * row + k for k in range(4)]


def steps_of(kind: str, rows: int) -> int:
    """Steps until the first of several rows has played its four episodes."""
    env = RandomEpisodes(kind)
    totals = []
    for row in range(rows):
        lengths = []
        for seed in plan_of(row):
            env.reset(seed=seed)
            lengths.append(env.left)
        totals.append(sum(lengths))
    return min(totals)


def roll_together(policy: SequencePolicy, kind: str, rows: int, steps: int) -> NDArray[Any]:
    """Act in several environments at once, each restarting by itself; (steps, rows, *action)."""
    envs = [RandomEpisodes(kind) for _ in range(rows)]
    plans = [plan_of(row) for row in range(rows)]
    episode, restarts = [0] * rows, 0
    observations = [env.reset(seed=plan[0])[0] for env, plan in zip(envs, plans, strict=True)]
    starts, actions = [True] * rows, []
    for _ in range(steps):
        chosen, _ = policy.predict(np.stack(observations), None, starts)
        outcomes = [env.step(a) for env, a in zip(envs, chosen, strict=True)]
        executed = np.stack([o[4]["executed"] for o in outcomes])
        policy.observe([o[1] for o in outcomes], action=executed)
        starts = [o[2] for o in outcomes]
        actions.append(chosen)
        for row, outcome in enumerate(outcomes):
            observations[row] = outcome[0]
            if outcome[2]:
                episode[row], restarts = (episode[row] + 1) % 4, restarts + 1
                observations[row] = envs[row].reset(seed=plans[row][episode[row]])[0]
    require(restarts > rows, "rows must restart")
    return np.array(actions)


@law_in_modes(PAIR)
def a_row_that_restarts_acts_as_a_single_environment(case: Case, mode: Inference) -> None:
    """Rows whose episodes end at different times act as they would alone."""
    model = case.model()
    outputs = Outputs(model)
    policy = SequencePolicy(model, inference=mode, target_return=TARGET)
    groups = {rows: steps_of(case.kind, rows) for rows in (1, 3, 8)}
    alone = []
    for row in range(max(groups)):
        outputs.seen.clear()
        needed = max(steps for rows, steps in groups.items() if row < rows)
        run = roll(policy.fork(), case.kind, plan_of(row), "executed", needed)
        alone.append((run, np.concatenate(outputs.seen)))
    for rows, steps in groups.items():
        outputs.seen.clear()
        together = roll_together(policy.fork(), case.kind, rows, steps)
        for row in range(rows):
            actions, parameters = (part[:steps] for part in alone[row])
            what = f"of row {row} of {rows}, against a single environment,"
            found = np.stack(outputs.seen)[:, row]
            close(found, parameters, f"the output {what}")
            decided = margin(parameters, case.spaces[1]) > CLEAR
            close(together[decided, row], actions[decided], f"the action {what}")


@law_in_modes()
def the_executed_action_is_remembered_rather_than_the_predicted_one(
    case: Case, mode: Inference
) -> None:
    """`observe(action=)` has the effect of the policy having chosen that action itself."""
    policy = case.policy(mode, TARGET)
    other = case.sample(1)[1][0]
    env = RandomEpisodes(case.kind)
    first, second = env.reset(seed=1)[0], env.observe()
    told, twin = policy.fork(), policy.fork()
    for p in (told, twin):
        p.predict(first)
    told.observe(1.0, action=other)
    assert twin._session is not None, "predict has made one"
    twin._session.actions = other[None].copy()
    twin.observe(1.0)
    what = "what follows a reported action, against what follows the same action predicted,"
    same(told.predict(second)[0], twin.predict(second)[0], what)


@law_in_modes()
def a_policy_that_hears_of_no_reward_holds_and_warns_once(case: Case, mode: Inference) -> None:
    """Without rewards the return-to-go stands still; what has none has nothing to warn of."""
    policy = case.policy(mode, TARGET)
    observation = case.sample(1)[0][0]
    policy.predict(observation)
    if not policy.spec.counts_down:
        with no_warning():
            policy.predict(observation)
        return
    with one_warning(r"policy\.wrap"):
        policy.predict(observation)
    with no_warning():
        policy.predict(observation)
    left = policy.returns_to_go
    require(left is not None and left[0] == TARGET, f"the return-to-go is {left}, not {TARGET}")


@law_in_modes(PAIR)
def a_fork_has_a_life_of_its_own(case: Case, mode: Inference) -> None:
    """What one fork sees and earns has no influence on another."""
    policy = case.policy(mode, TARGET)
    expected = roll(policy.fork(), case.kind, [4], "observe")
    env, other = RandomEpisodes(case.kind), policy.fork()
    observation, _ = env.reset(seed=4)
    actions = []
    for _ in expected:
        action, _ = policy.predict(observation)
        other.predict(case.sample(1, seed=9)[0][0], reward=3.0)
        observation, reward, terminated, truncated, _ = env.step(action)
        policy.observe(reward, terminated, truncated)
        actions.append(np.asarray(action))
    same(np.array(actions), expected, "the actions of a policy beside which a fork acts")


@law_in_modes()
def targets_may_differ_from_row_to_row(case: Case, mode: Inference) -> None:
    """Each row follows its own target; a model without returns follows none."""
    model = case.model()
    outputs = Outputs(model)
    policy = SequencePolicy(model, inference=mode)
    observations, _ = case.sample(2)
    policy.reset([1.0, 9.0])
    together, _ = policy.predict(observations)
    for row, target in enumerate((1.0, 9.0)):
        alone = policy.fork()
        alone.reset(target)
        action, _ = alone.predict(observations[row])
        what = f"of the row with the target {target}, against one environment with it,"
        close(outputs.seen[0][row], outputs.last[0], f"the output {what}")
        close(together[row], action, f"the action {what}")
    alone.reset(1.0)
    alone.predict(observations[1])
    if model.spec.uses_returns:
        differ(outputs.seen[-2], outputs.last, "targets of 1 and 9 lead to the same output")
    else:
        same(outputs.seen[-2], outputs.last, "the output of a model without returns, by target,")


@law_in_modes()
def actions_have_the_shape_and_dtype_of_their_space(case: Case, mode: Inference) -> None:
    """One observation gives one action of the space, a batch gives a batch; sampling samples."""
    policy = case.policy(mode, TARGET)
    space = case.spaces[1]
    observations, _ = case.sample(3)
    single, _ = policy.predict(observations[0])
    require(bool(space.contains(single)), f"the action {single!r} is not in {space}")
    policy.reset()
    batch, _ = policy.predict(observations)
    shape = (3, *(space.shape or ()))
    require(batch.shape == shape, f"three actions have the shape {batch.shape}, expected {shape}")
    require(batch.dtype == space.dtype, f"actions are {batch.dtype}, expected {space.dtype}")
    if not isinstance(space, spaces.Box):
        drawn = {
            policy.fork(seed=i).predict(observations[0], deterministic=False)[0].tobytes()
            for i in range(40)
        }
        require(len(drawn) > 1, f"40 samples are all the same action {single}")


@law_in_modes(("box-box", "box-discrete"), ("recurrent",))
def the_return_to_go_loses_nothing_over_long_episodes(case: Case, mode: Inference) -> None:
    """Ten thousand small rewards come off a large target without rounding."""
    policy = case.policy(mode, 1e6)
    policy.predict(sample(np.random.default_rng(0), case.spaces[0], 1)[0])
    if not policy.spec.counts_down:
        return
    for _ in range(10_000):
        policy.observe(0.1)
    left = policy.returns_to_go
    require(left is not None, "there is no return-to-go after a step")
    close(left, [1e6 - 1e3], "the return-to-go", tolerance=1e-12 * (1e6 - 1e3))  # type: ignore[arg-type]
