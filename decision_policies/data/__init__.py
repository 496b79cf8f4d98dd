"""Logged data: trajectories as flat arrays, and samplers that cut training windows out of them."""

from decision_policies.data.check import check_dataset
from decision_policies.data.histories import Histories
from decision_policies.data.history_samplers import HistorySampler, SortedEpisodesSampler
from decision_policies.data.minari_source import recover_environment
from decision_policies.data.report import DatasetReport
from decision_policies.data.subgoals import SubgoalRule, valuable_subgoals
from decision_policies.data.trajectories import Trajectories
from decision_policies.data.windows import BalancedSampler, SegmentSampler, WindowSampler

__all__ = [
    "BalancedSampler",
    "DatasetReport",
    "Histories",
    "HistorySampler",
    "SegmentSampler",
    "SortedEpisodesSampler",
    "SubgoalRule",
    "Trajectories",
    "WindowSampler",
    "check_dataset",
    "recover_environment",
    "valuable_subgoals",
]
