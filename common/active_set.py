"""Least distance under linear constraints ``A w ≥ 1``, solved in the dual by an active-set method."""

import math
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace, device

Array = Any

TOLERANCE = 1e-10
"""How far below 1 the smallest margin of the projection may be, beyond what rounding takes from it."""

ROUNDING = 16 * 2.0**-52
"""The relative error of sums with the Gram matrix; thin margins make large multipliers, and so large sums."""

CONTRADICTORY = 1e-7
"""A dual ray proves the rows contradictory when ``‖Zᵀa‖ / 1ᵀa`` is below this share of the largest norm."""


@dataclass(frozen=True)
class Multipliers:
    """The dual solution ``a ≥ 0`` (n,), its support in increasing order, changes made, and the result.

    The result is ``"solved"``, ``"inexact"`` or ``"infeasible"``; see `least_distance`.
    """

    values: Array
    active: list[int]
    changes: int
    result: str


def least_distance(gram: Array, short: Array, active: list[int], tolerance: float = TOLERANCE) -> Multipliers:
    """Return the multipliers of ``argmin ½‖w − c‖²  s.t.  A w ≥ 1``, so that ``w = c + Aᵀa``.

    The method of Goldfarb and Idnani (1983) on the Gram matrix: start at the centre, add the most
    violated constraint, step along the dual until it is met, dropping constraints whose multiplier
    reaches zero.  The dual stays non-negative throughout, the number of changes is finite, and an
    empty set of constraints shows itself as a dual ray: the result is then ``"infeasible"`` and the
    dual a Farkas vector, ``Aᵀa ≈ 0`` with ``1ᵀa = 1``.

    The multipliers are solved for once more at the end, from the final active set in the order of the
    rows, so the answer does not depend on where the search started.

    Parameters
    ----------
    gram
        ``A Aᵀ``, shape (n, n), in any array namespace.
    short
        ``1 − A c``, shape (n,).
    active
        A guess of the active set, of independent rows.  It saves time and does not change the answer.
    """
    dual = _Dual(gram, short)
    result = dual.run(active, tolerance)
    return Multipliers(dual.vector(), dual.active, dual.changes, result)


@dataclass
class _Dual:
    """The multipliers of the active constraints, in the coordinates of the Gram matrix (n, n).

    ``short`` (n,) is how far each row falls short of 1 at the centre; ``values`` belong to the rows
    listed in ``active``.
    """

    gram: Array
    short: Array
    changes: int = 0

    def __post_init__(self) -> None:
        self.active: list[int] = []
        self.values: Array = self.short[:0]
        xp = array_namespace(self.gram)
        self.largest = float(xp.max(xp.linalg.diagonal(self.gram)))

    def run(self, active: list[int], tolerance: float) -> str:
        """Solve, starting from a guess of the active set."""
        self.shrink_to_positive(active)
        result, limit = "solved", 10 * len(self.short) + 100
        while result == "solved":
            violation = self.violation()
            row = int(array_namespace(violation).argmax(violation))
            if not float(violation[row]) > tolerance + self.rounding():
                break
            result = self.meet(row, float(violation[row]), limit)
        if result != "infeasible":
            self.activate(sorted(self.active))
        return result

    def vector(self) -> Array:
        """Return the whole dual (n,), without the negative zeros of rounding."""
        xp = array_namespace(self.short)
        full = xp.zeros_like(self.short)
        full[self._index(self.active)] = self.values
        return xp.where(full > 0, full, xp.zeros_like(full))

    def rounding(self) -> float:
        """Return the error that `violation` may have; margins are sums of multiples of the multipliers."""
        xp = array_namespace(self.gram)
        return ROUNDING * self.largest * float(xp.sum(xp.abs(self.values)))

    def violation(self) -> Array:
        """Return how far each row falls short of 1 at the current point; active rows do not count."""
        index = self._index(self.active)
        violation = self.short - self.gram[:, index] @ self.values
        violation[index] = -math.inf
        return violation

    def activate(self, active: list[int]) -> None:
        """Make exactly these rows active, each with a margin of 1."""
        self.active = active
        self.values = self._solved(self.short[self._index(active)])

    def shrink_to_positive(self, active: list[int]) -> None:
        """Start from a guess of the active set, cut down until its multipliers are positive."""
        self.activate(active)
        while self.active and not bool((self.values > 0).all()):
            kept = zip(self.active, self.values.tolist(), strict=True)
            self.activate([k for k, value in kept if value > 0])

    def meet(self, row: int, lack: float, limit: int) -> str:
        """Make a violated row active, dropping others where they block the way."""
        xp = array_namespace(self.gram)
        own = float(self.gram[row, row])
        while self.changes < limit:
            self.changes += 1
            column = self.gram[row, self._index(self.active)]
            inward = self._solved(column)
            curvature = own - float(xp.sum(column * inward))
            noise = ROUNDING * (own + self.largest * float(xp.sum(xp.abs(inward))) ** 2)
            full = lack / curvature if curvature > noise else math.inf  # else in the span of the active rows
            step, blocking = self._longest_step(inward)
            if full < math.inf and full <= step:
                self.activate([*self.active, row])
                return "solved"
            if step == math.inf:
                return self._become_ray(row, inward)
            lack -= step * curvature
            self.values = self.values - step * inward
            keep = [k for k in range(len(self.active)) if k != blocking]
            self.active, self.values = [self.active[k] for k in keep], self.values[self._index(keep)]
        return "inexact"

    def _longest_step(self, inward: Array) -> tuple[float, int]:
        """Return how far the dual can go before a multiplier reaches zero, and which one it is."""
        step, blocking = math.inf, -1
        for k, (value, slope) in enumerate(zip(self.values.tolist(), inward.tolist(), strict=True)):
            if slope > 0 and value / slope < step:
                step, blocking = value / slope, k
        return step, blocking

    def _become_ray(self, row: int, inward: Array) -> str:
        """Turn into the dual ray that proves the constraints contradictory, with mass 1, if it does."""
        xp = array_namespace(self.gram)
        values, active = self.values, self.active
        self.values = xp.concat([-inward, xp.ones_like(self.short[:1])])
        self.active = [*active, row]
        self.values = self.values / xp.sum(self.vector())
        ray = self.vector()
        if float(xp.sum(ray * (self.gram @ ray))) <= CONTRADICTORY**2 * self.largest:
            return "infeasible"
        self.values, self.active = values, active
        return "inexact"

    def _solved(self, right: Array) -> Array:
        """Solve with the Gram matrix of the active rows."""
        xp = array_namespace(self.gram)
        index = self._index(self.active)
        return xp.linalg.solve(self.gram[index, :][:, index], right)

    def _index(self, rows: list[int]) -> Array:
        xp = array_namespace(self.gram)
        return xp.asarray(rows, dtype=xp.int64, device=device(self.gram))
