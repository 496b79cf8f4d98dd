"""Stable-Baselines3's features extractors encode observations; checkpoints only name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)
from torch import Tensor, nn

import decision_policies
from decision_policies import DeMa, DMHybrid, SequenceSpec, Trajectories
from decision_policies.errors import CheckpointError, UnsupportedSpaceError
from decision_policies.inputs import observation
from decision_policies.models.extractors import ExtractorEncoder
from decision_policies.models.model import SequenceModel
from tests.fixtures import BOX_ACTION, forge, tiny_algorithm
from tests.test_spaces import CHOICES, IMAGES, NUMBERS, PARTS, Space, at, draw, episodes


class Small(BaseFeaturesExtractor):
    """An extractor of one's own."""

    def __init__(self, observation_space: Space, features_dim: int = 3) -> None:
        super().__init__(observation_space, features_dim)
        self.net = nn.LazyLinear(features_dim)
        self.net(torch.zeros(2, spaces.flatdim(observation_space)))

    def forward(self, observations: Tensor) -> Tensor:
        return torch.tanh(self.net(observations.flatten(1)))


MIXED = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (3, 36, 40), np.uint8),
        "pose": NUMBERS["unbounded"],
        "gear": CHOICES["one of 4"],
        "lamps": CHOICES["binary"],
    }
)
CASES: list[tuple[Space, type, dict[str, Any]]] = [
    (IMAGES["channels first"], NatureCNN, {"features_dim": 16}),
    (MIXED, CombinedExtractor, {"cnn_output_dim": 8}),
    (PARTS["goal"], CombinedExtractor, {}),
    (NUMBERS["rank 4"], FlattenExtractor, {}),
    (NUMBERS["unbounded"], Small, {"features_dim": 5}),
    (CHOICES["one of 4"], Small, {}),
    (CHOICES["several"], Small, {}),
    (CHOICES["binary"], FlattenExtractor, {}),
]


def made(extractor: type, options: dict[str, Any], **changes: Any) -> DeMa:
    kwargs = {"features_extractor_class": extractor, "features_extractor_kwargs": options}
    return tiny_algorithm(policy_kwargs={**kwargs, "n_layers": 1}, device="cpu", **changes)


@pytest.mark.parametrize(("space", "extractor", "options"), CASES)
def test_an_extractor_sees_what_it_sees_in_stable_baselines3(
    space: Space, extractor: type, options: dict[str, Any], tmp_path: Path
) -> None:
    data = Trajectories.from_episodes(episodes(space, BOX_ACTION), space, BOX_ACTION)
    numbers = torch.get_rng_state()
    algorithm = made(extractor, options).learn(data, 2)
    algorithm.save(tmp_path / "saved")
    loaded = DeMa.load(tmp_path / "saved", device="cpu", features_extractor_class=extractor)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert loaded.hyperparameters() == algorithm.hyperparameters()
    shown = draw(space, np.random.default_rng(1), 6)
    for t in range(5):
        left, right = (one.predict(at(shown, t), reward=0.1)[0] for one in (algorithm, loaded))
        np.testing.assert_array_equal(left, right)
    encoder = loaded.policy.model.get_submodule("embedding.observation")  # type: ignore[union-attr]
    assert isinstance(encoder, ExtractorEncoder)
    parts = shown if isinstance(shown, dict) else {"": shown}
    tensors: Any = {key: torch.as_tensor(part) for key, part in parts.items()}
    prepared = preprocess_obs(tensors if isinstance(shown, dict) else tensors[""], space)
    expected = encoder.linear(encoder.extractor(prepared))
    found = encoder(observation(shown, space)[0])
    torch.testing.assert_close(found, expected)
    assert encoder(observation(shown, space)[0][:, None]).shape == (6, 1, found.shape[-1])


def test_images_with_their_channels_last_are_turned_for_extractors_too() -> None:
    policy = made(NatureCNN, {}).make_policy(IMAGES["channels last"], BOX_ACTION)
    encoder = policy.model.get_submodule("embedding.observation")
    assert isinstance(encoder, ExtractorEncoder)
    assert encoder.extractor._observation_space.shape == (3, 36, 40)
    assert policy.predict(draw(IMAGES["channels last"], np.random.default_rng(0), 1)[0])[0].shape


def test_code_is_never_looked_up_by_a_name_in_a_checkpoint(tmp_path: Path) -> None:
    space = NUMBERS["unbounded"]
    algorithm = made(Small, {"features_dim": 4}, seed=3)
    algorithm.make_policy(space, BOX_ACTION)
    algorithm.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["hyperparameters"]["features_extractor_class"] == "Small"
    with pytest.raises(CheckpointError, match=r"extractor 'Small', and none was given.*load"):
        DeMa.load(tmp_path / "saved")
    with pytest.raises(CheckpointError, match="'Small', and FlattenExtractor was given"):
        DeMa.load(tmp_path / "saved", features_extractor_class=FlattenExtractor)
    loaded = decision_policies.load(tmp_path / "saved", features_extractor_class=Small)
    assert loaded.features_extractor_class is Small
    forge(tmp_path / "saved", {"hyperparameters.features_extractor_class": "os.system"})
    with pytest.raises(CheckpointError, match=r"'os\.system', and Small was given"):
        DeMa.load(tmp_path / "saved", features_extractor_class=Small)
    plain = tiny_algorithm()
    plain.make_policy(space, BOX_ACTION)
    plain.save(tmp_path / "plain")
    with pytest.raises(CheckpointError, match="extractor None, and Small was given"):
        DeMa.load(tmp_path / "plain", features_extractor_class=Small)


def test_a_model_with_several_encoders_gets_an_extractor_for_each_that_learns() -> None:
    algorithm = DMHybrid(d_model=8, n_heads=2, features_extractor_class=Small)
    model = algorithm.make_policy(NUMBERS["unbounded"], BOX_ACTION).model
    found = [name for name, part in model.named_modules() if isinstance(part, ExtractorEncoder)]
    assert found == ["look.observation", "embedding.observation"]
    assert not any(p.requires_grad for p in model.get_submodule("subgoal.reached").parameters())


def test_what_no_extractor_can_take_is_refused() -> None:
    for space in (PARTS["pair"], PARTS["nested"]):
        with pytest.raises(UnsupportedSpaceError, match="features extractors take a Dict without"):
            made(Small, {}).make_policy(space, BOX_ACTION)
    with pytest.raises(TypeError, match=r"features_extractor_class=\.\.\.\) must be type or None"):
        DeMa(features_extractor_class="NatureCNN")  # type: ignore[arg-type]


def test_a_system_without_our_encoders_says_so() -> None:
    class Own(DeMa):
        def build_model(self, spec: SequenceSpec) -> SequenceModel:
            model = super().build_model(spec)
            model.embedding.observation = nn.Linear(3, self.d_model)  # type: ignore[union-attr]
            return model

    with pytest.raises(TypeError, match=r"Own has no observation encoder .* Small could take"):
        Own(features_extractor_class=Small).make_policy(NUMBERS["unbounded"], BOX_ACTION)
