"""Runs that differ in their seed only are one variant: what it reaches, from the best seed to the worst."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.report.palette import DASHES
from server.report.reading import Run

CERTIFIED, TRUE = "certified_angle_deg", "true_angle_deg"
ROUNDS, MEGABYTES = "rounds", "MB sent by a client"
"""What is spent."""

Values = list[float | None]


@dataclass(frozen=True)
class Variant:
    """Runs of one strategy with the same settings, one for each seed; ``local_steps`` 0 for projections."""

    strategy: str
    solver: str
    local_steps: int
    alpha: float
    label: str
    dash: str
    runs: Sequence[Run]

    @property
    def rounds(self) -> int:
        """Of the longest run."""
        return max(len(run.rows) for run in self.runs)

    def spent(self, what: str) -> list[float]:
        """Return what each round has cost so far, the median over the seeds."""
        return _list(np.median([_until(spent(run, what), self.rounds) for run in self.runs], axis=0))

    def angles(self, key: str) -> tuple[Values, Values, Values]:
        """Return the least, median and largest angle of each round; a run that has stopped keeps its last."""
        table = np.array([_until(_angles(run, key), self.rounds) for run in self.runs])
        low, middle, high = (_known(reduce(table, axis=0)) for reduce in (np.min, np.median, np.max))
        return low, middle, high


def variants(runs: Sequence[Run]) -> list[Variant]:
    """Group the runs that have rows into variants, in the order of their first runs."""
    groups: dict[tuple[str, str, int, float], list[Run]] = {}
    for run in (run for run in runs if run.rows):
        config = run.config
        steps = 0 if config["solver"] == "projection" else config["local-steps"]
        groups.setdefault((config["strategy"], config["solver"], steps, config["alpha"]), []).append(run)
    solvers = Counter(strategy for strategy, _ in {key[:2] for key in groups})
    alphas = len({key[3] for key in groups}) > 1
    found: list[Variant] = []
    for (strategy, solver, steps, alpha), own in groups.items():
        words = [f"{strategy}/{solver}" if solvers[strategy] > 1 else strategy]
        words += [f"K={steps}"] * bool(steps) + [f"α={alpha:g}"] * alphas
        dash = DASHES[sum(variant.strategy == strategy for variant in found) % len(DASHES)]
        found.append(Variant(strategy, solver, steps, alpha, " ".join(words), dash, own))
    return found


def spent(run: Run, what: str) -> list[float]:
    """Return what a run has cost until each of its rounds: rounds, or megabytes that a client has sent."""
    if what == ROUNDS:
        return [float(row["round"]) for row in run.rows]
    return _list(np.cumsum([row["bytes"]["received"] / max(row["clients"], 1) / 1e6 for row in run.rows]))


def cost(run: Run, key: str, target: float, what: str) -> float | None:
    """Return what a run has cost when an angle was within a target for the first time; None if never."""
    within = (index for index, angle in enumerate(_angles(run, key)) if angle <= target)
    index = next(within, None)
    return None if index is None else spent(run, what)[index]


def _angles(run: Run, key: str) -> list[float]:
    """Return an angle of every row; infinite where it is not known, or nothing is certified."""
    return [math.inf if value is None or value >= 180 else value for value in run.column(key)]


def _until(values: list[float], count: int) -> list[float]:
    return values + [values[-1]] * (count - len(values))


def _known(values: NDArray[np.float64]) -> Values:
    return [value if math.isfinite(value) else None for value in _list(values)]


def _list(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in values]
