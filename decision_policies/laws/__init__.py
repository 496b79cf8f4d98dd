"""The laws that models, policies, algorithms and mixers keep, to check one's own with."""

from decision_policies.laws.cases import MODES, SPACES, Case
from decision_policies.laws.check import LAWS, check_algorithm
from decision_policies.laws.law import Law, LawBroken
from decision_policies.laws.mixer import MIXER_LAWS, MixerCase, check_mixer

__all__ = [
    "LAWS",
    "MIXER_LAWS",
    "MODES",
    "SPACES",
    "Case",
    "Law",
    "LawBroken",
    "MixerCase",
    "check_algorithm",
    "check_mixer",
]
