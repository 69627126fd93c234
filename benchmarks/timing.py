"""Time two things in turns, so that whatever else the machine does meets both."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Action = Callable[[], object]

SHORTEST = 0.02
"""Seconds that one sample lasts at least: shorter actions are repeated in it."""


@dataclass(frozen=True)
class Seconds:
    """What one action took: the median of its samples, and the smallest, for comparisons with a limit."""

    median: float
    least: float


def in_turns(*actions: Action, repeats: int = 7, shortest: float = SHORTEST) -> list[Seconds]:
    """Time the actions one after the other, again and again.

    Parameters
    ----------
    repeats
        Samples of each action, after one run that does not count.
    shortest
        Seconds; an action that takes less is repeated within a sample.
    """
    counts = [_repetitions(action, shortest) for action in actions]
    samples: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for action, count, taken in zip(actions, counts, samples, strict=True):
            taken.append(_seconds(action, count))
    return [Seconds(statistics.median(taken), min(taken)) for taken in samples]


def _repetitions(action: Action, shortest: float) -> int:
    action()
    count = 1
    while (once := _seconds(action, count)) * count < shortest:
        count = max(2 * count, min(int(shortest / max(once, 1e-9)) + 1, 100 * count))
    return count


def _seconds(action: Action, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        action()
    return (time.perf_counter() - began) / count


def text(seconds: float) -> str:
    """Say a time with three digits and a fitting unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
