"""The Euclidean projection onto a client's constraints ``Z w ≥ 1``, by a dual active-set method."""

import math
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace, device

from client.problem import Problem
from client.solvers.descent import solution
from common.solution import LocalSolution

Array = Any

TOLERANCE = 1e-10
"""How far below 1 the smallest margin of the projection may be, beyond what rounding takes from it."""

ROUNDING = 16 * 2.0**-52
"""The relative error of sums with the Gram matrix; thin margins make large multipliers, and so large sums."""

CONTRADICTORY = 1e-7
"""A dual ray proves the rows contradictory when ``‖Zᵀa‖ / 1ᵀa`` is below this share of the largest norm."""


def project(
    problem: Problem, centre: Array, steps: int = 0, rate: float = 0.0, decay: float = 0.0
) -> LocalSolution:
    """Return ``argmin ½‖w − centre‖²  s.t.  Z w ≥ 1``; the step arguments of the signature are not used.

    The method of Goldfarb and Idnani (1983) on the Gram matrix: start at the centre, add the most
    violated constraint, step along the dual until it is met, dropping constraints whose multiplier
    reaches zero.  The dual stays non-negative throughout, the number of changes is finite, and an
    empty set of constraints shows itself as a dual ray: the result is then ``"infeasible"`` and the
    dual a Farkas vector, ``Zᵀa ≈ 0`` with ``1ᵀa = 1``.

    The multipliers are solved for once more at the end, from the final active set in the order of the
    rows, so the answer does not depend on where the search started.
    """
    dual = _Dual(problem.gram, 1.0 - problem.Z @ centre)
    dual.shrink_to_positive(problem.warm_active)
    result, limit = "solved", 10 * problem.count + 100
    while result == "solved":
        violation = dual.violation()
        row = int(array_namespace(violation).argmax(violation))
        if not float(violation[row]) > TOLERANCE + dual.rounding():
            break
        result = dual.meet(row, float(violation[row]), limit)
    if result != "infeasible":
        problem.warm_active = sorted(dual.active)
        dual.solve(problem.warm_active)
    return solution(problem, dual.vector(), dual.changes, result)


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

    def solve(self, active: list[int]) -> None:
        """Make exactly these rows active, each with a margin of 1."""
        self.active = active
        self.values = self._solved(self.short[self._index(active)])

    def shrink_to_positive(self, active: list[int]) -> None:
        """Start from a guess of the active set, cut down until its multipliers are positive."""
        self.solve(active)
        while self.active and not bool((self.values > 0).all()):
            self.solve([k for k, value in zip(self.active, self.values.tolist(), strict=True) if value > 0])

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
                self.solve([*self.active, row])
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
