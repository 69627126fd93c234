"""The hard-margin separator of two classes."""

import numpy as np
from numpy.typing import NDArray

from common.errors import RunError
from common.reference.certified import DenseRows, Reference, Rows
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
    return separator(DenseRows(Z), Z.shape[1:])


def separator(rows: Rows, shape: tuple[int, ...]) -> Reference | None:
    """Return the shortest ``w`` with margins of at least 1 on any rows, in the shape of the model."""
    pair = shortest(rows)
    if pair.margin > 0:
        return Reference(pair.w.reshape(shape), pair.margin, pair.bound, pair.error_deg())
    if pair.contradicts(rows.largest):
        return None
    raise RunError(
        f"the centralized model could not be computed: no positive margin found, none above {pair.bound:.1g} "
        "possible; set reference = 'none' to run without it"
    )
