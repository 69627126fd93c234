"""localgd as a library: the strategies, the handshake, the in-process grid, and trained models."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.model import Model
    from common.solution import SolverSettings
    from localgd.prediction import load_model
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
    "Model",
    "ModifiedLocalGD",
    "SolverSettings",
    "handshake",
    "load_model",
]

_HOMES = {
    "InProcessGrid": "server.grids.in_process",
    "Model": "common.model",
    "SolverSettings": "common.solution",
    "load_model": "localgd.prediction",
    "handshake": "server.handshake",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: the command has to set gRPC's verbosity before gRPC is imported."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "strategies")), name)
