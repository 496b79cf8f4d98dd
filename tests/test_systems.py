"""Every system: its size, its hyper-parameters' limits, and what is its own."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from decision_policies import BC, DC, DM, DMM, DT, DeMa, MambaDM, SequenceAlgorithm
from decision_policies.batch import Step
from decision_policies.contexts import Executed, RecurrentContext
from decision_policies.data import WindowSampler
from decision_policies.errors import DatasetError
from decision_policies.nets import Chunked, LocalMamba
from decision_policies.spec import SequenceSpec
from tests.laws.cases import SPACES, trajectories

# Observation and action sizes of D4RL's Hopper, and of an Atari game with 6 actions.
VECTOR = spaces.Box(-np.inf, np.inf, (11,)), spaces.Box(-1.0, 1.0, (3,))
ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(6)


def size(algorithm: SequenceAlgorithm, observation: Any, action: Any) -> int:
    model = algorithm.make_policy(observation, action).model
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (DT(), 726_019),
        (DC(), 535_939),
        (DM(), 877_315),
        (DM(d_model=256), 3_155_459),
        (DeMa(), 178_691),
        (DeMa(expand=2), 353_411),
        (DeMa(block="post"), 574_595),
        (DeMa(block="post", expand=2), 749_315),
        (DMM(), 123_587),
        (DMM(d_model=128), 471_427),
        (DMM(d_model=128, dsm_mode="shared_frozen"), 471_427 - 3 * 6 * 128 * 128),
    ],
    ids=str,
)
def test_models_have_the_published_number_of_weights(
    algorithm: SequenceAlgorithm, expected: int
) -> None:
    assert size(algorithm, *VECTOR) == expected


@pytest.mark.parametrize(
    ("cls", "changes", "published", "unused"),
    [
        # The published code makes a table of words that nothing reads (6 x 128), and, in DM and
        # DT, positions of tokens; a table of timesteps comes on top, which depends on the game.
        (DT, {"n_heads": 8, "activation": "gelu", "token_positions": True}, 1_683_616, 768),
        (DM, {"token_positions": True}, 1_986_208, 768),
        (DeMa, {"expand": 2}, 1_181_984, 0),
    ],
)
def test_atari_models_have_the_published_number_of_weights(
    cls: type[SequenceAlgorithm], changes: dict[str, Any], published: int, unused: int
) -> None:
    if cls is not DeMa:
        changes = {**changes, "max_ep_len": 0}
    algorithm = cls(context_length=30, n_layers=6, embedding="tanh", **changes)  # type: ignore[call-arg]
    assert size(algorithm, *ATARI) == published - unused


@pytest.mark.parametrize(
    ("algorithm", "match"),
    [
        (DT(d_model=64, n_heads=5), "got 5 heads for a width of 64"),
        (DC(d_model=64, n_heads=5, hybrid=True), "got 5 heads for a width of 64"),
        (DT(context_length=4, attention_window=5), "15 tokens is longer .* are 12"),
        (
            DC(context_length=1, inference="window"),
            "6 tokens is longer than the context: context_length=1 .* are 3",
        ),
        (DMM(context_length=2, window=7), "7 tokens is longer .* are 6"),
        (MambaDM(context_length=1, inference="window"), "6 tokens is longer .* are 3"),
        (MambaDM(context_length=2, remove_act_embs=True), "6 tokens is longer .* are 4"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_together_are_refused(
    algorithm: SequenceAlgorithm, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        algorithm.make_policy(*VECTOR)
    assert algorithm.policy is None


@pytest.mark.parametrize("mode", ["window", "recurrent"])
def test_attention_trained_on_sliding_windows_is_the_same_in_both_modes_forever(mode: str) -> None:
    layers, steps = 2, 3
    algorithm = DT(
        d_model=16,
        n_layers=layers,
        attention_window=steps,
        context_length=layers * steps + 1,
        seed=0,
    )
    policy = algorithm.make_policy(*SPACES["box-box"], target_return=5.0)
    fork, other = policy.fork(inference=mode), policy.fork(inference="recurrent")  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    for t in range(40):
        observation, reward = rng.normal(size=3), None if t == 0 else 0.1
        ours, _ = fork.predict(observation, reward=reward)
        theirs, _ = other.predict(observation, reward=reward)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_transformers_cache_stays_as_small_as_its_context() -> None:
    policy = DT(d_model=16, context_length=4).make_policy(*SPACES["box-box"])
    context = RecurrentContext(policy.model, 1)
    rows = torch.zeros(1)
    sizes = set()
    executed = None
    for t in range(30):
        context.advance(executed, None, Step(torch.zeros(1, 3), rows, torch.tensor([t])))
        executed = Executed(torch.zeros(1, 2), rows)
        sizes.add(context.state.backbone[0][0].keys.shape[1])  # type: ignore[union-attr]
    assert max(sizes) == 4 * 3 - 1


def test_removing_action_embeddings_leaves_two_tokens_a_step() -> None:
    policy = DM(remove_act_embs=True, d_model=16).make_policy(*SPACES["box-box"])
    assert policy.spec.modalities == ("return", "observation")
    assert policy.spec.tokens_per_step == 2


def test_the_local_mode_chooses_the_local_mixer() -> None:
    for mode, kind in (("sliding", LocalMamba), ("chunk", Chunked)):
        policy = MambaDM(local_mode=mode, d_model=16).make_policy(*SPACES["box-box"])  # type: ignore[arg-type]
        assert any(isinstance(module, kind) for module in policy.model.modules())


def test_the_shared_frozen_mixer_survives_training_and_saving(tmp_path: Any) -> None:
    algorithm = DMM(dsm_mode="shared_frozen", d_model=16, context_length=4, seed=0, warmup_steps=0)
    policy = algorithm.make_policy(*SPACES["box-box"])
    before = {k: v.clone() for k, v in policy.model.state_dict().items() if k.endswith("r.weight")}
    algorithm.learn(trajectories(), 3)
    algorithm.save(tmp_path / "saved")
    after = DMM.load(tmp_path / "saved", device="cpu").policy
    assert after is not None
    frozen = [name for name in before if before[name].shape == (16, 6 * 16)]
    assert frozen
    for name in frozen:
        assert torch.equal(before[name], after.model.state_dict()[name])


def test_the_best_tenth_holds_the_best_episodes_and_no_more_steps_than_that() -> None:
    data = trajectories(episodes=40)
    best = data.best(0.3)
    assert 0 < best.n_steps <= 0.3 * data.n_steps
    chosen = np.sort(best.returns)
    assert chosen[0] >= np.sort(data.returns)[-len(chosen)] - 1e-5
    np.testing.assert_allclose(chosen, np.sort(data.returns)[-len(chosen) :], rtol=1e-5)
    assert best.source.digest != data.source.digest
    rows = {row.tobytes() for row in data.rows}
    assert all(row.tobytes() in rows for row in best.rows)
    assert WindowSampler(best, 4, 8, 0).sample().mask.any()


def test_cloning_the_best_learns_from_those_only() -> None:
    algorithm = BC(top_fraction=0.3, d_model=16, context_length=3, seed=0, warmup_steps=0)
    algorithm.learn(trajectories(episodes=40), 2)
    assert algorithm._training is not None
    held = algorithm._training.sampler.trajectories
    assert held.source.digest == trajectories(episodes=40).best(0.3).source.digest


def test_an_empty_selection_says_what_would_be_needed() -> None:
    with pytest.raises(DatasetError, match="no episode is selected; take a larger fraction"):
        BC(top_fraction=1e-6).learn(trajectories(), 1)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"BC\(top_fraction=...\) must be from"):
        BC(top_fraction=fraction)


def test_cloning_sees_neither_returns_nor_actions() -> None:
    policy = BC(d_model=16, context_length=3).make_policy(*SPACES["box-box"])
    assert policy.spec.modalities == ("observation",)
    assert not policy.spec.uses_returns


def test_statistics_that_came_with_the_weights_survive_learning() -> None:
    algorithm = DT(d_model=16, context_length=4, seed=0)
    model = algorithm.make_policy(*SPACES["box-box"]).model
    mean, std = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 2.0])
    model.set_statistics(mean, std)
    algorithm.learn(trajectories(), 1)
    assert torch.equal(model.embedding.observation.mean, mean)  # type: ignore
    fresh = DT(d_model=16, context_length=4, seed=0).learn(trajectories(), 1).policy
    assert fresh is not None
    assert fresh.model.embedding.observation.mean.any()  # type: ignore


@pytest.mark.parametrize(
    "modalities", [("observation", "return"), ("return",), ("observation", "observation")]
)
def test_modalities_have_one_order(modalities: Any) -> None:
    with pytest.raises(ValueError, match="in this order and with 'observation'"):
        SequenceSpec(*SPACES["box-box"], context_length=4, modalities=modalities)


def test_a_policy_says_what_it_is_and_what_it_asks_for() -> None:
    policy = DeMa(d_model=8).make_policy(*SPACES["box-box"], target_return=7.5)
    assert re.fullmatch(
        r"SequencePolicy\(TokenModel of [\d,]+ weights on cpu, inference='staggered', "
        r"target_return=7.5, no episode\)",
        repr(policy),
    )
    policy.predict(np.zeros((3, 3)))
    assert repr(policy).endswith("3 environments)")
