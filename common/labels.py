"""Labels as the files hold them, and what a loss makes of them."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.sparse import Features


def ordered(classes: Iterable[str]) -> tuple[str, ...]:
    """Return class names in order: numbers by value, else words by the alphabet."""
    words = sorted(set(classes))  # first, so that two spellings of one number have an order too
    try:
        values = {word: float(word) for word in words}
    except ValueError:
        return tuple(words)
    return tuple(words if math.isnan(sum(values.values())) else sorted(words, key=values.__getitem__))


def encoded(y: NDArray[np.str_], classes: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the number of each label's class, shape (n,); every label must be one of the classes."""
    numbers = {name: k for k, name in enumerate(classes)}
    return np.array([numbers[label] for label in y.tolist()], np.intp)


def signs(y: NDArray[np.str_], classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Return −1 for the first of two classes and +1 for the second, shape (n,)."""
    return np.where(y == classes[1], 1.0, -1.0)


def signed(rows: Features, y: NDArray[np.str_], classes: tuple[str, ...]) -> Features:
    """Return the signed rows ``z = y x``, shape (n, dimension)."""
    return rows * signs(y, classes)[:, None]


def r_squared(predicted: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return the share of the variance of the values (n,) that the predictions explain."""
    spread = float(np.sum((values - values.mean()) ** 2))
    return 1 - float(np.sum((predicted - values) ** 2)) / spread if spread > 0 else math.nan


def targets(y: NDArray[np.str_], where: str = "") -> NDArray[np.float64]:
    """Return the real values that the labels are, shape (n,).

    Raises
    ------
    UserError
        When one of them is not a finite number; names the row.
    """
    values = np.empty(len(y))
    for row, label in enumerate(y.tolist()):
        try:
            values[row] = float(label)
        except ValueError:
            values[row] = np.nan
        if not np.isfinite(values[row]):
            raise UserError(
                f"{where}row {row + 1}: the label '{label}' is not a finite number, as loss = 'squared' needs"
            )
    return values
