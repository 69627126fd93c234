"""Least distance under linear constraints ``A w ≥ 1``, solved in the dual by an active-set method."""

import math
from dataclasses import dataclass
from typing import Any

from array_api_compat import device

from common.constraints import Constraints, OfGram, OfRows
from common.inverse_factor import InverseFactor, solved
from common.namespace import array_namespace

Array = Any

TOLERANCE = 1e-10
"""How far below 1 a margin of the projection may be at first, beyond what rounding takes from it."""

ROUNDING = 16 * 2.0**-52
"""The relative error of sums with the Gram matrix; thin margins make large multipliers, and so large sums."""

CONTRADICTORY = 1e-7
"""A dual ray proves the rows contradictory when ``‖Zᵀa‖ / 1ᵀa`` is below this share of the largest norm."""

CLOSE = 1e-4
"""A row this close to the span of the active ones, relative to its square, is looked at more accurately."""

WORKING_SET = 64
"""How many of the most violated rows are looked at between two looks at all of them."""


@dataclass(frozen=True)
class Multipliers:
    """The dual solution ``a ≥ 0`` (n,), its support in increasing order, changes made, and the result.

    The result is ``"solved"``, ``"inexact"`` (some row can neither be met nor proved contradictory in this
    precision) or ``"infeasible"``; see `least_distance`.
    """

    values: Array
    active: list[int]
    changes: int
    result: str


