"""Local steps against torch's autograd and SGD in float32, and a step's cost against its one BLAS call."""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Row
from benchmarks.timing import in_turns, text
from client.problem import Problem
from client.solvers.descent import descend, span_is_cheaper
from client.solvers.loops import span_steps
from common.losses import LOSSES

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

STEPS = 1000
SIZES = (64, 100_000, 200.0), (256, 20_000, 60.0), (1000, 200, 4.0)
"""Examples, weights, and how many times faster the steps have to be."""

TORCH_STEPS = 20
"""How many of its steps torch is timed for: their cost is the same for each."""


def rows(quick: bool) -> Iterator[Row]:
    """Compare at the sizes of the table, or at tiny ones."""
    for count, dimension, target in [(8, 300, 200.0), (40, 20, 4.0)] if quick else SIZES:
        yield against_torch(count, dimension, target, 50 if quick else STEPS)
    for count in (16,) if quick else (64, 512):
        yield against_blas(count)


def against_torch(count: int, dimension: int, target: float, steps: int) -> Row:
    """Time a whole local solve, from a centre to the displacement, in a round after the first."""
    problem, centre = example(count, dimension)
    rate = 1 / problem.beta
    problem.gram  # noqa: B018  kept from the first round on
    ours, all_cores, one_core, read = in_turns(
        lambda: descend(problem, centre, steps, rate, 0.0),
        lambda: torch_steps(problem.rows, centre, TORCH_STEPS, rate, os.cpu_count() or 1),
        lambda: torch_steps(problem.rows, centre, TORCH_STEPS, rate, 1),
        lambda: problem.rows @ centre,
        repeats=5,
    )
    theirs = min(all_cores.median, one_core.median) / TORCH_STEPS * steps
    span = span_is_cheaper(count, problem.size, steps)
    passes = 2 if span else 2 * steps
    limit = passes * read.least
    return Row(
        f"K = {steps} steps, n = {count}, d = {dimension}" + ("" if span else " (primal)"),
        "torch autograd + SGD, float32, all cores or one, whichever is faster",
        f"{text(ours.median)} against {text(theirs)} (all cores {text(all_cores.median / TORCH_STEPS)}, "
        f"one {text(one_core.median / TORCH_STEPS)} a step)",
        theirs / ours.median,
        target,
        limit=f"{ours.least / limit:.2f} × its {passes} passes over the rows",
    )


def against_blas(count: int) -> Row:
    """Time a step on the margins, out of a long local solve."""
    problem, centre = example(count, 4 * count)
    start, gram, dual = problem.forward(centre), problem.gram, np.full(count, 0.5)
    out, gain = np.empty(count), 1 / problem.beta / count
    ours, product = in_turns(
        lambda: span_steps(gram, start, STEPS, 1.0, gain), lambda: np.dot(gram, dual, out=out)
    )
    return Row(
        f"one span step, n = {count}",
        "its n² multiply-adds in one BLAS call",
        f"{text(ours.median / STEPS)} against {text(product.median)}",
        ours.median / STEPS / product.median,
        2.5,
        at_most=True,
        limit=f"{ours.least / STEPS / product.least:.2f} × by the smallest times",
    )


def example(count: int, dimension: int) -> tuple[Problem, Vector]:
    """Return a random problem and a centre that is not zero."""
    rng = np.random.default_rng(count + dimension)
    problem = Problem(rng.standard_normal((count, dimension)) / math.sqrt(dimension), LOSSES["logistic"])
    return problem, 0.1 * rng.standard_normal(dimension)


def torch_steps(Z: Matrix, centre: Vector, steps: int, rate: float, threads: int) -> Vector:
    """Take gradient steps the way everybody does, and return the weights."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    rows = _in_float32(Z)
    weights = torch.tensor(centre, dtype=torch.float32, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss: Any = torch.nn.functional.softplus(-(rows @ weights)).mean()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(before)
    found: Vector = weights.detach().numpy().astype(np.float64)
    return found


def _in_float32(Z: Matrix) -> Any:
    """Return the rows as torch has them, converted once: that is not what is timed."""
    import torch

    if _converted.get("of") is not Z:
        _converted.update({"of": Z, "rows": torch.tensor(Z, dtype=torch.float32)})
    return _converted["rows"]


_converted: dict[str, Any] = {}
