"""The algorithms: each chooses centres and combines local solutions."""

from strategies.base import LocalSolveStrategy
from strategies.callbacks import Callback, Costs, Turnout
from strategies.consensus import Consensus
from strategies.cutting_plane import CuttingPlane
from strategies.flower import BuiltIn
from strategies.local_gd import LocalGD
from strategies.modified_local_gd import ModifiedLocalGD
from strategies.roster import Policy

__all__ = [
    "BuiltIn",
    "Callback",
    "Consensus",
    "Costs",
    "CuttingPlane",
    "LocalGD",
    "LocalSolveStrategy",
    "ModifiedLocalGD",
    "Policy",
    "Turnout",
]
