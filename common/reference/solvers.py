"""Solvers of ``min ‖w‖²  s.t.  A w ≥ 1`` that return a dual ``a ≥ 0``; nothing here is trusted, see `proved`.

Rows ``A`` (m, D) have a largest norm of 1; ``guess`` lists rows thought active.
"""

import numpy as np
from numpy.typing import NDArray

from common.geometry import EPS
from common.reference.certified import DenseRows, Pair, proved

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Index = NDArray[np.intp]


def by_daqp(A: Matrix, guess: Index) -> Vector:
    """Solve with DAQP, a dual active-set method (Arnström et al. 2022); zero when it does not."""
    import daqp

    count, dimension = A.shape
    sense = np.zeros(count, np.int32)
    sense[guess] = 1  # starts as active
    _, _, flag, info = daqp.solve(
        np.eye(dimension),
        np.zeros(dimension),
        -A,
        np.full(count, -1.0),
        np.full(count, -1e30),
        sense,
        primal_tol=1e-9,
        iter_limit=50 * (count + dimension),
    )
    return np.maximum(info["lam"], 0.0) if flag == 1 else np.zeros(count)


def elastic(A: Matrix, guess: Index) -> Vector:
    """Solve ``min ‖w‖² + t²  s.t.  A w + t ≥ 1`` with DAQP: it has a solution whatever the rows are.

    Its dual is that of the rows without ``t``, but for a factor; ``w = 0`` proves them contradictory
    (Lawson and Hanson 1974, ch. 23, as a least-distance problem).
    """
    return by_daqp(np.hstack([A, np.ones((len(A), 1))]), guess[:0])


def nonnegative(A: Matrix, guess: Index) -> Vector:
    """Solve the same problem as non-negative least squares, ``min ‖Aᵀa‖² + (1ᵀa − 1)²``."""
    from scipy.optimize import nnls

    target = np.zeros(A.shape[1] + 1)
    target[-1] = 1.0
    try:
        return np.asarray(nnls(np.vstack([A.T, np.ones(len(A))]), target, maxiter=30 * len(A))[0])
    except RuntimeError:  # too many iterations
        return np.zeros(len(A))


def newton(A: Matrix, guess: Index, steps: int = 30) -> Vector:
    """Solve a well-conditioned problem with ``D ≥ m`` in a few steps of dense algebra; else zero.

    Block pivoting: solve for the rows thought active, drop those with a negative multiplier, add
    those that are violated.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    gram, a = A @ A.T, np.zeros(len(A))
    active = np.isin(np.arange(len(A)), guess) if len(guess) else np.ones(len(A), np.bool_)
    for _ in range(steps):
        index = np.flatnonzero(active)
        try:
            factor = cho_factor(gram[np.ix_(index, index)], overwrite_a=True, check_finite=False)
        except LinAlgError:
            break
        values = cho_solve(factor, np.ones(len(index)))
        margins = values @ gram[index]
        wrong, lacking = index[values < 0], ~active & (margins < 1 - 1e-9)
        if not len(wrong) and not lacking.any():
            a[index] = np.maximum(values + cho_solve(factor, 1.0 - margins[index]), 0.0)
            break
        active[wrong], active[lacking] = False, True
        if not active.any():
            break
    return a


def polished(rows: DenseRows, active: Index) -> Pair | None:
    """Make the active rows' margins 1 by a QR factorization, which loses less than their Gram matrix.

    None when these rows depend on each other, so that it does not settle the dual.
    """
    from scipy.linalg import qr, solve_triangular

    if not 0 < len(active) <= rows.dimension:
        return None
    part = rows.A[active]
    Q, R = qr(part.T, mode="economic", check_finite=False)
    pivots = np.abs(np.diag(R))
    if not pivots.min() > 16 * EPS * pivots.max():
        return None
    y = solve_triangular(R, np.ones(len(active)), trans="T", check_finite=False)
    y += solve_triangular(R, 1.0 - part @ (Q @ y), trans="T", check_finite=False)
    a = np.zeros(rows.count)
    a[active] = np.maximum(solve_triangular(R, y, check_finite=False), 0.0)
    if not (np.isfinite(a).all() and a.any()):
        return None
    return proved(rows, Q @ y, a)
