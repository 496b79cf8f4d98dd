"""Hand the data's means and deviations to a model that is about to learn from them."""

from __future__ import annotations

import torch

from decision_policies.data.trajectories import Trajectories
from decision_policies.models.model import SequenceModel


def set_statistics(model: SequenceModel, data: Trajectories) -> None:
    """Set the statistics that a model standardises by; a model that has some keeps them."""
    observations = None
    if data.images is None:
        mean, std = data.observation_statistics()
        observations = torch.from_numpy(mean), torch.from_numpy(std)
        model.set_statistics(*observations)
    if model.reward_head is not None:
        model.reward_head.set_statistics(observations, data.reward_statistics())