def least_distance(gram: Array, short: Array, active: list[int], tolerance: float = TOLERANCE) -> Multipliers:
    """Return the multipliers of ``argmin ½‖w − c‖²  s.t.  A w ≥ 1``, so that ``w = c + Aᵀa``.

    The method of Goldfarb and Idnani (1983) on the Gram matrix: start at the centre, add the most
    violated constraint, step along the dual until it is met, dropping constraints whose multiplier
    reaches zero.  The dual stays non-negative throughout, and an empty set of constraints shows itself
    as a dual ray: the result is then ``"infeasible"`` and the dual a Farkas vector, ``Aᵀa ≈ 0`` with
    ``1ᵀa = 1``.

    In exact arithmetic the dual rises with every change, so their number is finite.  In floating point
    rows that nearly lie in the span of others can take turns for ever, each lacking what rounding has
    taken from it.  So the tolerance of a row doubles whenever it becomes active: it comes back only for
    twice as much, which no cycle has.

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
    return _solved(OfGram(gram), short, active, tolerance)


def least_distance_of_rows(
    rows: Array, short: Array, active: list[int], tolerance: float = TOLERANCE
) -> Multipliers:
    """Return what `least_distance` returns, from the rows ``A`` (n, d) themselves.

    Products are formed with active rows only, so memory stays at ``O(n d + k²)`` for ``k`` active rows:
    the better way where rows are many and few of them are active.
    """
    return _solved(OfRows(rows), short, active, tolerance)


def rounding(largest: float, values: Array) -> float:
    """Return the error that margins may have: sums of multiples of multipliers, up to the largest square."""
    return ROUNDING * largest * float(abs(values).sum())


def _solved(constraints: Constraints, short: Array, active: list[int], tolerance: float) -> Multipliers:
    dual = _Dual(constraints, short, tolerance)
    result = dual.run(active)
    return Multipliers(dual.vector(), dual.active, dual.changes, result)


@dataclass
class _Dual:
    """The multipliers of the active constraints.

    ``short`` (n,) is how far each row falls short of 1 at the centre; ``values`` belong to the rows
    listed in ``active``, and ``factor`` to their Gram matrix, in the same order.  ``slack`` (n,) is what
    each row may lack; infinite for a row that has been set aside.
    """

    rows: Constraints
    short: Array
    tolerance: float
    changes: int = 0

    def __post_init__(self) -> None:
        self.active: list[int] = []
        self.values: Array = self.short[:0]
        self.xp = array_namespace(self.short)
        self.slack = self.xp.full_like(self.short, self.tolerance)
        self.largest = float(self.xp.max(self.rows.diagonal))
        self.factor = InverseFactor(self.short)

    def run(self, active: list[int]) -> str:
        """Solve, starting from a guess of the active set."""
        self.start(active)
        while bool(self.xp.any((excess := self.excess()) > self.rounding())):
            before, working = self.changes, self.worst(excess)
            result = self.meet_all(working)
            if self.changes == before:  # a closer look has found nothing to do
                self.slack[self._index(working)] *= 2
            if result == "infeasible":
                return result
            if result == "inexact":
                self.start(self.active)
        self.active = sorted(self.active)
        index = self._index(self.active)
        self.values = solved(self.rows.block(index, index), self.short[index])
        return "inexact" if bool(self.xp.any(self.xp.isinf(self.slack))) else "solved"

    def vector(self) -> Array:
        """Return the whole dual (n,), without the negative zeros of rounding."""
        full = self.xp.zeros_like(self.short)
        full[self._index(self.active)] = self.values
        return self.xp.where(full > 0, full, self.xp.zeros_like(full))

    def rounding(self) -> float:
        """Return the error that `excess` may have."""
        return rounding(self.largest, self.values)

    def excess(self) -> Array:
        """Return how much more than it may each row lacks at the current point; never an active one."""
        index = self._index(self.active)
        excess = self.short - self.rows.products(index, self.values) - self.slack
        excess[index] = -math.inf
        return excess

    def worst(self, excess: Array) -> list[int]:
        """Return the rows that lack the most, the working set."""
        if len(excess) <= WORKING_SET:
            order = range(len(excess))
        else:
            order = self.xp.argsort(excess, descending=True)[:WORKING_SET].tolist()
        return [k for k in order if float(excess[k]) > 0]

    def start(self, active: list[int]) -> None:
        """Start from a guess of the active set, cut down until its multipliers are positive."""
        self._activate(active)
        while not bool(self.xp.all(self.values > 0)):
            kept = zip(self.active, self.values.tolist(), strict=True)
            self._activate([row for row, value in kept if value > 0])

    def meet_all(self, working: list[int]) -> str:
        """Meet the rows of a working set, the most violated first."""
        result, index = "solved", self._index(working)
        self.among, short = self.rows.block(index, index), self.short[index]
        self.cross = self.rows.block(index, self._index(self.active))
        while result == "solved":
            lack = short - self.cross @ self.values
            excess = lack - self.slack[index]
            place = int(self.xp.argmax(excess))
            row = working[place]
            if row in self.active or not float(excess[place]) > self.rounding():
                break
            result = self.meet(row, place, float(lack[place]))
        if result == "solved":
            self._solve()
        return result

    def meet(self, row: int, place: int, lack: float) -> str:
        """Make a violated row, from its place in the working set, active; drop others that block the way."""
        column, value = self.cross[place, :], 0.0
        inward = self.factor.solve(column)
        self.slack[row] *= 2
        while True:
            self.changes += 1
            curvature = self._curvature(row, column, inward)
            full = lack / curvature if curvature > 0 else math.inf
            step, blocking = self._longest_step(inward)
            if full < math.inf and full <= step:
                self._append(row, column, inward, curvature)
                self.cross = self.xp.concat([self.cross, self.among[:, place : place + 1]], axis=1)
                last = self.xp.full_like(self.short[:1], value + full)
                self.values = self.xp.concat([self.values - full * inward, last])
                return "solved"
            if step == math.inf:
                if self._become_ray(row, inward):
                    return "infeasible"
                self.slack[row] = math.inf
                return "inexact"
            lack -= step * curvature
            value += step
            self.values = self.values - step * inward
            inward = self._drop(blocking, column, inward)
            column = self.cross[place, :]
            if not self.factor.sound or curvature < CLOSE * float(self.rows.diagonal[row]):
                inward = self.factor.solve(column)

    def _longest_step(self, inward: Array) -> tuple[float, int]:
        """Return how far the dual can go before a multiplier reaches zero, and which one it is."""
        if not self.active:
            return math.inf, -1
        xp = self.xp
        ones, never = xp.ones_like(inward), xp.full_like(inward, math.inf)
        values = xp.where(self.values > 0, self.values, xp.zeros_like(self.values))
        steps = xp.where(inward > 0, values / xp.where(inward > 0, inward, ones), never)
        blocking = int(xp.argmin(steps))
        return float(steps[blocking]), blocking

    def _drop(self, k: int, column: Array, inward: Array) -> Array:
        """Make active row ``k`` inactive, the last one taking its place; return ``inward`` without it."""
        lost = self.factor.drop(k)
        inward = inward - float(self.xp.sum(lost * column)) * lost
        self.active[k] = self.active[-1]
        self.active.pop()
        for vector in (self.values, inward):
            vector[k] = vector[-1]
        self.cross[:, k] = self.cross[:, -1]
        self.values, self.cross = self.values[:-1], self.cross[:, :-1]
        return inward[:-1]

    def _activate(self, rows: list[int]) -> None:
        """Make exactly these rows active, without those that lie in the span of others."""
        index = self._index(rows)
        if self.factor.reset(self.rows.block(index, index)):
            self.active = list(rows)
        else:
            self.active = []
            for row in rows:
                column = self.rows.block(self._index([row]), self._index(self.active))[0]
                inward = self.factor.solve(column)
                curvature = self._curvature(row, column, inward)
                if curvature > 0:
                    self._append(row, column, inward, curvature)
        self._solve()

    def _curvature(self, row: int, column: Array, inward: Array) -> float:
        """Return the square of a row's distance to the span of the active rows, 0 where that is but noise."""
        own = float(self.rows.diagonal[row])
        curvature = own - float(self.xp.sum(column * inward))
        noise = ROUNDING * (own + self.largest * float(self.xp.sum(self.xp.abs(inward))) ** 2)
        return curvature if curvature > noise else 0.0

    def _append(self, row: int, column: Array, inward: Array, curvature: float) -> None:
        self.factor.append(column, inward, float(self.rows.diagonal[row]), curvature)
        self.active.append(row)

    def _solve(self) -> None:
        """Give each active row a margin of 1."""
        self.values = self.factor.solve(self.short[self._index(self.active)])

    def _become_ray(self, row: int, inward: Array) -> bool:
        """Turn into the dual ray that proves the constraints contradictory, with mass 1, if it does."""
        xp = self.xp
        values, active = self.values, self.active
        self.values = xp.concat([-inward, xp.ones_like(self.short[:1])])
        self.active = [*active, row]
        self.values = self.values / xp.sum(self.vector())
        ray, index = self.vector(), self._index(self.active)
        square = float(xp.sum(ray[index] * (self.rows.block(index, index) @ ray[index])))
        if square <= CONTRADICTORY**2 * self.largest:
            return True
        self.values, self.active = values, active
        return False

    def _index(self, rows: list[int]) -> Array:
        return self.xp.asarray(rows, dtype=self.xp.int64, device=device(self.short))
