"""localgd as a library: the strategies, the handshake and the in-process grid."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.solution import SolverSettings
    from server.grids.in_process import InProcessGrid
    from server.handshake import handshake
    from strategies import (
        BuiltIn,
        Callback,
        Consensus,
        CuttingPlane,
        LocalGD,
        LocalSolveStrategy,
        ModifiedLocalGD,
    )

__all__ = [
    "BuiltIn",
    "Callback",
    "Consensus",
    "CuttingPlane",
    "InProcessGrid",
    "LocalGD",
    "LocalSolveStrategy",
    "ModifiedLocalGD",
    "SolverSettings",
    "handshake",
]

_HOMES = {
    "InProcessGrid": "server.grids.in_process",
    "SolverSettings": "common.solution",
    "handshake": "server.handshake",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: the command has to set gRPC's verbosity before gRPC is imported."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "strategies")), name)
