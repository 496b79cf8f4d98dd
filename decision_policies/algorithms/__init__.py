"""The systems: each a class with its hyper-parameters and one `build_model`."""

from decision_policies.algorithms.ad import AD
from decision_policies.algorithms.base import SequenceAlgorithm
from decision_policies.algorithms.bc import BC
from decision_policies.algorithms.dc import DC
from decision_policies.algorithms.dema import DeMa
from decision_policies.algorithms.dm import DM
from decision_policies.algorithms.dmh import DMHybrid
from decision_policies.algorithms.dmm import DMM
from decision_policies.algorithms.dt import DT
from decision_policies.algorithms.mambadm import MambaDM

BY_NAME: dict[str, type[SequenceAlgorithm]] = {
    cls.__name__: cls for cls in (AD, BC, DC, DM, DMM, DT, DMHybrid, DeMa, MambaDM)
}
"""The classes that `decision_policies.load` can choose from; a file never names code to import."""

__all__ = [
    "AD",
    "BC",
    "BY_NAME",
    "DC",
    "DM",
    "DMM",
    "DT",
    "DMHybrid",
    "DeMa",
    "MambaDM",
    "SequenceAlgorithm",
]
