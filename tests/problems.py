"""What the tests share: random separable federations, in-process grids, and what a run went through."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord
from hypothesis import settings
from numpy.typing import NDArray

from client.app import app as client_app
from client.dataset import node_config
from common.datafiles import label_text
from common.federation import Federation
from common.labels import encoded, targets
from common.reference import Reference, centralized
from common.solution import Answer, LocalSolution, Measures, Part, SolverSettings
from server.grids.in_process import InProcessGrid
from server.handshake import handshake
from server.monitor import Monitor
from strategies import Callback, Costs, LocalSolveStrategy, Turnout

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

repeatable = settings(derandomize=True, database=None, max_examples=60)
"""For property tests: the same cases on every machine."""


class Shard(NamedTuple):
    """One client's features (n, d) and labels (n,): −1 and +1, or for other losses classes or targets."""

    X: Matrix
    y: Vector

    @property
    def Z(self) -> Matrix:
        """The signed rows."""
        return self.X * self.y[:, None]


def signed_rows(rng: np.random.Generator, n: int, d: int, margin: float) -> Matrix:
    """Separable signed rows with a largest norm of 1 and a best margin of at least about ``margin``.

    Each row lies ``margin`` or more along a hidden direction; the noise across it is of order 1.
    """
    direction = rng.standard_normal(d)
    direction /= np.linalg.norm(direction)
    Z = rng.standard_normal((n, d)) / np.sqrt(d)
    along = np.abs(Z @ direction) * rng.integers(0, 2, n)
    Z += np.outer(along - Z @ direction, direction)
    Z /= max(1e-300, np.linalg.norm(Z, axis=1).max())
    Z += margin * direction
    return Z / np.linalg.norm(Z, axis=1).max()


