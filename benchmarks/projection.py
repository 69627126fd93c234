"""The projection against a QP library on the same dual, and against LIBSVM with a precomputed kernel."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Row
from benchmarks.timing import in_turns, text
from client.problem import Problem
from client.solvers.exchange import by_exchange
from client.solvers.projection import project
from common.losses import LOSSES

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

KKT = 1e-8
"""How far from optimal, at most, every solver's answer may be."""


def rows(quick: bool) -> Iterator[Row]:
    """Project zero on 500 constraints in 5000 dimensions."""
    count, dimension = (30, 200) if quick else (500, 5000)
    Z = example(count, dimension)
    problem = Problem(Z, LOSSES["logistic"])
    gram, centre = problem.gram, np.zeros(dimension)

    short = 1.0 - problem.forward(centre)

    def dual() -> Vector:  # what `project` solves for, and all that the others do
        found: Vector = by_exchange(gram, short).values
        return found

    weights = project(problem, centre).displacement
    found = {"ours": weights, "our dual": Z.T @ dual(), "daqp": Z.T @ daqp_dual(gram)}
    for name, solution in found.items():
        if (gap := kkt(Z, solution)) > KKT:
            raise AssertionError(f"{name} is {gap:.1e} from optimal, which is no answer to compare with")
    ours, library, libsvm, factor, whole = in_turns(
        dual,
        lambda: daqp_dual(gram),
        lambda: libsvm_dual(gram),
        lambda: np.linalg.cholesky(gram),
        lambda: project(problem, centre),
        repeats=9,
    )
    active = int(np.sum(Z @ weights < 1 + 1e-7))
    what = f"dual of a projection, n = {count}, d = {dimension}, {active} active, KKT within {KKT:g}"
    limit = (
        f"{ours.least / factor.least:.2g} × a Cholesky factorisation of the Gram matrix; "
        f"with two passes over the rows {text(whole.least)}"
    )
    for other, taken, target in (
        ("daqp on the same dual", library, 5.0),
        ("LIBSVM, precomputed kernel (its dual has an intercept)", libsvm, 2.0),
    ):
        measured = f"{text(ours.median)} against {text(taken.median)}"
        yield Row(what, other, measured, taken.median / ours.median, target, limit=limit)


def example(count: int, dimension: int) -> Matrix:
    """Return signed rows of which about half end up active: noise around a common direction, unevenly far."""
    rng = np.random.default_rng(count)
    Z = rng.standard_normal((count, dimension)) / math.sqrt(dimension)
    Z[:, 0] = np.abs(rng.standard_normal(count))
    return Z


def kkt(Z: Matrix, weights: Vector) -> float:
    """Return how far a point is from the projection of zero: its largest violation, and its duality gap.

    The gap is that of the point scaled to be feasible, relative to its square; the dual is the point itself,
    as ``w = Zᵀa`` with ``1ᵀa = ‖w‖²`` at the optimum.
    """
    dual = np.linalg.lstsq(Z.T, weights, rcond=None)[0]
    violation = max(0.0, 1 - float(np.min(Z @ weights)), -float(dual.min()))
    square = float(weights @ weights)
    return max(violation, abs(float(dual.sum()) - square) / square)


def daqp_dual(gram: Matrix) -> Vector:
    """Solve ``min ½ aᵀGa − 1ᵀa, a ≥ 0``."""
    import daqp

    count = len(gram)
    none = np.zeros((0, count))
    upper, lower = np.full(count, 1e30), np.zeros(count)
    dual, _, flag, _ = daqp.solve(gram, -np.ones(count), none, upper, lower, np.zeros(count, np.int32))
    if flag < 1:
        raise AssertionError(f"daqp gave up with flag {flag}")
    return np.asarray(dual, np.float64)


def libsvm_dual(gram: Matrix) -> Vector:
    """Train a hard-margin classifier with alternating labels, to which the signed rows belong."""
    from sklearn.svm import SVC

    labels = np.where(np.arange(len(gram)) % 2 == 0, 1.0, -1.0)
    kernel = gram * np.outer(labels, labels)
    model = SVC(C=1e10, kernel="precomputed", tol=KKT, cache_size=500).fit(kernel, labels)
    return np.asarray(model.dual_coef_[0], np.float64)
