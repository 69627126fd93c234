"""Which constraints a projection will likely rest on, found in a few products with the Gram matrix."""

from typing import Any

from array_api_compat import array_namespace

from common.inverse_factor import SINGULAR

Array = Any

STEPS, STEADY = 100, 5
"""Gradient steps at most, and for how many of them the support has to stay as it is."""

EXCHANGES = 5
"""Exchanges at most; where so many do not end them, the support is taken as it is."""

TOLERANCE = 1e-10

CLOSE = 1e-8
"""Rows this close to the span of others, relative to their square, are left to the exact method."""


def likely_active(gram: Array, short: Array) -> list[int]:
    """Return a guess of the support of ``argmin ½ aᵀGa − shortᵀa, a ≥ 0``, in increasing order.

    Projected gradient steps with the step of Barzilai and Borwein (1988) come near the support without
    solving anything.  Exchanges make it exact: solve with equality on the support, then drop what came out
    negative and take in what is violated, all at once (Hintermüller, Ito and Kunisch 2002).  Neither need
    converge, so this is where an exact method starts, nothing more.  It depends on the question alone.

    Parameters
    ----------
    gram, short
        As of `common.active_set.least_distance`.
    """
    xp = array_namespace(short)
    if not bool(xp.any(short > 0)):
        return []
    best = support = _descended(xp, gram, short)
    fewest = len(short) + 1
    for _ in range(EXCHANGES):
        index = xp.nonzero(support)[0]
        try:
            values = xp.linalg.solve(gram[index, :][:, index], short[index])
        except SINGULAR:
            return []
        missing = short - gram[:, index] @ values > TOLERANCE
        missing[index] = values > 0
        wrong = int(xp.count_nonzero(missing != support))
        if wrong >= fewest:  # they go astray, as they may where supports are larger than the rank
            break
        best, fewest, support = support, wrong, missing
        if wrong == 0:
            break
    index = xp.nonzero(best)[0]
    if not _independent(xp, gram[index, :][:, index]):
        return []
    return [int(row) for row in index.tolist()]


def _independent(xp: Any, gram: Array) -> bool:
    """Tell whether each row is well apart from the span of those before it."""
    try:
        apart = xp.linalg.diagonal(xp.linalg.cholesky(gram))
    except SINGULAR:
        return False
    return bool(xp.all(apart**2 > CLOSE * xp.linalg.diagonal(gram)))


def _descended(xp: Any, gram: Array, short: Array) -> Array:
    """Return which multipliers are positive after gradient steps on the dual."""
    zero = xp.zeros_like(short)
    values, slope, support = zero, -short, short > 0
    uphill = xp.where(support, short, zero)
    step = _ratio(xp, uphill, gram @ uphill)
    steady = 0
    for _ in range(STEPS):
        ahead = values - step * slope
        ahead = xp.where(ahead > 0, ahead, zero)
        before, support = support, ahead > 0
        steady = 0 if bool(xp.any(before != support)) else steady + 1
        if steady == STEADY:
            break
        move = ahead - values
        turn = gram @ move
        curvature = float(move @ turn)
        if not curvature > 0:
            break
        along = min(1.0, -float(slope @ move) / curvature)
        values, slope = values + along * move, slope + along * turn
        step = float(move @ move) / curvature
    return support


def _ratio(xp: Any, move: Array, turn: Array) -> float:
    curvature = float(move @ turn)
    return float(move @ move) / curvature if curvature > 0 else 1.0
