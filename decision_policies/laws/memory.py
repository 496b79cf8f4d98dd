"""Laws of memory: what each mode has seen of an episode, and what it forgets between two."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decision_policies.batch import Window
from decision_policies.inputs import action_tensor, observation
from decision_policies.laws.cases import MODES, Case
from decision_policies.laws.law import close, law, law_in_modes, require, same
from decision_policies.models.model import SequenceModel
from decision_policies.policy import SequencePolicy
from decision_policies.spec import Inference

STEPS = 21
TARGET, REWARD = 5.0, 0.5
KINDS = ("box-box", "box-discrete")


class Outputs:
    """Collects what the head makes actions of: logits, rather than the actions that they become.

    Args:
        model: The model to listen to.
    """

    def __init__(self, model: SequenceModel) -> None:
        self.seen: list[NDArray[np.float32]] = []
        act = model.head.act

        def spy(parameters: NDArray[np.float32], *rest: Any) -> NDArray[Any]:
            self.seen.append(parameters.copy())
            return act(parameters, *rest)

        model.head.act = spy  # type: ignore[method-assign, assignment]

    @property
    def last(self) -> NDArray[np.float32]:
        """The last output, (n, P)."""
        return self.seen[-1]


def step(policy: SequencePolicy, case: Case, t: int, first: int = 0) -> None:
    """Act in step t of an episode in which other actions than the predicted ones are executed."""
    observations, actions = case.sample(STEPS)
    if t > first:
        policy.observe(REWARD, action=actions[t - 1])
    policy.predict(observations[t])


@law(KINDS)
def all_modes_agree_until_the_first_restart_takes_over(case: Case) -> None:
    """Window and recurrent agree while t < K, and staggered with them while t < 2 (K // 2)."""
    for k in case.lengths((2, 5, 6, 7, 12)):
        model = case.model(context_length=k)
        outputs = Outputs(model)
        runs: dict[Inference, list[NDArray[np.float32]]] = {}
        for mode in MODES:
            outputs.seen.clear()
            policy = SequencePolicy(model, inference=mode, target_return=TARGET)
            for t in range(min(k, STEPS)):
                step(policy, case, t)
            runs[mode] = list(outputs.seen)
        for mode in ("recurrent", "staggered"):
            agreed = k if mode == "recurrent" else 2 * (k // 2)
            for t, window in enumerate(runs["window"][:agreed]):
                what = f"with context_length={k}, what {mode} gives in step {t}, against window,"
                close(runs[mode][t], window, what)


@law_in_modes(KINDS, ("window", "staggered"))
def bounded_memory_is_a_window_of_the_last_steps(case: Case, mode: Inference) -> None:
    """The window holds K steps; the staggered state between K / 2 and K of them."""
    for k in case.lengths((5, 6)):
        model, half = case.model(context_length=k), k // 2
        outputs = Outputs(model)
        policy = SequencePolicy(model, inference=mode, target_return=TARGET)
        for t in range(STEPS):
            step(policy, case, t)
            if mode == "window":
                age = min(t + 1, k)
            else:
                age = t + 1 if t < 2 * half else half + 1 + t % half
            require(age <= k, f"the memory would be {age} steps old")
            with torch.no_grad():
                expected = model(steps_of_episode(model, case, t - age + 1, t))[0].action[:, -1]
            what = f"with context_length={k}, the output of step {t}, against its last {age} steps,"
            close(outputs.last, expected, what)


def steps_of_episode(model: SequenceModel, case: Case, first: int, last: int) -> Window:
    """Make the window of steps `first` to `last` of the episode of `step`, both included."""
    observations, actions = case.sample(STEPS)
    device = model.device
    lowered = taken_off(model, observations, actions[:-1], REWARD).cumsum(0)
    asked = TARGET - torch.cat((torch.zeros(1), lowered))
    times = torch.arange(first, last + 1)
    seen, _ = observation(observations[first : last + 1], model.spec.observation_space)
    real = torch.ones_like(times, dtype=torch.bool)
    return Window(
        observations=seen.unsqueeze(0),
        actions=action_tensor(actions[first : last + 1]).unsqueeze(0),
        rewards=torch.full_like(times, REWARD, dtype=torch.float32).unsqueeze(0),
        returns_to_go=asked[first : last + 1].unsqueeze(0),
        timesteps=times.unsqueeze(0),
        mask=real.unsqueeze(0),
        starts=torch.zeros(1, dtype=torch.bool),
    ).to(device)


@torch.no_grad()
def taken_off(
    model: SequenceModel, observations: NDArray[Any], actions: NDArray[Any], reward: float
) -> Tensor:
    """Find what T steps take off the return-to-go, each with the same reward, (T,).

    Args:
        model: The model.
        observations: T + 1 of them.
        actions: T of them.
        reward: What each is reported to have earned.
    """
    if not model.spec.predicts_rewards:
        return torch.full((len(actions),), reward if model.spec.counts_down else 0.0)
    seen, _ = observation(observations, model.spec.observation_space)
    device = model.device
    given = (x.to(device) for x in (seen[:-1], action_tensor(actions), seen[1:]))
    return model.earned(*given).cpu()


@law_in_modes(KINDS)
def a_new_episode_is_acted_as_by_a_fresh_policy(case: Case, mode: Inference) -> None:
    """Nothing of an ended episode is remembered; of memory over episodes, nothing after `reset`."""
    model = case.model()
    outputs = Outputs(model)
    ends = ("terminated", "truncated", "episode_start")
    for end in ends if model.spec.memory == "episode" else ("reset",):
        used = SequencePolicy(model, inference=mode, target_return=TARGET)
        fresh = used.fork()
        for t in range(9):
            step(used, case, t)
        observations, actions = case.sample(STEPS, seed=1)
        ended = {end: True} if end in ("terminated", "truncated") else {}
        used.observe(REWARD, **ended, action=actions[0])
        if end == "reset":
            used.reset()
        for t in range(10):
            if t:
                for policy in (used, fresh):
                    policy.observe(-1.0, action=actions[t])
            start = [True] if end == "episode_start" and t == 0 else None
            used.predict(observations[t], episode_start=start)
            fresh.predict(observations[t])
            what = f"step {t} after the end of an episode by {end}, against a fresh policy,"
            close(outputs.seen[-2], outputs.seen[-1], what)


@law(KINDS)
@torch.no_grad()
def memory_of_a_lifetime_goes_on_over_the_end_of_an_episode(case: Case) -> None:
    """An episode's end turns clock and return-to-go back, and leaves such a memory as it is."""
    model = case.model()
    if model.spec.memory == "episode":
        return
    outputs, end, steps = Outputs(model), 4, case.steps
    policy = SequencePolicy(model, inference="recurrent", target_return=TARGET)
    observations, actions = case.sample(STEPS)
    for t in range(steps):
        if t:
            policy.observe(REWARD, terminated=t == end, action=actions[t - 1])
        policy.predict(observations[t])
    window = steps_of_episode(model, case, 0, steps - 1)
    clock = torch.arange(steps, device=window.timesteps.device) % end
    require(steps < 2 * end, f"a context of {steps} steps holds a third episode")
    earned = REWARD * clock if model.spec.counts_down else 0.0 * clock
    window = replace(window, timesteps=clock[None], returns_to_go=(TARGET - earned).float()[None])
    expected = model(window)[0].action[0]
    for t in range(steps):
        close(outputs.seen[t][0], expected[t], f"step {t} of a lifetime, against the whole of it,")


EPISODES = ((3, 0.5), (2, -1.0), (4, 2.0), (3, 0.5), (2, 1.0), (3, -0.5))
"""Steps of some episodes, and the reward of each of their steps."""


@law(KINDS)
@torch.no_grad()
def past_episodes_are_seen_from_the_poorest_to_the_best(case: Case) -> None:
    """Where a context is so many episodes: the best of the past ones, then the present one."""
    model = case.model()
    if model.spec.context_episodes is None:
        return
    past = model.spec.context_episodes - 1
    outputs = Outputs(model)
    policy = SequencePolicy(model, inference="recurrent", target_return=TARGET)
    observations, actions = case.sample(STEPS)
    whole = steps_of_episode(model, case, 0, STEPS - 1)
    ended: list[tuple[float, list[int]]] = []
    now = 0
    for length, reward in EPISODES:
        for t in range(length):
            policy.predict(observations[now + t], episode_start=[t == 0])
            policy.observe(reward, action=actions[now + t])
            whole.rewards[0, now + t], whole.timesteps[0, now + t] = reward, t
            kept = sorted(ended, key=lambda episode: episode[0])[-past:] if past else []
            seen = [*chain.from_iterable(steps for _, steps in kept), *range(now, now + t + 1)]
            rows = {f.name: getattr(whole, f.name)[:, seen] for f in fields(whole)[:6]}
            expected = model(Window(**rows, starts=whole.starts))[0].action[:, -1]
            close(outputs.last, expected, f"step {t} after {len(ended)} episodes")
        ended.append((length * reward, list(range(now, now + length))))
        now += length


@law(("box-discrete",))
def forks_draw_from_generators_of_their_own(case: Case) -> None:
    """What a fork samples depends on its seed, not on what other policies have sampled."""
    policy = SequencePolicy(case.model(), seed=0)
    first = case.sample(1)[0][0]

    def draw(drawer: SequencePolicy) -> Any:
        return drawer.predict(first, deterministic=False, reward=0.0)[0]

    undisturbed = policy.fork(seed=7)
    alone = [draw(undisturbed) for _ in range(10)]
    fork, other = policy.fork(seed=7), policy.fork(seed=8)
    beside = []
    for _ in alone:
        draw(other)
        draw(policy)
        beside.append(draw(fork))
    same(np.array(beside), np.array(alone), "what a fork samples beside others, against alone,")
    require(fork._rng is not policy._rng, "a fork shares the generator of its policy")
