"""The systems: each a class with its hyper-parameters and one `build_model`."""

from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.algorithms.dema import DeMa

BY_NAME: dict[str, type[SequenceAlgorithm]] = {"DeMa": DeMa}
"""The classes that `decision_policies.load` can choose from; a file never names code to import."""

__all__ = ["BY_NAME", "DeMa", "SequenceAlgorithm"]
