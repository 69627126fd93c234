"""The centralized model, computed exactly from pooled data: what the federation is compared with."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """A centralized direction and how far it can be from the exact one.

    Attributes
    ----------
    weights
        ``ŵ = argmin ‖w‖²  s.t.  Z w ≥ 1``, shape (d,).
    margin, bound
        The margin it reaches and the upper bound from its dual: ``margin ≤ γ* ≤ bound``.
    error_deg
        ``arccos(margin/bound)``: its own certified angle, from the duality gap.
    """

    weights: Vector
    margin: float
    bound: float
    error_deg: float
    separable: bool = True


def max_margin(Z: NDArray[np.float64]) -> Reference | None:
    """Return the hard-margin direction of signed rows ``Z`` (n, d), or None when they are not separable.

    Least-distance programming as non-negative least squares (Lawson and Hanson 1974, ch. 23):
    minimise ``‖Zᵀu‖² + (1ᵀu − 1)²`` over ``u ≥ 0``; a zero residual proves the rows not separable,
    else ``a = u / (1 − 1ᵀu)`` is the dual.  The bounds are computed from the primal and the dual as
    they are, so they hold whatever was lost in rounding.
    """
    try:
        from scipy.optimize import nnls
    except ImportError:
        raise UserError(
            "the exact reference needs scipy: pip install 'localgd[reference]', or set reference = 'none'"
        ) from None

    count, dimension = Z.shape
    columns = np.linalg.qr(Z.T, mode="r") if dimension > count else Z.T
    target = np.zeros(len(columns) + 1)
    target[-1] = 1.0
    multipliers, _ = nnls(np.vstack([columns, np.ones(count)]), target, maxiter=30 * count)
    slack = 1.0 - multipliers.sum()
    if not slack > 1e-14:
        return None
    return _bounded(Z, multipliers / slack)


def _bounded(Z: NDArray[np.float64], dual: Vector) -> Reference | None:
    """Return the reference of a dual ``a ≥ 0``, with the bounds that it and its primal prove."""
    weights = Z.T @ dual
    length = float(np.linalg.norm(weights))
    smallest = float((Z @ weights).min())
    if not (smallest > 0 and dual.sum() > 0):
        return None
    margin, bound = smallest / length, length / float(dual.sum())
    error = math.degrees(math.acos(min(1.0, margin / bound)))
    return Reference(weights / smallest, margin, bound, error)
