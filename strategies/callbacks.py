"""What watches a run: the monitor, a checkpoint, a stop rule."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import MetricRecord
from numpy.typing import NDArray

from common.federation import Federation
from common.records import record_of
from common.solution import Answer, Measures

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes of one round.

    ``clients`` runs from the first message sent to the last reply, ``combine`` from there to the new model;
    what can be done while some clients still compute is done then.
    """

    total: float
    clients: float
    combine: float
    sent: int
    received: int


@dataclass(frozen=True)
class Turnout:
    """Who answered in a round, with what they measured, and who is missing; both in the order of names."""

    measures: Mapping[str, Measures]
    missing: tuple[str, ...] = ()


def summarise(turnout: Turnout) -> MetricRecord:
    """Return loss, errors and examples of those who answered, and the smallest margin if all did."""
    measures = list(turnout.measures.values())
    told: dict[str, float] = {
        "loss": sum(m.loss for m in measures) / len(measures),
        "errors": sum(m.errors for m in measures),
        "num-examples": sum(m.count for m in measures),
    }
    if not turnout.missing:
        told["margin"] = min(m.margin for m in measures)
    return record_of(MetricRecord, told)


class Callback:
    """Something that watches a run."""

    def answered(self, number: int, weights: Vector, answer: Answer) -> None:
        """Take an answer as it passes, to a question that came with the model of round ``number``.

        Answers come in the order of the clients' names, and none is kept: the round's memory does not grow
        with the number of clients, unless a callback holds on to them.
        """

    def measured(self, number: int, weights: Vector, turnout: Turnout) -> str | None:
        """Take what all answers together measured of the model of round ``number`` (0: the initial one).

        Returning a word ends the run with that model; the word says why.
        """
        return None

    def combined(
        self, number: int, weights: Vector, dual_mass: float, turnout: Turnout, costs: Costs
    ) -> None:
        """Take the new model of round ``number``, its dual mass, and whose answers it was combined from."""

    def disproved(self) -> None:
        """Take note that the round's answers, which have passed, prove the data not to be separable."""

    def changed(self, client: str, federation: Federation) -> None:
        """Take note that a client's data are not those of before: no bound known so far holds any more.

        The answers of the round that have passed do not count; it begins anew.
        """
