"""Environments made the way that published data was recorded."""

from decision_policies.envs.atari import make_atari

__all__ = ["make_atari"]
