"""The few things that a study measures and no strategy does."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import UserConfig
from numpy.typing import NDArray

from client.app import app as client_app
from client.problem import Problem
from client.solvers import project
from common import virtual
from common.config import Config
from common.federation import Federation
from common.geometry import angle
from common.losses import LOSSES
from common.reference import Reference, centralized
from examples.paper.configure import configuration
from examples.paper.runs import Keys, sampled
from server.app import solver_settings
from server.grids.in_process import InProcessGrid
from server.handshake import handshake
from server.inputs import all_parts, find_reference, held_out_score

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Measured = tuple[dict[str, list[Any]], dict[str, Any]]
"""A curve and facts, as of a `Run`."""


def exact_proximal(keys: Keys, folder: Path) -> Measured:
    """Run Modified Local-GD with every local problem solved exactly, for all values of λ/β at one.

    Besides the angle to the centralized model there is that to the model of the same round where λ → 0: the
    projections'.
    """
    federation, parts, reference = _pooled(configuration(keys, folder))
    problems = [Problem(_signed(rows, labels), LOSSES["logistic"]) for rows, labels in parts]
    decay = float(keys["regularization"]) * federation.beta
    found, limit = np.zeros(federation.shape), np.zeros(federation.shape)
    curve: dict[str, list[Any]] = {"round": [], "true": [], "limit": []}
    chosen = set(sampled(int(keys["num-server-rounds"])))
    for number in range(1, int(keys["num-server-rounds"]) + 1):
        keep = 1 - 1 / (number + 1)
        found = keep * np.mean([found + proximal_step(p, found, decay) for p in problems], axis=0)
        limit = keep * np.mean([limit + project(p, limit).displacement for p in problems], axis=0)
        if number in chosen:
            curve["round"].append(number)
            curve["true"].append(angle(found, reference.weights))
            curve["limit"].append(angle(found, limit))
    return curve, {}


def proximal_step(problem: Problem, centre: Vector, decay: float) -> Vector:
    """Return ``w − c`` of the minimiser ``w`` of ``f(w) + (λ/2) ‖w − c‖²``, to rounding.

    Newton's method on ``a`` with ``w = c + Zᵀa``: the minimiser has ``λ a = σ(−Z w)/n``.  The logistic loss
    is self-concordant along a step in terms of how far the step moves the margins, by at most ``d``: steps
    ``ln(1 + d)/d`` as long always descend.
    """
    start, gram, n = problem.forward(centre), problem.gram, problem.count
    dual = np.zeros(n)
    for _ in range(500):
        pull = 1 / (1 + np.exp(np.minimum(start + gram @ dual, 700)))
        bend = pull * (1 - pull) / n / decay
        step = np.linalg.solve(np.eye(n) + bend[:, None] * gram, pull / n / decay - dual)
        far = float(np.abs(gram @ step).max())
        if far < 1e-7:  # the error is the square of that, or rounding
            dual = dual + step
            break
        dual = dual + step * np.log1p(far) / far
    moved: Vector = problem.adjoint(dual)
    return moved


def exact_regression(keys: Keys, folder: Path) -> Measured:
    """Run Local-GD for K → ∞: every client goes to the nearest of its own best models."""
    _, parts, reference = _pooled(configuration(keys, folder))
    inverses = [(rows, np.linalg.pinv(rows), target) for rows, target in parts]
    weights = np.zeros_like(reference.weights)
    curve: dict[str, list[Any]] = {"round": [], "distance": []}
    chosen = set(sampled(int(keys["num-server-rounds"])))
    for number in range(1, int(keys["num-server-rounds"]) + 1):
        moves = [inverse @ (target - rows @ weights) for rows, inverse, target in inverses]
        weights = weights + np.mean(moves, axis=0)
        if number in chosen:
            gap = np.linalg.norm(weights - reference.weights) / np.linalg.norm(reference.weights)
            curve["round"].append(number)
            curve["distance"].append(float(gap))
    return curve, {}


def alone(keys: Keys, folder: Path) -> Measured:
    """Compare models without rounds: each client's own, their average, and the centralized one."""
    config = configuration(keys, folder)
    federation, parts, reference = _pooled(config)
    score = held_out_score(config, federation)
    assert score is not None
    classes = len(federation.preparation.classes)
    own = [centralized(config.loss, [part], classes) for part in parts]
    models = [model.weights for model in own if model is not None]
    scores = [score(model) for model in models]
    average = np.mean(models, axis=0)
    facts = {
        "own": scores,
        "average": score(average),
        "average-angle": angle(average.reshape(-1), reference.weights.reshape(-1)),
        "centralized": score(reference.weights),
        "margin": reference.margin,
    }
    return {"round": [0]}, facts


def described(keys: Keys, folder: Path) -> Measured:
    """Describe the data: rows and features, the largest and the smallest client, the best margin."""
    config = configuration(keys, folder)
    federation, parts, reference = _pooled(config)
    counts = [len(labels) for _, labels in parts]
    facts = {
        "rows": sum(counts),
        "features": len(federation.scaling.mean),
        "largest": max(counts),
        "smallest": min(counts),
        "margin": reference.margin,
    }
    return {"round": [0]}, facts


PROCEDURES: Mapping[str, Callable[[Keys, Path], Measured]] = {
    "exact-proximal": exact_proximal,
    "exact-regression": exact_regression,
    "alone": alone,
    "described": described,
}
"""The key ``procedure``: what is measured instead of a run of the app."""


def _pooled(config: Config) -> tuple[Federation, list[tuple[Matrix, NDArray[Any]]], Reference]:
    """Return the federation after its handshake, the clients' prepared rows, and the centralized model."""
    names = virtual.names(config)
    nodes: list[UserConfig] = [{"partition-id": k, "num-partitions": len(names)} for k in range(len(names))]
    grid = InProcessGrid(client_app, nodes, config.values(), names)
    settings = solver_settings(config)
    federation = handshake(grid, grid.get_node_ids(), settings, config.intercept, config.scale)
    reference = find_reference(config, federation, all_here=True)
    assert reference is not None
    return federation, all_parts(config, federation), reference


def _signed(rows: Matrix, labels: NDArray[Any]) -> Matrix:
    return rows * np.where(labels == 1, 1.0, -1.0)[:, None]
