"""The benchmarks run at tiny sizes, compare like with like, and say what they found."""

import importlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from benchmarks import fedavg_app, local_steps, projection
from benchmarks.table import HEADER, Row, page
from benchmarks.timing import in_turns, text
from client.problem import Problem
from client.solvers.descent import descend
from client.solvers.projection import project
from common.losses import LOSSES
from server.grids.in_process import InProcessGrid


@pytest.mark.parametrize("module", ["local_steps", "projection", "in_process", "growth"])
def test_every_row_is_measured_at_tiny_sizes(module: str) -> None:
    rows = list(importlib.import_module(f"benchmarks.{module}").rows(True))
    assert rows
    for row in rows:
        assert math.isfinite(row.ratio)
        assert row.ratio > 0
        assert len(row.cells()) == len(HEADER)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "most"), [("stream", 1000.0), ("memory", 10_000.0)])
def test_rows_of_several_processes_are_measured(module: str, most: float) -> None:
    rows = list(importlib.import_module(f"benchmarks.{module}").rows(True))
    assert rows
    assert all(0 < row.ratio < most for row in rows)


def test_the_stock_app_notes_the_end_of_every_round(tmp_path: Path) -> None:
    out = tmp_path / "times.json"
    config: dict[str, Any] = {"clients": 2, "dimension": 3, "rounds": 2, "out": str(out)}
    fedavg_app.server(InProcessGrid(fedavg_app.client, [{}] * 2, {}), Context(1, 0, {}, RecordDict(), config))
    start, first, second = json.loads(out.read_text(encoding="utf-8"))
    assert start < first < second


@pytest.mark.parametrize(("count", "dimension"), [(8, 300), (40, 20)])
def test_torch_takes_the_same_steps(count: int, dimension: int) -> None:
    problem, centre = local_steps.example(count, dimension)
    rate = 1 / problem.beta
    ours = centre + descend(problem, centre, 30, rate, 0.0).displacement
    theirs = local_steps.torch_steps(problem.rows, centre, 30, rate, 1)
    assert np.allclose(ours, theirs, rtol=0, atol=1e-5)
    assert not np.allclose(ours, centre, rtol=0, atol=1e-2)


def test_the_qp_library_has_the_same_projection() -> None:
    Z = projection.example(30, 200)
    problem = Problem(Z, LOSSES["logistic"])
    ours = project(problem, np.zeros(200)).displacement
    assert np.allclose(ours, Z.T @ projection.daqp_dual(problem.gram), atol=1e-8)
    assert projection.kkt(Z, ours) < projection.KKT
    assert projection.kkt(Z, 0.99 * ours) > 1e-3
    assert projection.kkt(Z, 1.01 * ours) > 1e-3


def test_timing_counts_every_action_in_turns() -> None:
    seen: list[str] = []
    once, twice = in_turns(lambda: seen.append("a"), lambda: seen.append("b"), repeats=3, shortest=0.0)
    assert 0 < once.least <= once.median
    assert 0 < twice.least <= twice.median
    assert seen[-6:] == ["a", "b"] * 3
    assert [text(value) for value in (1.234, 0.0456, 7.8e-6)] == ["1.23 s", "45.6 ms", "7.8 µs"]


@pytest.mark.parametrize(
    ("ratio", "target", "at_most", "reached"),
    [
        (5.0, 4.0, False, "yes"),
        (3.0, 4.0, False, "**no**"),
        (5.0, 4.0, True, "**no**"),
        (3.0, None, True, ""),
    ],
)
def test_a_row_says_whether_its_target_is_reached(
    ratio: float, target: float | None, at_most: bool, reached: str
) -> None:
    row = Row("this", "that", "1 s against 2 s", ratio, target, at_most)
    assert row.cells()[5] == reached
    written = page([row], ["`other`"], "python -m benchmarks", "0.1, 0.2")
    assert f"| {ratio:g} × |" in written
    assert "Not measured in this run: `other`." in written
    assert "numpy" in written
