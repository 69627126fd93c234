"""Axes: where a value lies between two ends, which values get a tick, and how a number is written."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic map of ``[low, high]`` to ``[0, 1]``; what lies beyond is put at the ends."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Iterable[float], log: bool = False) -> "Scale":
        """Return the scale that holds some values, with a little room.

        On a logarithmic scale only positive values count; without any it goes from 0.1 to 1.
        """
        known = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
        low, high = (min(known), max(known)) if known else (0.1, 1.0) if log else (0.0, 1.0)
        if log:
            room = max(0.03 * math.log10(high / low), 0.02) if high > low else 0.3
            return cls(low / 10**room, high * 10**room, log)
        room = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
        return cls(low - room if low else 0.0, high + room, log)

    def __call__(self, value: float) -> float:
        """Return where a value lies."""
        if value <= self.low:
            return 0.0
        if value >= self.high:
            return 1.0
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, about: int = 6) -> list[float]:
        """Return about so many round values, in order."""
        if not self.log:
            return self._evenly(about)
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        decades = range(first, last + 1)
        if len(decades) >= 3:
            return [10.0**power for power in decades[:: math.ceil(len(decades) / about)]]
        steps = [m * 10.0**power for power in range(first - 1, last + 1) for m in (1, 2, 5)]
        inside = [float(f"{step:.6g}") for step in steps if self.low <= step <= self.high]
        return inside if len(inside) >= 3 else self._evenly(about)

    def _evenly(self, about: int) -> list[float]:
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / about))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if span / (m * power) <= about)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [float(f"{k * step:.10g}") for k in range(first, last + 1)]


def short(value: float) -> str:
    """Write a number as a tick label: ``0.05``, ``3000``, ``10⁻⁵``."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.10g}"
    mantissa, _, power = f"{value:.3e}".partition("e")
    digits = f"{float(mantissa):g}"
    raised = f"10{str(int(power)).translate(SUPERSCRIPTS)}"
    return raised if digits == "1" else f"{digits}·{raised}"


def thin(numbers: Sequence[float], most: int, log: bool = False) -> list[int]:
    """Return the indices of at most ``most`` of some ascending numbers, spread evenly, with both ends."""
    if len(numbers) <= most:
        return list(range(len(numbers)))
    scale = Scale(numbers[0] or 1, numbers[-1], log)
    kept: dict[int, int] = {}
    for index, number in enumerate(numbers):
        kept[min(int(scale(number) * most), most - 1)] = index  # the last in each slot
    return sorted({0, *list(kept.values())[-(most - 1) :]})
