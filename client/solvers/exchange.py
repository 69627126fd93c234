"""The dual of a projection by exchanging many constraints at once, which mostly ends in the solution."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common.active_set import TOLERANCE, Multipliers, least_distance, rounding
from common.inverse_factor import SINGULAR
from common.namespace import array_namespace

Array = Any

STEPS = 100
"""Gradient steps at most."""

PRICE = 0.2
"""Exchanges from ``k`` of ``n`` rows cost about as much as this times ``k³/n²`` gradient steps."""

EXCHANGES = 5
"""Exchanges at most, from one support."""

CLOSE = 1e-8
"""Rows this close to the span of others, relative to their square, are no start: they may contradict them."""


@dataclass(frozen=True)
class _Trial:
    """A support (k,), its Gram matrix, multipliers (n,) that meet it, and how many rows are then wrong."""

    index: Array
    block: Array
    values: Array
    wrong: int


def by_exchange(gram: Array, short: Array) -> Multipliers:
    """Return what `common.active_set.least_distance` returns, and sooner.

    Projected gradient steps with the step of Barzilai and Borwein (1988) come near the support without
    solving anything.  Exchanges make it exact: solve with equality on the support, then drop what came out
    negative and take in what is violated, all at once (Hintermüller, Ito and Kunisch 2002).  Where nothing
    is left to exchange, that is the solution.  Neither need converge: then the exact method starts from the
    best support.  All of it depends on the question alone.

    Parameters
    ----------
    gram, short
        As of `least_distance`.
    """
    xp = array_namespace(short)
    if not bool(xp.any(short > TOLERANCE)):
        return Multipliers(xp.zeros_like(short), [], 0, "solved")
    trials = (_exchanged(gram, short, support) for support in _supports(gram, short))
    best = next(trials)
    while best.wrong > 0 and (trial := next(trials, None)) is not None:
        best = min(best, trial, key=lambda trial: trial.wrong)
    if not _independent(xp, best.block):
        return least_distance(gram, short, [])
    active = [int(row) for row in best.index.tolist()]
    if best.wrong > 0:
        return least_distance(gram, short, active)
    return Multipliers(best.values, active, 0, "solved")


def _exchanged(gram: Array, short: Array, support: Array) -> _Trial:
    """Exchange while fewer and fewer rows are on the wrong side; return the last support of those."""
    xp = array_namespace(short)
    largest, best = float(xp.max(xp.linalg.diagonal(gram))), None
    for _ in range(EXCHANGES):
        index, values = xp.nonzero(support)[0], xp.zeros_like(short)
        rows = xp.take(gram, index, axis=0)
        block = xp.take(rows, index, axis=1)
        best = best or _Trial(index, block, values, len(short) + 1)
        try:
            solved = xp.linalg.solve(block, short[index])
        except SINGULAR:
            break
        values[index] = solved
        lacking = short - solved @ rows > TOLERANCE + rounding(largest, values)
        wanted = xp.where(support, values > 0, lacking)
        wrong = int(xp.count_nonzero(wanted != support))
        if wrong >= best.wrong:  # they go astray, as they may where supports are larger than the rank
            break
        best, support = _Trial(index, block, values, wrong), wanted
        if wrong == 0:
            break
    assert best is not None
    return best


def _supports(gram: Array, short: Array) -> Iterator[Array]:
    """Yield which multipliers are positive in the course of gradient steps on the dual.

    That is whenever the steps since the last time have cost as much as exchanges would, at a price that
    doubles each time, and at the end.
    """
    xp = array_namespace(short)
    zero = xp.zeros_like(short)
    values, slope = zero, -short
    support, move = short > 0, xp.maximum(short, zero)
    price, steps = PRICE, 0
    for _ in range(STEPS):
        turn = gram @ move
        curvature = float(move @ turn)
        if not curvature > 0:
            break
        along = min(1.0, -float(slope @ move) / curvature)
        values, slope = values + along * move, slope + along * turn
        ahead = xp.maximum(values - (float(move @ move) / curvature) * slope, zero)
        support, move, steps = ahead > 0, ahead - values, steps + 1
        if steps * len(short) ** 2 >= price * int(xp.count_nonzero(support)) ** 3:
            yield support
            price, steps = 2 * price, 0
    yield support


def _independent(xp: Any, gram: Array) -> bool:
    """Tell whether each row is well apart from the span of those before it."""
    try:
        apart = xp.linalg.diagonal(xp.linalg.cholesky(gram))
    except SINGULAR:
        return False
    return bool(xp.all(apart**2 > CLOSE * xp.linalg.diagonal(gram)))
