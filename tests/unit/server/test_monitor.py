"""The direction log: every number of a row by hand for two clients in two dimensions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from common.federation import Client, Federation
from common.handshake import Preparation
from common.reference import Reference
from common.scaling import Scaling
from common.solution import Answer, LocalSolution, Measures, Part
from server.monitor import Monitor, StopAtCertifiedAngle
from strategies import Costs
from tests.problems import turnout

FEDERATION = Federation(
    tuple(Client(k, f"client-{k}", 3 + k, "", max_norm=1.0, beta=0.25) for k in range(2)),
    Preparation(Scaling.identity(2, intercept=False), ("0", "1")),
    norm=1.0,
)
COSTS = Costs(total=0.5, clients=0.25, combine=0.125, sent=10, received=20)
ZERO, RIGHT, DIAGONAL = np.zeros(2), np.array([2.0, 0.0]), np.array([3.0, 3.0])


def solved(client: str, move: tuple[float, float], mass: float, *measured: float) -> Answer:
    """An answer with one displacement and (loss, smallest margin, errors)."""
    loss, margin, errors = measured
    return Answer(
        client,
        (LocalSolution((Part(np.array(move), mass),), 1, 1),),
        Measures(loss, margin, int(errors), count=4),
    )


def evaluated(client: str, *measured: float) -> Answer:
    loss, margin, errors = measured
    return Answer(client, (), Measures(loss, margin, int(errors), count=4))


def heard(monitor: Monitor, number: int, weights: NDArray[np.float64], answers: Sequence[Answer]) -> None:
    """Let the answers pass the monitor, and end them."""
    for answer in answers:
        monitor.answered(number, weights, answer)
    monitor.measured(number, weights, turnout(answers))


def two_rounds(**arguments: Any) -> tuple[Monitor, list[dict[str, Any]]]:
    """From zero to (2, 0), then to (3, 3)."""
    written: list[dict[str, Any]] = []
    monitor = Monitor(FEDERATION, written.append, **arguments)
    answers = [solved("a", (2.0, 0.0), 4.0, 0.7, 0.0, 2), solved("b", (0.0, 2.0), 4.0, 0.7, 0.0, 2)]
    heard(monitor, 0, ZERO, answers)
    assert written == [], "the initial model has no row"
    monitor.combined(1, RIGHT, 0.0, turnout(answers), COSTS)
    assert written == [], "its loss is not known yet"
    answers = [solved("a", (0.0, 1.0), 2.0, 0.5, 0.2, 0), solved("b", (1.0, 0.0), 1.0, 0.25, -0.4, 1)]
    heard(monitor, 1, RIGHT, answers)
    monitor.combined(2, DIAGONAL, 0.0, turnout(answers), COSTS)
    assert len(written) == 1
    heard(monitor, 2, DIAGONAL, [evaluated("a", 0.125, 0.6, 0), evaluated("b", 0.0625, 0.9, 0)])
    assert written[-1] == monitor.last
    return monitor, written


def test_rows_by_hand() -> None:
    _, (first, second) = two_rounds()
    assert first["round"] == 1
    assert (first["loss"], first["errors"]) == (0.375, 1)
    assert first["weight_norm"] == 2.0
    assert first["margin"] == pytest.approx(-0.2, rel=1e-12)  # the smaller of 0.2 and -0.4, over the norm
    # bounds: ‖(2, 2)‖/8 of round 1, ‖(1, 1)‖/3 of round 2; the smaller one is kept
    assert first["margin_bound"] == pytest.approx(math.sqrt(8) / 8, rel=1e-12)
    assert first["certified_angle_deg"] == 180.0
    assert first["turn_deg"] is None, "the model before was zero"
    assert first["drift_deg"] == pytest.approx((0 + 90) / 2)  # local models (2, 0) and (0, 2) against (2, 0)
    assert sorted(first["client_drift_deg"].values()) == [0, 90]
    assert (first["clients"], first["missing"]) == (2, [])
    assert first["seconds"] == {"total": 0.5, "clients": 0.25, "combine": 0.125}
    assert first["bytes"] == {"sent": 10, "received": 20}

    assert second["round"] == 2
    assert (second["loss"], second["errors"]) == (0.09375, 0)
    assert second["weight_norm"] == pytest.approx(math.sqrt(18))
    assert second["margin"] == pytest.approx(0.6 / math.sqrt(18), rel=1e-12)
    assert second["margin_bound"] == first["margin_bound"]
    # the model is parallel to the proof (2, 2)/8, so it counts as its own: arccos √(m/U)
    certified = math.degrees(math.acos(math.sqrt((0.6 / math.sqrt(18)) / (math.sqrt(8) / 8))))
    assert second["certified_angle_deg"] == pytest.approx(certified, abs=1e-5)
    assert second["certified_angle_deg"] >= certified
    assert second["turn_deg"] == pytest.approx(45.0)
    # local models (2, 1) and (3, 0) against (3, 3)
    assert second["drift_deg"] == pytest.approx((45 - math.degrees(math.atan2(1, 2)) + 45) / 2)


def test_bounds_are_rounded_outwards() -> None:
    _, (_, second) = two_rounds()
    assert second["margin"] < 0.6 / float(np.linalg.norm(DIAGONAL))
    assert second["margin_bound"] > math.sqrt(8) / 8


def test_a_model_with_a_dual_mass_is_a_bound_by_itself() -> None:
    # ‖(2, 2)‖/8 of the clients' solutions, ‖(3, 3)‖/36 of the model, whose own margin is just that
    written: list[dict[str, Any]] = []
    monitor = Monitor(FEDERATION, written.append)
    answers = [solved("a", (2.0, 0.0), 4.0, 0.7, 0.0, 2), solved("b", (0.0, 2.0), 4.0, 0.7, 0.0, 2)]
    heard(monitor, 0, ZERO, answers)
    monitor.combined(1, DIAGONAL, 36.0, turnout(answers), COSTS)
    heard(monitor, 1, DIAGONAL, [evaluated("a", 0.125, 0.5, 0), evaluated("b", 0.0625, 0.9, 0)])
    monitor.combined(2, DIAGONAL, 0.0, turnout(answers), COSTS)  # no mass, no news
    heard(monitor, 2, DIAGONAL, [evaluated("a", 0.125, 0.5, 0), evaluated("b", 0.0625, 0.9, 0)])
    for row in written:
        assert row["margin_bound"] == pytest.approx(math.sqrt(18) / 36, rel=1e-12)
        assert row["margin_bound"] > math.sqrt(18) / 36
        assert 0 < row["certified_angle_deg"] < 1e-4


def test_what_is_not_known_is_null() -> None:
    _, rows = two_rounds()
    assert [(row["test_accuracy"], row["true_angle_deg"]) for row in rows] == [(None, None)] * 2
    written: list[dict[str, Any]] = []
    monitor = Monitor(FEDERATION, written.append)
    answers = [solved("a", (0.0, 0.0), 0.0, 0.7, 0.0, 2)]  # satisfied already: no dual mass
    heard(monitor, 0, ZERO, answers)
    monitor.combined(1, ZERO, 0.0, turnout(answers), COSTS)
    heard(monitor, 1, ZERO, answers)
    [row] = written
    assert (row["margin"], row["margin_bound"]) == (None, None)
    assert row["certified_angle_deg"] == 180.0
    assert (row["turn_deg"], row["drift_deg"]) == (None, 180.0)


def test_true_angle_and_accuracy_are_of_the_rows_own_model() -> None:
    def accuracy(weights: NDArray[np.float64]) -> float:
        return float(weights[1] / 4)

    reference = Reference(np.array([0.0, 7.0]), margin=1.0, bound=1.0, error_deg=0.0)
    _, rows = two_rounds(reference=reference, score=accuracy)
    assert [row["true_angle_deg"] for row in rows] == pytest.approx([90.0, 45.0])
    assert [row["test_accuracy"] for row in rows] == [0.0, 0.75]


def test_the_best_model_has_the_smallest_certified_angle_and_the_latest_of_equals() -> None:
    monitor, rows = two_rounds()
    assert monitor.best is not None
    assert monitor.best[1] is rows[1]
    better = monitor.best[0]
    answers = [solved("a", (0.0, 0.0), 0.0, 0.1, -1.0, 1)]
    monitor.combined(3, RIGHT, 0.0, turnout(answers), COSTS)
    heard(monitor, 3, RIGHT, answers)
    assert monitor.best[0] == better, "a worse one does not replace it"
    assert np.array_equal(monitor.best[2], DIAGONAL)

    written: list[dict[str, Any]] = []
    monitor = Monitor(FEDERATION, written.append)
    for number, weights in enumerate([ZERO, RIGHT, DIAGONAL]):
        heard(monitor, number, weights, answers)  # never certified
        monitor.combined(number + 1, weights, 0.0, turnout(answers), COSTS)
    assert monitor.best is not None
    assert np.array_equal(monitor.best[2], DIAGONAL)


def test_stop_at_certified_angle_looks_at_the_newest_row() -> None:
    monitor, rows = two_rounds()
    angle = rows[-1]["certified_angle_deg"]
    assert StopAtCertifiedAngle(monitor, angle + 1).measured(2, DIAGONAL, turnout([])) == "certified-angle"
    assert StopAtCertifiedAngle(monitor, angle - 1).measured(2, DIAGONAL, turnout([])) is None
    assert StopAtCertifiedAngle(monitor, 0.0).measured(2, DIAGONAL, turnout([])) is None
    assert StopAtCertifiedAngle(Monitor(FEDERATION, print), 89.0).measured(0, ZERO, turnout([])) is None
