"""The hard-margin separator of two classes."""

import numpy as np
from numpy.typing import NDArray

from common.errors import RunError
from common.reference.certified import DenseRows, Pair, Reference, Rows
from common.reference.least_norm import shortest


def max_margin(Z: NDArray[np.float64]) -> Reference | None:
    """Return the hard-margin direction of signed rows ``Z`` (n, d), or None when they are not separable.

    ``ŵ = argmin ‖w‖²  s.t.  Z w ≥ 1``.  None says that no positive margin exists above 1e-7 of the
    largest row's norm, with a dual that proves it.

    Raises
    ------
    UserError
        scipy or daqp is not installed.
    RunError
        Neither a margin nor its absence could be proved.
    """
    rows = DenseRows(Z)
    return judged(shortest(rows), rows, Z.shape[1:])


def judged(pair: Pair, rows: Rows, shape: tuple[int, ...]) -> Reference | None:
    """Return what a solution proves: a model of this shape, or None where there is none."""
    if pair.margin > 0:
        return Reference(pair.w.reshape(shape), pair.margin, pair.bound, pair.error_deg())
    if pair.contradicts(rows.largest):
        return None
    raise RunError(
        f"the centralized model could not be computed: no positive margin found, none above {pair.bound:.1g} "
        "possible; set reference = 'none' to run without it"
    )
