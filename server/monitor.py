"""The direction log: what is known of every round's model, and how close it is to the centralized one."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from logging import INFO

import numpy as np
from flwr.common.logger import log
from numpy.typing import NDArray

from common.federation import Federation
from common.geometry import Certificate, Combination, angle
from common.reference import Reference
from common.solution import Answer
from server.lines import Row, not_separable
from strategies import Callback, Costs, Turnout

Vector = NDArray[np.float64]

MOST_NAMED = 32
"""Of more clients a row does not name each one's drift."""

DRIFT_BYTES = 2**26
"""The clients' local models stay in memory up to so many bytes together, for the angles to the model that
becomes of them; beyond it the drift is not known."""

SEPARABLE = 1e-7
"""No margin above this share of the largest row norm is proof enough that the data are not separable."""


@dataclass(frozen=True)
class MonitorState:
    """What a monitor remembers after a combine: the bounds, the best model and the row that is begun.

    ``own`` is the newest model's own proof, ``last`` the last row written.
    """

    certificate: Certificate
    own: Certificate
    best: tuple[float, Row, Vector] | None
    begun: Row
    last: Row | None


class Monitor(Callback):
    """Write one row per round.

    A round's row is begun when its model is combined and ended when the next answers have measured it.

    Parameters
    ----------
    federation
        The clients, for the certificate's rounding and the row's counts.
    reference
        The centralized model, where it is known: rows then hold the true angle.
    score
        What a model scores on held-out rows, where there are any: the accuracy, or R² of a regression.
    write
        Called with every finished row.
    """

    def __init__(
        self,
        federation: Federation,
        write: Callable[[Row], None],
        reference: Reference | None = None,
        score: Callable[[Vector], float] | None = None,
    ) -> None:
        self.loss = federation.loss
        self.reference = reference
        self.score = score
        self.write = write
        self.certificate = self._blank = self._own = nothing_known(federation)
        self._passed = Combination(federation.size)  # the solutions of the round so far
        self._active: list[int] = []
        self._local: dict[str, Vector] = {}
        self._drifts = 8 * federation.size * len(federation.clients) <= DRIFT_BYTES
        self._disproved = False  # by the clients' solutions one by one, or by what the server made of them
        self.last: Row | None = None  # not all: a run may have very many rounds
        self.best: tuple[float, Row, Vector] | None = None
        self._previous: Vector | None = None
        self._begun: Row = {}

    def answered(self, number: int, weights: Vector, answer: Answer) -> None:
        """Add up what the bound and the row need of an answer, so that none need be kept."""
        self._previous = weights
        for solution in answer.solutions:
            self._passed.add(solution.displacement, solution.dual_mass)
            self._active.append(solution.active)
        if answer.solutions and self._drifts:
            centre = answer.centres[0] if answer.centres else weights
            self._local[answer.client] = centre + answer.solutions[0].displacement

    def measured(self, number: int, weights: Vector, turnout: Turnout) -> None:
        """Take in the bound of this round's solutions, then end the row of the model they measured."""
        before = self.separable
        self.certificate = self.certificate.take(self._passed)
        self._passed = Combination(self.certificate.dimension)
        if before and not self.separable:
            log(INFO, "%s", not_separable(self.certificate.bound))
        if number == 0:
            return
        measures = list(turnout.measures.values())
        row = {
            "round": number,
            "loss": sum(m.loss for m in measures) / len(measures),
            **self._margins(weights, turnout),
            **self._distance(weights),
            "test_accuracy" if self.loss.labels != "numbers" else "test_r2": (
                self.score(weights) if self.score else None
            ),
            "weight_norm": float(np.linalg.norm(weights)),
            "clients": len(measures),
            "missing": list(turnout.missing),
            **self._begun,
        }
        self.last = row
        # what a model is kept for: its certificate, or where there can be none its loss
        merit = row["loss"] if not self.loss.has_margin else row["certified_angle_deg"] or 180.0
        if self.best is None or merit <= self.best[0]:
            self.best = merit, row, weights
        self.write(row)

    def disproved(self) -> None:
        """Know of no margin and no bound any more, whatever the clients' solutions add up to."""
        self._disproved = True

    def changed(self, client: str, federation: Federation) -> None:
        """Forget every bound, the best model, and a centralized model of other data than today's."""
        self.certificate = self._blank = self._own = nothing_known(federation)
        self.reference, self.best, self._disproved = None, None, False
        self._forget_answers()

    def _forget_answers(self) -> None:
        self._passed, self._active, self._local = Combination(self.certificate.dimension), [], {}

    @property
    def state(self) -> MonitorState:
        """What it remembers."""
        return MonitorState(self.certificate, self._own, self.best, self._begun, self.last)

    def resume(self, state: MonitorState) -> None:
        """Remember what another monitor did."""
        self.certificate, self._own, self.best, self._begun, self.last = (
            state.certificate,
            state.own,
            state.best,
            state.begun,
            state.last,
        )

    @property
    def separable(self) -> bool:
        """Whether nothing has yet proved that the data are not linearly separable."""
        return not self._disproved and self.certificate.bound > SEPARABLE * self.certificate.max_norm

    def _margins(self, weights: Vector, turnout: Turnout) -> Row:
        """Return what the clients' margins say of a model: nothing where there are none, or none is best.

        The smallest margin is not known while somebody is missing, so nothing is certified; the bound holds
        whoever gave it.
        """
        row: Row = dict.fromkeys(("errors", "margin", "margin_bound", "certified_angle_deg"))
        if not self.loss.has_margin:
            return row
        row["errors"] = sum(measures.errors for measures in turnout.measures.values())
        if not self.separable:
            return row
        bound = self.certificate.bound if math.isfinite(self.certificate.bound) else None
        if turnout.missing:
            return row | {"margin_bound": bound, "certified_angle_deg": 180.0}
        smallest = min(measures.margin for measures in turnout.measures.values())
        margin = self.certificate.margin(smallest, float(np.linalg.norm(weights)))
        self.certificate = self.certificate.reached(margin)
        own = replace(self._own, floor=self.certificate.floor)
        return row | {
            "margin": margin if math.isfinite(margin) else None,
            "margin_bound": bound,
            "certified_angle_deg": min(self.certificate.angle(weights, margin), own.angle(weights, margin)),
        }

    def _distance(self, weights: Vector) -> Row:
        """Return how far a model is from the centralized one, where that is known."""
        if self.reference is None:
            return {"true_angle_deg": None, "reference_distance": None}
        known = self.reference.weights
        gap = float(np.linalg.norm(weights - known)) / float(np.linalg.norm(known) or 1.0)
        return {
            "true_angle_deg": angle(weights.reshape(-1), known.reshape(-1)),
            # a direction has no length to compare
            "reference_distance": None if self.loss.has_margin and self.reference.separable else gap,
        }

    def combined(
        self, number: int, weights: Vector, dual_mass: float, turnout: Turnout, costs: Costs
    ) -> None:
        """Begin the row of a new model, which may be a proof of its own."""
        # a model is summed from all rounds' solutions, or from as many cuts as are independent, at most
        summed = 2 * number * self.certificate.clients + self.certificate.dimension
        own = self._blank.add([weights], [dual_mass], summed)
        if own.proof is not None:  # it points where the model does: no need for a vector of its own
            own = replace(own, proof=weights.reshape(-1))
        self._own = own
        if own.bound < self.certificate.bound:
            self.certificate = replace(own, floor=self.certificate.floor)
        before = np.zeros_like(weights) if self._previous is None else self._previous
        drifts = {
            client: angle(model.reshape(-1), weights.reshape(-1)) for client, model in self._local.items()
        }
        by_client = {client: float(f"{drift:.4g}") for client, drift in drifts.items()}
        self._begun = {
            "active": {
                "least": min((a for a in self._active if a), default=0),
                "most": max(self._active, default=0),
            },
            "turn_deg": angle(before.reshape(-1), weights.reshape(-1)) if before.any() else None,
            "drift_deg": sum(drifts.values()) / len(drifts) if drifts else None,
            "client_drift_deg": by_client if 0 < len(by_client) <= MOST_NAMED else None,
            "without": list(turnout.missing),
            "seconds": {"total": costs.total, "clients": costs.clients, "combine": costs.combine},
            "bytes": {"sent": costs.sent, "received": costs.received},
        }
        self._forget_answers()


def nothing_known(federation: Federation) -> Certificate:
    """Return the certificate of clients of whom no bound is known yet."""
    return Certificate(
        count=federation.largest,
        dimension=federation.size,
        clients=len(federation.clients),
        max_norm=federation.reach,
    )


class StopAtCertifiedAngle(Callback):
    """Stop as soon as the newest model is certified to be within some degrees of the centralized one."""

    def __init__(self, monitor: Monitor, degrees: float) -> None:
        self.monitor = monitor
        self.degrees = degrees

    def measured(self, number: int, weights: Vector, turnout: Turnout) -> str | None:
        """Compare the row that the monitor just wrote."""
        certified = self.monitor.last["certified_angle_deg"] if number and self.monitor.last else None
        return "certified-angle" if certified is not None and certified <= self.degrees else None


class StopIfNotSeparable(Callback):
    """Stop as soon as the data are proved not to be separable: nothing to find for a max-margin method."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def measured(self, number: int, weights: Vector, turnout: Turnout) -> str | None:
        """Ask the monitor."""
        return None if self.monitor.separable or not number else "not-separable"
