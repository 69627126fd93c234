"""The centralized model of a federation, whatever its loss."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.reference.certified import Reference
from common.reference.finite import minimiser, uniform
from common.reference.hard_margin import max_margin
from common.reference.multiclass import crammer_singer
from common.reference.squares import least_squares

LOSSES = ("logistic", "exponential", "softmax", "squared")


def centralized(
    loss: str, parts: Sequence[tuple[NDArray[np.float64], NDArray[np.generic]]], classes: int = 2
) -> Reference | None:
    """Return the model that training on the pooled data tends to, every client counting the same.

    For separable data the max-margin model of the loss's geometry; else the finite minimiser of
    ``(1/M) Σ f_i`` with ``separable`` False, or None where there is none (data that a direction separates
    but not strictly).  For ``"squared"`` the minimiser of least norm.

    Parameters
    ----------
    loss
        One of `LOSSES`.
    parts
        Each client's unsigned scaled rows (n_i, d), and its labels 0 … C−1 or, for ``"squared"``,
        targets (n_i,).
    classes
        C, for ``"softmax"``.

    Raises
    ------
    UserError
        An unknown loss, labels that do not fit it, or a package that is not installed.
    RunError
        Neither a margin nor its absence could be proved.
    """
    if loss not in LOSSES:
        raise UserError(f"loss = '{loss}' has no reference; one of {', '.join(LOSSES)}")
    X = np.vstack([rows for rows, _ in parts])
    y = np.concatenate([labels for _, labels in parts])
    if loss == "squared":
        return least_squares(X, np.asarray(y, np.float64), uniform(parts))
    known = classes if loss == "softmax" else 2
    if known < 2 or not np.isin(y, np.arange(known)).all():
        raise UserError(f"loss = '{loss}' takes labels 0 to {known - 1} of at least 2 classes")
    labels = y.astype(np.intp)
    if loss == "softmax":
        found = crammer_singer(X, labels, known)
    else:
        found = max_margin(X * np.where(labels == 1, 1.0, -1.0)[:, None])
    if found is not None:
        return found
    return minimiser([(rows, np.asarray(part).astype(np.intp)) for rows, part in parts], loss, known)
