"""The shortest ``w`` with ``A w ≥ 1``: of several solvers the first that proves its answer."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from common.errors import NotInstalled
from common.geometry import EPS
from common.reference.certified import DenseRows, Pair, Rows, proved
from common.reference.solvers import by_daqp, elastic, newton, nonnegative, polished

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Index = NDArray[np.intp]

GAP = 1e-11
"""A relative gap between the bounds that is small enough to stop at, beyond what rounding takes."""

CHUNK = 1000
"""How many rows the working set starts with, and grows by at least."""

SMALL = 400
"""Up to this many rows DAQP starts without a guess."""


def shortest(rows: Rows) -> Pair:
    """Return ``argmin ‖w‖²  s.t.  A w ≥ 1`` with its dual, or a proof that there is none.

    Constraint generation: solve for a working set, add the rows that its solution violates most,
    until there are none.  The answer is then that of all rows; its bounds are computed over all of
    them.  A working set without a solution proves that the whole has none.

    Raises
    ------
    UserError
        scipy or daqp is not installed.
    """
    needed()
    margins, a = rows.margins(rows.combine(np.ones(rows.count))), np.zeros(rows.count)
    first = rows.count if rows.dimension >= rows.count else CHUNK  # most rows of a wide matrix are active
    index = np.sort(np.argsort(margins, kind="stable")[:first])
    while True:
        pair = _solved(rows.take(index), np.flatnonzero(a[index]))
        a[index] = pair.a
        if not pair.margin > 0:
            return proved(rows, pair.w, a)
        margins = rows.margins(pair.w)
        margins[index] = np.inf
        noise = EPS * rows.dimension * rows.largest * float(np.linalg.norm(pair.w))
        violated = np.flatnonzero(margins < pair.smallest * (1 - 1e-12) - noise)
        if not len(violated):
            return proved(rows, pair.w / pair.smallest, a)
        worst = violated[np.argsort(margins[violated], kind="stable")[: max(CHUNK, len(index))]]
        index = np.sort(np.concatenate([index, worst]))


def needed() -> None:
    """Ask for the packages of the extra ``reference``.

    Raises
    ------
    NotInstalled
        One of them is not.
    """
    try:
        import daqp  # noqa: F401
        import scipy.optimize  # noqa: F401
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise NotInstalled(
            f"the exact reference needs {package}: pip install 'localgd[reference]', "
            "or set reference = 'none'"
        ) from None


def _solved(A: Matrix, guess: Index) -> Pair:
    """Return the pair of a matrix of rows (m, D) from the first solver that closes the gap, or the best."""
    scale = DenseRows(A).largest
    if not scale > 0:
        return proved(DenseRows(A), np.zeros(A.shape[1]), np.ones(len(A)))
    A /= scale  # in place: the matrix is this function's own
    rows = DenseRows(A)
    best: Pair | None = None
    for pair in _candidates(rows, guess):
        if best is None or (pair.gap, pair.bound) < (best.gap, best.bound):
            best = pair
        noise = EPS * (rows.dimension + np.count_nonzero(pair.a)) / pair.bound
        if pair.gap <= GAP + 4 * noise or pair.contradicts(1.0):
            best = pair
            break
    assert best is not None
    return Pair(best.w / scale, best.a, best.smallest, best.margin * scale, best.bound * scale)


def _candidates(rows: DenseRows, guess: Index) -> Iterator[Pair]:
    """Yield what each solver finds, as it is and solved once more on its active rows."""
    A = rows.A
    if len(A) > SMALL and A.shape[1] >= len(A):
        a = newton(A, guess)
        guess = np.flatnonzero(a)
        if len(guess):
            yield proved(rows, rows.combine(a), a)
    if A.shape[1] > len(A):  # a triangle with the same products among rows, so the same duals
        triangle = np.asarray(np.linalg.qr(A.T, mode="r"))
        A = np.ascontiguousarray(triangle.T)
    for solver in (by_daqp, elastic, nonnegative):
        a = solver(A, guess)
        if not (np.isfinite(a).all() and a.any()):
            continue
        yield proved(rows, rows.combine(a), a)
        if (pair := polished(rows, np.flatnonzero(a))) is not None:
            yield pair
