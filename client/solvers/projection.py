"""The Euclidean projection onto a client's constraints "margins ≥ 1"."""

from typing import Any

from client.problem import Problem
from client.solvers.descent import descent_dual
from client.solvers.exchange import by_exchange
from client.solvers.reply import groups_of, solution
from common.namespace import array_namespace
from common.solution import LocalSolution

Array = Any

HIDING_STEPS = 3
"""The gradient steps after a projection that would be made of too few examples."""


def project(problem: Problem, centre: Array, cuts: int = 1, min_active: int = 1) -> LocalSolution:
    """Return ``argmin ½‖w − centre‖²  s.t.  all margins of w are ≥ 1``.

    When the client's own rows are not separable the result is ``"infeasible"``, and the dual a vector
    that proves it: ``Zᵀa ≈ 0`` with ``1ᵀa = 1``.

    Parameters
    ----------
    cuts
        Into how many parts the displacement may be dealt.
    min_active
        A projection made of fewer examples is blended: a few gradient steps from where it ends add all the
        others to it.  That is not a projection any more, but still a non-negative combination of examples.
    """
    margins = problem.forward(centre)
    short = 1.0 - margins.reshape(-1)
    # It starts from the question alone. The active set of the round before would do as well, but the last
    # bits depend on it where a multiplier is but rounding; so a run that goes on from a checkpoint, with
    # clients that have forgotten all, is the same to the bit.
    found = by_exchange(problem.constraint_gram, short)
    dual = found.values.reshape(margins.shape)
    if found.result == "infeasible":
        return solution(problem, dual, found.changes, found.result)
    masses = problem.per_example(dual)
    active = int(array_namespace(masses).count_nonzero(masses > 0))
    if 0 < active < min_active:
        reached = margins + problem.images(dual)
        dual = dual + descent_dual(problem, reached, HIDING_STEPS, 1 / problem.smoothness())
    groups = groups_of(active, cuts, min_active)
    return solution(problem, dual, found.changes, found.result, groups, min_active)
