"""DMHybrid: chunks, what is learnt from against what is acted by, sub-goals, lifetimes, recall."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from decision_policies import (
    AD,
    DT,
    DMHybrid,
    Histories,
    SequenceAlgorithm,
    SequencePolicy,
    Trajectories,
    contexts,
)
from decision_policies.batch import Step, Window
from decision_policies.contexts import Executed, LifetimeContext, NativeLifetimeContext
from decision_policies.contexts.episodes import Episodes
from decision_policies.data import SortedEpisodesSampler, SubgoalRule
from decision_policies.envs import TMaze
from decision_policies.errors import DatasetError
from decision_policies.laws.cases import SPACES, sample, trajectories
from decision_policies.models import HybridModel
from decision_policies.models.chunks import lay_out

TINY: dict[str, Any] = {
    "d_model": 16,
    "n_layers": 1,
    "memory_layers": 1,
    "n_heads": 2,
    "chunk_length": 3,
    "context_episodes": 3,
    "batch_size": 4,
    "dropout": 0.0,
    "seed": 0,
    "device": "cpu",
}


def batch(kind: str = "box-discrete", *, subgoals: bool = True) -> Window:
    data = trajectories(kind, longest=9)
    histories = Histories.from_episodes(data, np.zeros(data.n_episodes, np.int64))
    rule = SubgoalRule(3) if subgoals else None
    return SortedEpisodesSampler(histories, 3, 4, seed=0, subgoals=rule).sample()


def hybrid(kind: str = "box-discrete", **changes: Any) -> HybridModel:
    model = DMHybrid(**{**TINY, **changes}).make_policy(*SPACES[kind], return_scale=2.0).model
    assert isinstance(model, HybridModel)
    return model


@pytest.mark.parametrize("system", [AD, DMHybrid])
def test_actions_can_be_left_out_of_what_is_seen(system: type[AD | DMHybrid]) -> None:
    policy = system(d_model=8, n_heads=2, remove_act_embs=True).make_policy(*SPACES["box-box"])
    assert policy.spec.modalities == ("observation", "reward")


@pytest.mark.parametrize("system", [AD, DMHybrid])
@pytest.mark.parametrize("native", [True, False])
def test_a_reward_that_is_too_large_is_told_of(
    system: type[AD | DMHybrid], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr(contexts, "hybrid_steps", lambda model: None)
        monkeypatch.setattr(contexts, "native_step", lambda model, steps=1: None)
    policy = system(d_model=8, n_heads=2, seed=0).make_policy(*SPACES["box-box"])
    policy.predict(np.zeros(3))
    policy.observe(3e38)

    def go_on() -> None:
        for _ in range(12):  # the hybrid's memory sees it at the next chunk
            policy.predict(np.zeros(3))
            policy.observe(3e38)

    with pytest.raises(ValueError, match="output is not finite"):
        go_on()


@pytest.mark.parametrize(("system", "scale"), [(DMHybrid, 2.0), (AD, 2.0), (DT, 4.6)])
def test_what_is_seen_is_divided_by_the_largest_of_its_kind(
    system: type[SequenceAlgorithm], scale: float
) -> None:
    """Rewards by rewards, since by the returns of long episodes they would be too small to see."""
    space = spaces.Box(-1, 1, (2,), np.float32)
    rewards = np.array([-1.0, -2.0, *[1.0] * 23])
    episode = {"observations": np.zeros((26, 2)), "actions": np.zeros(25, int), "rewards": rewards}
    data_spaces = (space, spaces.Discrete(2))
    data = Trajectories.from_episodes([episode] * 2, *data_spaces)
    sizes: dict[str, Any] = {"d_model": 8, "n_heads": 2, "n_layers": 1, "batch_size": 2, "seed": 0}
    if system is DMHybrid:
        sizes["context_episodes"] = 2
    learnt = system(**sizes).learn(data, 1)
    assert learnt.policy is not None
    assert learnt.policy.spec.return_scale == pytest.approx(scale)
    tiny = Trajectories.from_episodes([{**episode, "rewards": 1e-45 * rewards}] * 2, *data_spaces)
    learnt = system(**sizes).learn(tiny, 1)
    assert learnt.policy is not None and learnt.policy.spec.return_scale == 1.0


def naive_chunks(times: list[int], length: int) -> list[list[int]]:
    """Steps of each chunk, by the definition: c steps, and a new one wherever an episode begins."""
    chunks: list[list[int]] = []
    for step, time in enumerate(times):
        if not chunks or time == 0 or len(chunks[-1]) == length:
            chunks.append([])
        chunks[-1].append(step)
    return chunks


@pytest.mark.parametrize("length", [1, 2, 3, 5, 20])
def test_chunks_are_those_of_the_definition(length: int) -> None:
    rng = np.random.default_rng(length)
    window = batch()
    rows, steps = window.mask.shape
    real = torch.from_numpy(rng.integers(0, steps + 1, rows))
    mask = torch.arange(steps) < real[:, None]
    window = replace(window, mask=mask)
    chunks = lay_out(window, length)
    for row in range(rows):
        times = window.timesteps[row, : real[row]].tolist()
        expected = naive_chunks(times, length)
        assert chunks.counts[row] == len(expected)
        for number in range(chunks.real.shape[1]):
            places = chunks.real[row, number]
            found = chunks.steps[row, number, places].tolist()
            assert found == (expected[number] if number < len(expected) else [])
            if found:
                assert chunks.begins[row, number] == (times[found[0]] == 0)
    there = chunks.give_back(chunks.take(window.rewards).unsqueeze(-1), window.mask)[..., 0]
    assert torch.equal(there, window.rewards * mask)


@pytest.mark.parametrize("kind", ["box-box", "box-discrete", "discrete-discrete"])
def test_what_is_learnt_from_is_what_is_acted_by(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, window = hybrid(kind), batch(kind)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # sub-goals are then their means
    acted = model.loss(model(window)[0], window)["loss"]
    named = model.losses(replace(window, goals=None))[0]["loss"]
    torch.testing.assert_close(named, acted)
    both = model.losses(window)[0]
    torch.testing.assert_close(both["loss"], (named + both["loss_reached"]) / 2)
    torch.testing.assert_close(
        hybrid(kind, align_coef=2.0).losses(window)[0]["loss"], both["loss"] + 2 * both["distance"]
    )


def gradients(model: HybridModel, loss: Tensor) -> dict[str, float]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {
        name: 0.0 if p.grad is None else float(p.grad.abs().max())
        for name, p in model.named_parameters()
    }


def test_the_memory_learns_from_the_sub_goals_that_it_names_and_the_projection_never() -> None:
    model, window = hybrid(), batch()
    by_half = {
        "named": gradients(model, model.losses(replace(window, goals=None))[0]["loss"]),
        "reached": gradients(model, model.losses(window)[0]["loss_reached"]),
    }
    memory = [name for name in by_half["named"] if name.startswith(("look.", "memory."))]
    short = [name for name in by_half["named"] if name.startswith("short.layers.1.")]
    assert memory and short
    assert all(by_half["named"][name] > 0 for name in memory if "dt_proj.weight" not in name)
    assert all(by_half["reached"][name] == 0 for name in memory)
    for half in by_half.values():
        assert all(half[name] > 0 for name in short if not name.endswith("c_attn.bias"))
        assert all(half[name] == 0 for name in half if name.startswith("subgoal.reached."))


def test_a_sample_of_the_chunks_is_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    window, seen = batch(), []
    for count in (None, 7):
        model = hybrid(chunks_per_update=count)
        act_on = model._act_on

        def spy(prompts: Tensor, tokens: Tensor, act_on: Any = act_on) -> Tensor:
            seen.append(prompts.shape[1])
            return act_on(prompts, tokens)  # type: ignore[no-any-return]

        monkeypatch.setattr(model, "_act_on", spy)
        model.losses(window)
    assert seen == [int(lay_out(window, 3).counts.sum()), 7]


def test_the_short_memory_has_seen_nothing_but_its_chunk() -> None:
    """Other steps reach an action through the sub-goal alone, so a fixed one hides them."""
    model, window = hybrid(), batch()
    with torch.no_grad():
        model.subgoal.linear.weight.zero_()
        before = model(window)[0].action
        other = window.observations.flip(0)
        after = model(replace(window, observations=other))[0].action
        chunks = lay_out(window, 3)
        second = int(chunks.steps[0, 1, 0])
        mixed = window.observations.clone()
        mixed[0, :second] = other[0, :second]
        partly = model(replace(window, observations=mixed))[0].action
    assert not torch.equal(before[0], after[0])
    torch.testing.assert_close(partly[0, second:], before[0, second:])


def play(policy: SequencePolicy, kind: str, rows: int, lengths: list[int], seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for length in lengths:
        for t in range(length):
            starts = np.full(rows, t == 0)
            policy.predict(sample(rng, SPACES[kind][0], rows), episode_start=starts)
            policy.observe(rng.normal(size=rows))


def test_what_a_lifetime_keeps_is_bounded() -> None:
    kind = "box-discrete"
    policy = DMHybrid(**TINY).make_policy(*SPACES[kind])
    play(policy, kind, 2, [4, 7, 2, 5, 3, 6])
    assert policy._session is not None
    context = policy._session.context
    assert isinstance(context, LifetimeContext | NativeLifetimeContext)
    episodes = context.episodes
    assert [len(past) for past in episodes.past] == [2, 2]
    for values in (x for past in episodes.past for steps in past for x in steps):
        assert values.untyped_storage().nbytes() == values.nbytes  # nothing else is kept alive
    assert episodes.room is not None
    assert episodes.room.rewards.shape == (2, 16)  # of an episode of 7 steps
    play(policy, kind, 2, [100])
    assert episodes.room.rewards.shape == (2, 64)  # the others wait to be written
    episodes.present(0)
    assert episodes.room.rewards.shape == (2, 128)


def test_past_episodes_are_all_kept_until_there_are_enough() -> None:
    episodes = Episodes(1, most=3)
    zero, clock = torch.zeros(1), torch.zeros(1, dtype=torch.int64)
    step = Step(torch.zeros(1, 2), zero, clock)
    for count, reward in enumerate([5.0, 1.0, 3.0, 2.0, 3.0]):
        executed = Executed(zero, torch.full((1,), reward))
        assert episodes.move_on(step, executed, None, step, None).tolist() == [True]
        assert len(episodes.past[0]) == min(count + 1, 3)
    assert [float(past.rewards.sum()) for past in episodes.past[0]] == [3.0, 3.0, 5.0]


def test_the_state_of_a_lifetime_by_torch_keeps_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "hybrid_steps", lambda model: None)
    kind = "box-discrete"
    policy = DMHybrid(**TINY).make_policy(*SPACES[kind])
    play(policy, kind, 2, [4, 7, 2])
    assert policy._session is not None
    context = policy._session.context
    assert isinstance(context, LifetimeContext)
    sizes = {leaf.shape for leaf in _leaves(context.state)}
    play(policy, kind, 2, [30])
    assert {leaf.shape for leaf in _leaves(context.state)} == sizes


def _leaves(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [x for part in state for x in _leaves(part)]


def test_reset_leaves_nothing_of_a_lifetime() -> None:
    kind = "box-discrete"
    policy = DMHybrid(**TINY).make_policy(*SPACES[kind])
    fresh = policy.fork(seed=5)
    play(policy, kind, 1, [4, 7, 3])
    policy.reset()
    observations = sample(np.random.default_rng(9), SPACES[kind][0], 12)
    policy._rng = np.random.default_rng(5)
    for observation in observations:
        left = policy.predict(observation, deterministic=False)[0]
        right = fresh.predict(observation, deterministic=False)[0]
        assert left == right
        for p in (policy, fresh):
            p.observe(0.5)


def mazes(length: int, n: int = 32) -> Trajectories:
    """The optimal agent in T-mazes of both kinds."""
    rng, maze = np.random.default_rng(0), TMaze(np.arange(n) % 2, length)
    seen, actions, rewards = [maze.reset(rng)], [], []
    while not maze.ended:
        actions.append(maze.optimal_actions(rng))
        observation, reward = maze.step(actions[-1])
        seen.append(observation)
        rewards.append(reward)
    episodes = [
        {
            "observations": np.stack(seen)[:, i],
            "actions": np.stack(actions)[:, i],
            "rewards": np.stack(rewards)[:, i],
        }
        for i in range(n)
    ]
    return Trajectories.from_episodes(episodes, maze.observation_space, maze.action_space)


def test_it_recalls_through_a_corridor_longer_than_its_chunks() -> None:
    algorithm = DMHybrid(
        **{**TINY, "d_model": 32, "context_episodes": 1, "chunk_length": 4, "batch_size": 16},
        learning_rate="lin_3e-3",
        warmup_steps=10,
        align_coef=1.0,
    )
    algorithm.learn(mazes(20), 120)
    assert algorithm.policy is not None
    maze = TMaze(np.random.default_rng(1).integers(0, 2, 50), 20)
    rng = np.random.default_rng(2)
    observation, returns = maze.reset(rng), np.zeros(50)
    while not maze.ended:
        observation, reward = maze.step(algorithm.policy.predict(observation)[0])
        algorithm.policy.observe(reward)
        returns += reward
    assert returns.mean() >= 0.98


def test_bad_hyperparameters_are_refused_with_a_cure() -> None:
    with pytest.raises(ValueError, match="chunk_length"):
        DMHybrid(chunk_length=0)
    with pytest.raises(ValueError, match="n_heads must divide d_model, got 3 heads for a width"):
        DMHybrid(**{**TINY, "n_heads": 3}).make_policy(*SPACES["box-box"])
    with pytest.raises(DatasetError, match="take a chunk_length of at most 9"):
        DMHybrid(**{**TINY, "chunk_length": 10}).learn(trajectories(longest=9), 1)
    with pytest.raises(DatasetError, match="a context needs 13 episodes"):
        DMHybrid(**{**TINY, "context_episodes": 13}).learn(trajectories(longest=9), 1)


def test_remembering_spares_predictions_and_nothing_else() -> None:
    model, window = hybrid().eval(), batch()
    with torch.no_grad():
        expected = _leaves(model(window)[1])
        found = _leaves(model.remember(window))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
