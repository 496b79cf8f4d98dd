"""Policies by name: from this machine, this package, or a hub; the only room that asks hubs."""

from decision_policies.hub.card import Evaluated, Stage, model_card, results_of
from decision_policies.hub.find import resolve
from decision_policies.hub.push import PushResult, check_names, gather, push
from decision_policies.hub.share import measured, push_algorithm

__all__ = [
    "Evaluated",
    "PushResult",
    "Stage",
    "check_names",
    "gather",
    "measured",
    "model_card",
    "push",
    "push_algorithm",
    "resolve",
    "results_of",
]
