"""The least-squares solution of least norm."""

import math

import numpy as np
from numpy.typing import NDArray

from common.geometry import EPS
from common.reference.certified import Reference, within

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


def least_squares(X: Matrix, targets: Vector, importance: Vector | None = None) -> Reference:
    """Return the shortest minimiser of ``Σ p_j (x_j·w − t_j)²``, an interpolator if there is one.

    By singular values.  Its error follows from the gradient that is left and the smallest singular value
    that counts (numpy's ``lstsq`` drops those below ``ε max(n, d) σ_max``).

    Parameters
    ----------
    X, targets
        Rows (n, d) and their targets (n,).
    importance
        ``p_j > 0``, shape (n,); equal unless given.
    """
    root = np.ones(len(X)) if importance is None else np.sqrt(importance / importance.max())
    A, t = X * root[:, None], targets * root
    weights, _, rank, singular = np.linalg.lstsq(A, t, rcond=None)
    residual = A @ weights - t
    length, largest = float(np.linalg.norm(weights)), float(singular.max(initial=0.0))
    if not rank:
        return Reference(weights, math.nan, math.nan, 180.0)
    rounding = EPS * sum(A.shape) * largest * (largest * length + float(np.linalg.norm(t)))
    distance = (float(np.linalg.norm(A.T @ residual)) + rounding) / float(singular[rank - 1]) ** 2
    return Reference(weights, math.nan, math.nan, within(distance, weights))
