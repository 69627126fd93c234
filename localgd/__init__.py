"""localgd as a library: the strategies, the handshake and the in-process grid."""

from common.solution import SolverSettings
from server.grids.in_process import InProcessGrid
from server.handshake import handshake
from strategies import Callback, LocalGD, LocalSolveStrategy, ModifiedLocalGD

__all__ = [
    "Callback",
    "InProcessGrid",
    "LocalGD",
    "LocalSolveStrategy",
    "ModifiedLocalGD",
    "SolverSettings",
    "handshake",
]
