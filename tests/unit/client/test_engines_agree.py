"""The same solvers over numpy and over torch give the same numbers."""

import numpy as np
import pytest

from client.engine import to_engine, to_numpy
from client.problem import Problem
from client.solvers import solve
from common.losses import LOSSES
from common.solution import SolverSettings

torch = pytest.importorskip("torch")

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("solver", ["gradient", "proximal", "projection"])
def test_numpy_and_torch_agree_on_random_problems(solver: str, device: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        n, d = rng.integers(1, 40), rng.integers(2, 80)
        rows = rng.normal(size=(n, d))
        teacher = rng.normal(size=d)
        Z = rows * np.sign(rows @ teacher)[:, None] / np.linalg.norm(rows, axis=1).max()
        centre = rng.normal(size=d)
        solutions, measures = [], []
        for engine in ("numpy", "torch"):
            where = device if engine == "torch" else "cpu"
            problem = Problem(to_engine(Z, engine, where), LOSSES["logistic"])
            start = to_engine(centre, engine, where)
            settings = SolverSettings(solver, local_steps=30, regularization=0.01)
            solutions.append(solve(problem, start, settings))
            measures.append(problem.measure(start))
        ours, theirs = solutions
        scale = max(float(np.linalg.norm(ours.displacement)), 1e-300)
        assert np.linalg.norm(ours.displacement - theirs.displacement) <= 1e-12 * scale
        assert ours.dual_mass == pytest.approx(theirs.dual_mass, rel=1e-12)
        assert (ours.active, ours.result) == (theirs.active, theirs.result)
        if solver != "projection":  # how many changes it takes depends on a guess, which may be but rounding
            assert ours.steps == theirs.steps
        assert measures[0].loss == pytest.approx(measures[1].loss, rel=1e-13)
        assert measures[0].margin == pytest.approx(measures[1].margin, rel=1e-12)


def test_arrays_survive_the_way_to_torch_and_back() -> None:
    array = np.random.default_rng(0).normal(size=(3, 4))
    there = to_engine(array, "torch", "cpu")
    assert there.dtype == torch.float64
    np.testing.assert_array_equal(to_numpy(there), array)
