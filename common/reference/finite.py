"""The finite minimiser of the federation's loss, for data that are not separable."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.geometry import EPS
from common.reference.certified import Reference, within

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Part = tuple[Matrix, NDArray[np.intp]]

STEPS = 200
"""Newton steps; from zero it takes about ten where there is a minimiser."""

SETTLED = 1e-10
"""The gradient must have fallen to this share of what it was at zero."""


def minimiser(parts: Sequence[Part], loss: str, classes: int = 2) -> Reference | None:
    """Return the shortest minimiser of ``f = (1/M) Σ_i (1/n_i) Σ_j ℓ``, or None when none is proved.

    Damped Newton steps in an orthonormal basis of the rows' span.  A minimiser is only returned when its
    existence is proved.  All three losses have ``|D³f[v,v,u]| ≤ R ‖u‖ D²f[v,v]`` in that basis; so with
    ``ν`` the Newton decrement and ``h`` the smallest curvature,

        f(x + v) − f(x) ≥ −ν r + r² (e^{−S} + S − 1)/S²  for ``‖v‖_H = r``, ``S = R r/√h``,

    which is positive on all of ``r = e ν`` when ``e ν R ≤ √h`` (then S ≤ 1, and the fraction is at least
    1/e): the minimiser lies within ``eν`` (Bach 2010 has the same with other constants).  Data that a
    direction separates weakly have none: there ``ν R/√h`` stays near 1 however small the gradient is.

    Parameters
    ----------
    parts
        Each client's unsigned rows (n_i, d) and labels 0 … C−1 (n_i,).
    loss
        ``"logistic"``, ``"exponential"`` (both for two classes) or ``"softmax"``.
    """
    rows = np.vstack([part for part, _ in parts])
    labels = np.concatenate([label for _, label in parts])
    importance = uniform(parts)
    if loss != "softmax":
        rows = rows * np.where(labels == 1, 1.0, -1.0)[:, None]
    left, singular, right = np.linalg.svd(rows, full_matrices=False)
    rank = int((singular > EPS * max(rows.shape) * singular.max(initial=0.0)).sum())
    if rank == 0:
        return None
    basis, singular, right = left[:, :rank], singular[:rank], right[:rank]
    if loss == "softmax":
        objective: _Objective = _Softmax(basis, labels, classes, importance)
    else:
        objective = _Margins(basis, importance, loss)
    point = _newton(objective, singular)
    if point is None:
        return None
    x, error_deg = point
    weights = objective.model(x) / singular @ right
    return Reference(weights, math.nan, math.nan, error_deg, separable=False)


def uniform(parts: Sequence[tuple[Matrix, NDArray[np.generic]]]) -> Vector:
    """Return the importance ``1/(M n_i)`` of every row: each client counts the same."""
    return np.concatenate([np.full(len(rows), 1.0 / (len(parts) * len(rows))) for rows, _ in parts])


class _Objective(Protocol):
    """A smooth loss of ``x`` (k,), and the model that ``x`` stands for."""

    @property
    def size(self) -> int:
        """Return k."""

    @property
    def bend(self) -> float:
        """Return ``R``: how fast the curvature can change, per unit of ``x``."""

    def value(self, x: Vector) -> float: ...

    def slopes(self, x: Vector) -> tuple[Vector, Matrix]:
        """Return the gradient (k,) and the Hessian (k, k)."""

    def model(self, x: Vector) -> NDArray[np.float64]:
        """Return ``x`` as a vector (r,) or, by class, as a matrix (C, r)."""


def _newton(objective: _Objective, singular: Vector) -> tuple[Vector, float] | None:
    """Return the minimiser and its proved error in degrees, or None."""
    x = np.zeros(objective.size)
    value, start, previous = objective.value(x), 0.0, math.inf
    scale = np.tile(singular, objective.size // len(singular))  # of the model's coordinates: w = x / scale
    for _ in range(STEPS):
        gradient, hessian = objective.slopes(x)
        length = float(np.linalg.norm(gradient * scale))
        start = start or length
        try:
            triangle = np.linalg.cholesky(hessian)
        except np.linalg.LinAlgError:
            return None  # flat to working precision: the iterates diverge
        half = np.linalg.solve(triangle, gradient)
        step = -np.linalg.solve(triangle.T, half)
        decrement = float(np.linalg.norm(half))
        if length <= SETTLED * start + 16 * EPS * float(scale.max()) and not decrement < 0.5 * previous:
            return _proved(objective, x, hessian, decrement, scale)
        previous = decrement
        fraction = 1.0
        while (
            not objective.value(x + fraction * step)
            <= value - 0.25 * fraction * decrement**2 + 4 * EPS * value
        ):
            fraction /= 2
            if fraction < 1e-10:
                return None
        x = x + fraction * step
        value = objective.value(x)
    return None


def _proved(
    objective: _Objective, x: Vector, hessian: Matrix, decrement: float, scale: Vector
) -> tuple[Vector, float] | None:
    """Return the point and how many degrees the minimiser can be away, if there is proved to be one."""
    lowest = _lowest(hessian)
    if not lowest > 0:
        return None
    root = math.sqrt(lowest)
    radius = math.e * (decrement + EPS * len(x) * max(1.0, objective.value(x)) / root)
    if radius * objective.bend > root:
        return None
    steepness = max(_lowest(hessian * np.outer(scale, scale)), lowest * float(scale.min()) ** 2)
    return x, within(radius / math.sqrt(steepness), x / scale)


def _lowest(hessian: Matrix) -> float:
    """Return a lower bound on the smallest eigenvalue, less what rounding may have added to it."""
    return float(np.linalg.eigvalsh(hessian)[0]) - EPS * len(hessian) * float(np.trace(hessian))


@dataclass(frozen=True)
class _Margins:
    """``Σ p_j ℓ(z_j·x)`` for signed rows ``z`` (n, r)."""

    rows: Matrix
    importance: Vector
    loss: str

    @property
    def size(self) -> int:
        return int(self.rows.shape[1])

    @property
    def bend(self) -> float:
        return float(np.linalg.norm(self.rows, axis=1).max())

    def value(self, x: Vector) -> float:
        margins = self.rows @ x
        if self.loss == "logistic":
            return float(self.importance @ np.logaddexp(0.0, -margins))
        with np.errstate(over="ignore"):  # a step that is too long has an infinite loss, and is shortened
            return float(self.importance @ np.exp(-margins))

    def slopes(self, x: Vector) -> tuple[Vector, Matrix]:
        """Return the gradient (r,) and the Hessian (r, r)."""
        margins = self.rows @ x
        if self.loss == "logistic":
            tail = np.exp(-np.abs(margins))
            mass, curvature = np.where(margins > 0, tail, 1.0) / (1 + tail), tail / (1 + tail) ** 2
        else:
            mass = curvature = np.exp(-margins)
        weighted = self.rows * (self.importance * curvature)[:, None]
        return -(self.importance * mass) @ self.rows, self.rows.T @ weighted

    def model(self, x: Vector) -> NDArray[np.float64]:
        return x


@dataclass(frozen=True)
class _Softmax:
    """The cross-entropy of ``C`` scores, in the coordinates of score vectors that sum to zero.

    Adding the same vector to all classes changes nothing, and the shortest model has none of it.
    """

    rows: Matrix
    labels: NDArray[np.intp]
    classes: int
    importance: Vector

    @property
    def size(self) -> int:
        return (self.classes - 1) * int(self.rows.shape[1])

    @property
    def bend(self) -> float:
        return math.sqrt(2) * float(np.linalg.norm(self.rows, axis=1).max())

    @property
    def contrasts(self) -> Matrix:
        """Return an orthonormal basis (C, C−1) of the vectors that sum to zero."""
        return np.asarray(np.linalg.qr(np.eye(self.classes) - 1.0 / self.classes)[0])[:, : self.classes - 1]

    def _log_shares(self, x: Vector) -> Matrix:
        scores = self.rows @ self.model(x).T
        scores -= scores.max(axis=1, keepdims=True)
        return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))

    def value(self, x: Vector) -> float:
        return -float(self.importance @ self._log_shares(x)[np.arange(len(self.rows)), self.labels])

    def slopes(self, x: Vector) -> tuple[Vector, Matrix]:
        """Return the gradient and the Hessian, of ``C − 1`` contrasts of ``r`` coordinates each."""
        shares, B = np.exp(self._log_shares(x)), self.contrasts
        pull = (shares - np.eye(self.classes)[self.labels]) * self.importance[:, None]
        gradient = (B.T @ pull.T @ self.rows).reshape(-1)
        mixed = shares @ B
        curvature = np.einsum("nc,ca,cb->nab", shares, B, B, optimize=True)
        curvature -= mixed[:, :, None] * mixed[:, None, :]
        curvature *= self.importance[:, None, None]
        size = self.rows.shape[1]
        hessian = np.empty((self.size, self.size))
        for a in range(self.classes - 1):
            for b in range(a + 1):
                block = self.rows.T @ (self.rows * curvature[:, a, b, None])
                hessian[a * size : (a + 1) * size, b * size : (b + 1) * size] = block
                hessian[b * size : (b + 1) * size, a * size : (a + 1) * size] = block
        return gradient, hessian

    def model(self, x: Vector) -> NDArray[np.float64]:
        return np.asarray(self.contrasts @ x.reshape(self.classes - 1, -1))
