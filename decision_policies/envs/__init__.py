"""Environments made the way that published data was recorded; importing it registers ours."""

from decision_policies.envs.atari import make_atari
from decision_policies.envs.darkroom import Darkroom, DarkroomEnv
from decision_policies.envs.key_to_door import KeyToDoor, KeyToDoorEnv
from decision_policies.envs.registration import ENVIRONMENTS, register
from decision_policies.envs.simulator import Simulator
from decision_policies.envs.single import SingleEnv
from decision_policies.envs.tmaze import TMaze, TMazeEnv

__all__ = [
    "ENVIRONMENTS",
    "Darkroom",
    "DarkroomEnv",
    "KeyToDoor",
    "KeyToDoorEnv",
    "Simulator",
    "SingleEnv",
    "TMaze",
    "TMazeEnv",
    "make_atari",
    "register",
]

register()
