"""The direction log: what is known of every round's model, and how close it is to the centralized one."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.federation import Federation
from common.geometry import Certificate, angle, certified_angle
from common.reference import Reference
from common.solution import Answer
from strategies import Callback, Costs

Vector = NDArray[np.float64]
Row = dict[str, Any]

HEADER = " round        loss  errors    margin     bound  certified      true     test   seconds"


class Monitor(Callback):
    """Write one row per round.

    A round's row is begun when its model is combined and ended when the next answers have measured it.

    Parameters
    ----------
    federation
        The clients, for the certificate's rounding and the row's counts.
    reference
        The centralized model, where it is known: rows then hold the true angle.
    accuracy
        The held-out accuracy of a model, where there are held-out data.
    write
        Called with every finished row.
    """

    def __init__(
        self,
        federation: Federation,
        write: Callable[[Row], None],
        reference: Reference | None = None,
        accuracy: Callable[[Vector], float] | None = None,
    ) -> None:
        self.reference = reference
        self.accuracy = accuracy
        self.write = write
        self.certificate = Certificate(
            count=federation.largest,
            dimension=federation.scaling.dimension,
            clients=len(federation.clients),
            max_norm=federation.max_norm,
        )
        self.rows: list[Row] = []
        self.best: tuple[float, Row, Vector] | None = None
        self._previous: Vector | None = None
        self._begun: Row = {}

    def measured(self, number: int, weights: Vector, answers: Sequence[Answer]) -> None:
        """Take in the bound of this round's solutions, then end the row of the model they measured."""
        solutions = [solution for answer in answers for solution in answer.solutions]
        self.certificate = self.certificate.add(
            [s.displacement for s in solutions], [s.dual_mass for s in solutions]
        )
        self._previous = weights
        if number == 0:
            return
        norm = float(np.linalg.norm(weights))
        margin = self.certificate.margin(min(answer.measures.margin for answer in answers), norm)
        certified = certified_angle(margin, self.certificate.bound)
        row = {
            "round": number,
            "loss": sum(answer.measures.loss for answer in answers) / len(answers),
            "errors": sum(answer.measures.errors for answer in answers),
            "test_accuracy": self.accuracy(weights) if self.accuracy else None,
            "margin": margin if math.isfinite(margin) else None,
            "margin_bound": self.certificate.bound if math.isfinite(self.certificate.bound) else None,
            "certified_angle_deg": certified,
            "true_angle_deg": angle(weights, self.reference.weights) if self.reference else None,
            "weight_norm": norm,
            **self._begun,
        }
        self.rows.append(row)
        if self.best is None or certified <= self.best[0]:
            self.best = certified, row, weights
        self.write(row)

    def combined(
        self, number: int, weights: Vector, dual_mass: float, answers: Sequence[Answer], costs: Costs
    ) -> None:
        """Begin the row of a new model, which may be a proof of its own."""
        # as many combinations carry a model as are independent, at most
        self.certificate = self.certificate.add([weights], [dual_mass], summed=self.certificate.dimension)
        before = np.zeros_like(weights) if self._previous is None else self._previous
        drifts = [angle(before + answer.solutions[0].displacement, weights) for answer in answers]
        self._begun = {
            "turn_deg": angle(before, weights) if before.any() else None,
            "drift_deg": sum(drifts) / len(drifts),
            "clients": len(answers),
            "missing": [],
            "seconds": {"total": costs.total, "clients": costs.clients, "combine": costs.combine},
            "bytes": {"sent": costs.sent, "received": costs.received},
        }


class StopAtCertifiedAngle(Callback):
    """Stop as soon as the newest model is certified to be within some degrees of the centralized one."""

    def __init__(self, monitor: Monitor, degrees: float) -> None:
        self.monitor = monitor
        self.degrees = degrees

    def measured(self, number: int, weights: Vector, answers: Sequence[Answer]) -> str | None:
        """Compare the row that the monitor just wrote."""
        if number and self.monitor.rows[-1]["certified_angle_deg"] <= self.degrees:
            return "certified-angle"
        return None


def line(row: Row) -> str:
    """Return a row as one aligned line under `HEADER`; a dash where nothing is known."""
    test = "-" if row["test_accuracy"] is None else f"{100 * row['test_accuracy']:.1f}%"
    return (
        f"{row['round']:>6} {row['loss']:>11.4g} {row['errors']:>7} {_number(row['margin'])} "
        f"{_number(row['margin_bound'])} {_degrees(row['certified_angle_deg']):>10} "
        f"{_degrees(row['true_angle_deg']):>9} {test:>8} {row['seconds']['total']:>9.4f}"
    )


def conclusion(row: Row) -> str:
    """Say in words what is known of a run's last model."""
    true = "" if row["true_angle_deg"] is None else f"true angle {_degrees(row['true_angle_deg'])}, "
    return f"{true}certified angle {_degrees(row['certified_angle_deg'])}"


def _number(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.5f'):>9}"


def _degrees(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}°" if value >= 0.1 else f"{value:.2g}°"