def federation_data(rng: np.random.Generator) -> list[Shard]:
    """2 to 8 clients of every kind: d < n and d > n, margins thin and wide, duplicates, a single label."""
    clients, d = int(rng.integers(2, 9)), int(rng.integers(2, 25))
    counts = rng.integers(1, 13, clients)
    n = int(counts.sum())
    Z = signed_rows(rng, n, d, 10.0 ** rng.uniform(-4, 0))
    if rng.random() < 0.4:  # the same example twice, at one client or at two
        Z[rng.integers(0, n, n // 3)] = Z[rng.integers(0, n, n // 3)]
    y = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    if rng.random() < 0.4:
        y = np.where(np.repeat(np.arange(clients), counts) % 2 == 0, 1.0, -1.0)
    y[0], y[-1] = 1.0, -1.0
    cuts = np.cumsum(counts)[:-1]
    return [
        Shard(part * sign[:, None], sign)
        for part, sign in zip(np.split(Z, cuts), np.split(y, cuts), strict=True)
    ]


def classes_data(rng: np.random.Generator) -> list[Shard]:
    """2 to 8 clients with rows of 2 to 4 classes, told apart by a hidden model with any margin."""
    clients, classes, d = int(rng.integers(2, 9)), int(rng.integers(2, 5)), int(rng.integers(2, 16))
    n = int(rng.integers(max(clients, classes), 6 * clients + 1))
    hidden = rng.standard_normal((classes, d))
    X = rng.standard_normal((n, d))
    scores = X @ hidden.T
    y = scores.argmax(axis=1)
    ahead = np.sort(scores, axis=1)
    X *= 10.0 ** rng.uniform(-2, 0)
    X += hidden[y] * 10.0 ** rng.uniform(-4, 0) * (ahead[:, -1] > 0)[:, None]
    if rng.random() < 0.4:  # the same example twice
        again = rng.integers(0, n, n // 3)
        X[: len(again)], y[: len(again)] = X[again], y[again]
    if rng.random() < 0.4:  # a client with a single class
        order = np.argsort(y, kind="stable")
        X, y = X[order], y[order]
    y = y.astype(np.float64)
    if len(set(y)) == 1:
        X[0], y[0] = -X[0], (y[0] + 1) % classes
    parts = zip(np.array_split(X, clients), np.array_split(y, clients), strict=True)
    return [Shard(*part) for part in parts]


def deal(Z: Matrix, clients: int, y: Vector | None = None) -> list[Shard]:
    """Deal signed rows in blocks; the labels alternate unless given."""
    y = np.where(np.arange(len(Z)) % 2 == 0, 1.0, -1.0) if y is None else y
    return [
        Shard(part * sign[:, None], sign)
        for part, sign in zip(np.array_split(Z, clients), np.array_split(y, clients), strict=True)
    ]


def grid_of(directory: Path, shards: Sequence[Shard]) -> InProcessGrid:
    """Write one file per client, ``client-0.npz`` …, and return the grid that reaches them as nodes 1 …"""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"client-{k}.npz" for k in range(len(shards))]
    for path, shard in zip(paths, shards, strict=True):
        np.savez(path, X=shard.X, y=shard.y)
    return InProcessGrid(client_app, [node_config(path, "label", None) for path in paths], {})


def rows_of(federation: Federation, shards: Sequence[Shard]) -> Matrix:
    """The pooled signed rows that the clients of a federation work with, in the order of the shards."""
    return np.vstack([federation.scaling.rows(shard.X) * shard.y[:, None] for shard in shards])


def parts_of(federation: Federation, shards: Sequence[Shard]) -> list[tuple[Matrix, NDArray]]:
    """Each client's unsigned rows, and its labels numbered or, in a regression, its targets."""
    classes = federation.preparation.classes
    names = [label_text(shard.y) for shard in shards]
    return [
        (federation.scaling.rows(shard.X), encoded(y, classes) if classes else targets(y))
        for shard, y in zip(shards, names, strict=True)
    ]


class Trace(Callback):
    """Keep the model of every round (0: the initial one) and the answers that measured it."""

    def __init__(self) -> None:
        self.models: list[Vector] = []
        self.answers: list[Sequence[Answer]] = []
        self.turnouts: list[Turnout] = []
        self._passed: list[Answer] = []
        self.costs: list[Costs] = []

    def answered(self, number: int, weights: Vector, answer: Answer) -> None:
        self._passed.append(answer)

    def measured(self, number: int, weights: Vector, turnout: Turnout) -> None:
        assert number == len(self.models)
        self.models.append(weights.copy())
        self.answers.append(self._passed)
        self.turnouts.append(turnout)
        self._passed = []

    def changed(self, client: str, federation: Federation) -> None:
        self._passed = []

    def combined(
        self, number: int, weights: Vector, dual_mass: float, turnout: Turnout, costs: Costs
    ) -> None:
        self.costs.append(costs)


def record(weights: Vector) -> ArrayRecord:
    """An initial model as Flower takes it."""
    return ArrayRecord({"weights": Array(np.asarray(weights, np.float64))})


def run(
    strategy: LocalSolveStrategy, grid: InProcessGrid, rounds: int, start: Vector, *others: Callback
) -> Trace:
    """Run a strategy and return what it went through."""
    trace = Trace()
    strategy.start(grid, record(start), rounds, callbacks=[trace, *others])
    return trace


class Run(NamedTuple):
    """A whole run: what was agreed on, the centralized model, each round's model and row, and the monitor."""

    federation: Federation
    reference: Reference | None
    trace: "Trace"
    monitor: Monitor
    rows: list[dict]
    stopped_by: str


def federate(
    directory: Path,
    shards: Sequence[Shard],
    strategy: type[LocalSolveStrategy],
    solver: str,
    rounds: int,
    loss: str = "logistic",
    scale: str = "max-norm",
    intercept: bool = False,
    start: Vector | None = None,
    others: Sequence[Callable[[Monitor], Callback]] = (),
    **settings: Any,
) -> Run:
    """Handshake, run with the real client app and the real monitor, and compute the centralized model."""
    local = SolverSettings(solver=solver, loss=loss, **settings)
    grid = grid_of(directory, shards)
    federation = handshake(grid, grid.get_node_ids(), local, intercept=intercept, scale=scale)
    reference = centralized(loss, parts_of(federation, shards), len(federation.preparation.classes))
    rows: list[dict] = []
    monitor = Monitor(federation, rows.append, reference)
    chosen = strategy(settings=local, federation=federation)
    initial = np.zeros(federation.shape) if start is None else start
    trace = run(chosen, grid, rounds, initial, monitor, *(other(monitor) for other in others))
    return Run(federation, reference, trace, monitor, rows, chosen.stopped_by)


def answer(client: str, displacement: Sequence[float], mass: float = 1.0, margin: float = 0.0) -> Answer:
    """An answer of one client with one solution."""
    solution = LocalSolution((Part(np.array(displacement, np.float64), mass),), active=1, steps=1)
    return Answer(client, (solution,), Measures(loss=0.5, margin=margin, errors=1, count=3))


def turnout(answers: Sequence[Answer], *missing: str) -> Turnout:
    """Who answered, and who is missing."""
    return Turnout({answer.client: answer.measures for answer in answers}, missing)


def same(found: object, expected: object) -> None:
    """Compare frozen dataclasses that hold arrays."""
    assert type(found) is type(expected)
    assert dataclasses.is_dataclass(found)
    for field in dataclasses.fields(found):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if dataclasses.is_dataclass(b):
            same(a, b)
        elif field.name == "parts":
            for one, other in zip(a, b, strict=True):
                same(one, other)
        elif isinstance(b, np.ndarray):
            assert a.dtype == np.float64
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name
