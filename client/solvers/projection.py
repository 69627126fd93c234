"""The Euclidean projection onto a client's constraints ``Z w ≥ 1``."""

from typing import Any

from client.problem import Problem
from client.solvers.descent import solution
from common.active_set import least_distance
from common.solution import LocalSolution

Array = Any


def project(
    problem: Problem, centre: Array, steps: int = 0, rate: float = 0.0, decay: float = 0.0, cuts: int = 1
) -> LocalSolution:
    """Return ``argmin ½‖w − centre‖²  s.t.  Z w ≥ 1``; the step arguments of the signature are not used.

    When the client's own rows are not separable the result is ``"infeasible"``, and the dual a vector
    that proves it: ``Zᵀa ≈ 0`` with ``1ᵀa = 1``.

    Parameters
    ----------
    cuts
        Into how many parts the displacement is dealt, see `solution`.
    """
    multipliers = least_distance(problem.gram, 1.0 - problem.Z @ centre, problem.warm_active)
    if multipliers.result != "infeasible":
        problem.warm_active = multipliers.active
    return solution(problem, multipliers.values, multipliers.changes, multipliers.result, cuts)
