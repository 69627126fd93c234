"""The local solvers: one centre in, one solution out."""

from collections.abc import Hashable
from typing import Any

from client.problem import Problem
from client.solvers.batches import batches
from client.solvers.descent import descend
from client.solvers.projection import project
from common.solution import LocalSolution, SolverSettings

Array = Any


def solve(problem: Problem, centre: Array, settings: SolverSettings, *draw: Hashable) -> LocalSolution:
    """Solve the problem from a centre, in the model's shape, by the solver of the settings.

    Parameters
    ----------
    draw
        What the mini-batches' random numbers are drawn from besides the settings' seed.
    """
    if settings.solver == "projection":
        return project(problem, centre, settings.cuts, settings.min_active)
    rate, decay = settings.rates(problem.smoothness(settings.batch_size > 0))
    dealt = batches(problem.count, settings.batch_size, settings.seed, *draw)
    return descend(problem, centre, settings.local_steps, rate, decay, dealt, settings.min_active)


__all__ = ["descend", "project", "solve"]
