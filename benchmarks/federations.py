"""Small federations to time rounds of: client files, certificates, and the strategy's rounds one by one."""

import math
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, UserConfig
from flwr.serverapp import Grid
from numpy.typing import NDArray

from client.app import app as client_app
from client.dataset import node_config
from common.federation import Federation
from common.solution import SolverSettings
from server.grids.in_process import InProcessGrid
from server.handshake import handshake
from strategies import Callback, Costs, LocalGD, Turnout

Vector = NDArray[np.float64]


class Clock(Callback):
    """Notes how long every round took, and what it carried."""

    def __init__(self) -> None:
        self.costs: list[Costs] = []

    def combined(
        self, number: int, weights: Vector, dual_mass: float, turnout: Turnout, costs: Costs
    ) -> None:
        """Note the costs of a round."""
        self.costs.append(costs)


class Rounds:
    """Rounds of Local-GD over a grid, on the clients' rows as they are, after a handshake."""

    def __init__(self, grid: Grid, settings: SolverSettings) -> None:
        self.grid = grid
        self.settings = settings
        self.federation: Federation = handshake(
            grid, grid.get_node_ids(), settings, intercept=False, scale="none"
        )
        self.start = initial(self.federation.size)
        self.costs: list[Costs] = []

    def __call__(self, rounds: int = 1) -> None:
        """Run some rounds from zero; the first has nothing to wait for that later ones have not."""
        clock = Clock()
        LocalGD(self.settings, self.federation).start(self.grid, self.start, rounds, callbacks=[clock])
        self.costs = clock.costs

    def seconds(self, rounds: int) -> float:
        """Return the mean seconds of a round, out of that many and the closing evaluation."""
        began = time.perf_counter()
        self(rounds)
        return (time.perf_counter() - began) / rounds


def in_process(directory: Path, clients: int, count: int, dimension: int, steps: int) -> Rounds:
    """Return the rounds of a federation in this process."""
    nodes = client_files(directory, clients, count, dimension)
    return Rounds(InProcessGrid(client_app, nodes, {}), SolverSettings(local_steps=steps))


def client_files(directory: Path, clients: int, count: int, dimension: int) -> list[UserConfig]:
    """Write each client's data, separable by their first column, and return the node configs."""
    directory.mkdir(parents=True, exist_ok=True)
    nodes = []
    for k in range(clients):
        rng = np.random.default_rng(k)
        X = rng.standard_normal((count, dimension)) / math.sqrt(dimension)
        y = np.where(np.arange(count) % 2 == 0, 1.0, -1.0)
        X[:, 0] = y
        path = directory / f"client-{k:04}.npz"
        np.savez(path, X=X, y=y)
        nodes.append(node_config(path, "label", None))
    return nodes


def initial(dimension: int) -> ArrayRecord:
    """Return a model of zeros."""
    return ArrayRecord({"weights": Array(np.zeros(dimension))})
