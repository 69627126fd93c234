"""A centralized model with the bounds that it proves about itself."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.geometry import Certificate, certified_angle

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Index = NDArray[np.intp]

CONTRADICTORY = 1e-7
"""No positive margin, and none above this share of the largest norm: the rows are not separable."""


@dataclass(frozen=True)
class Reference:
    """A centralized model and how far it can be from the exact one.

    Attributes
    ----------
    weights
        The model, shape (d,), or (C, d) for ``C`` classes.  Of separable data the shortest one with
        margins of at least 1.
    margin, bound
        The margin it reaches and the upper bound from its dual, ``margin ≤ γ* ≤ bound``; nan where a
        margin has no meaning.  Both are rounded outwards.
    error_deg
        How many degrees the exact direction can be away: ``arccos(margin/bound)``, or what else is proved.
    separable
        False when the data are not separable and ``weights`` is the finite minimiser of the loss.
    """

    weights: NDArray[np.float64]
    margin: float
    bound: float
    error_deg: float
    separable: bool = True


class Rows(Protocol):
    """The rows ``A`` (N, D) of the constraints ``A w ≥ 1``, which need not exist as a matrix."""

    @property
    def count(self) -> int:
        """Return N."""

    @property
    def dimension(self) -> int:
        """Return D."""

    @property
    def largest(self) -> float:
        """Return the largest norm of a row."""

    def take(self, index: Index) -> Matrix:
        """Return a copy of some rows, (m, D)."""

    def margins(self, w: Vector) -> Vector:
        """Return ``A w``, (N,)."""

    def combine(self, a: Vector) -> Vector:
        """Return ``Aᵀa``, (D,)."""


@dataclass(frozen=True)
class DenseRows:
    """Rows that are a matrix."""

    A: Matrix

    @property
    def count(self) -> int:
        """Return N."""
        return len(self.A)

    @property
    def dimension(self) -> int:
        """Return D."""
        return int(self.A.shape[1])

    @property
    def largest(self) -> float:
        """Return the largest norm of a row."""
        return float(np.sqrt(np.einsum("ij,ij->i", self.A, self.A).max(initial=0.0)))

    def take(self, index: Index) -> Matrix:
        """Return a copy of some rows, (m, D)."""
        return self.A[index]

    def margins(self, w: Vector) -> Vector:
        """Return ``A w``, (N,)."""
        return self.A @ w

    def combine(self, a: Vector) -> Vector:
        """Return ``Aᵀa``, (D,), from the rows that take part only."""
        index = np.flatnonzero(a)
        return a[index] @ self.A[index]


@dataclass(frozen=True)
class Pair:
    """A primal point ``w`` (D,) with its smallest margin, and a dual ``a ≥ 0`` (N,), of the same rows.

    ``margin`` and ``bound`` are proved: ``margin ≤ γ* ≤ bound``, in units of the rows.
    """

    w: Vector
    a: Vector
    smallest: float
    margin: float
    bound: float

    @property
    def gap(self) -> float:
        """``1 − margin/bound``; 2 while no positive margin is known."""
        return 1.0 - self.margin / self.bound if self.margin > 0 else 2.0

    def contradicts(self, largest: float) -> bool:
        """Tell whether this proves the rows, of this largest norm, to have no margin worth the name."""
        return not self.margin > 0 and self.bound <= CONTRADICTORY * largest

    def error_deg(self) -> float:
        """Return how many degrees ``w`` can be away from the exact direction."""
        return certified_angle(self.margin, self.bound)


def within(distance: float, weights: NDArray[np.float64]) -> float:
    """Return how many degrees a point within this distance of the weights can be away; 180 when any."""
    length = float(np.linalg.norm(weights))
    return math.degrees(math.asin(distance / length)) if distance < length else 180.0


def proved(rows: Rows, w: Vector, a: Vector) -> Pair:
    """Return a primal and a dual point with the bounds that they prove, whoever computed them.

    The rows that take part in the combination are all that its rounding error comes from.
    """
    certificate = Certificate(int(np.count_nonzero(a)), rows.dimension, 1, rows.largest)
    smallest = float(rows.margins(w).min())
    return Pair(
        w,
        a,
        smallest,
        certificate.margin(smallest, float(np.linalg.norm(w))),
        certificate.add([rows.combine(a)], [float(a.sum())]).bound,
    )
