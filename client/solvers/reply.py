"""From a dual to what a client replies: its combination of examples, whole or dealt to several parts."""

from typing import Any

import numpy as np

from client.engine import to_numpy
from client.problem import Problem
from common.errors import UserError
from common.namespace import array_namespace
from common.solution import LocalSolution, Part

Array = Any


def solution(
    problem: Problem,
    dual: Array,
    steps: int,
    result: str = "solved",
    groups: int = 1,
    min_active: int = 1,
) -> LocalSolution:
    """Form the displacement ``Zᵀa`` and the mass ``1ᵀa`` of a final dual ``a ≥ 0`` in the margins' shape.

    A loss without margins has no mass: its dual has signs.

    Parameters
    ----------
    groups
        Into how many parts the active examples are dealt, largest mass first, in turn.
    min_active
        The fewest examples that the reply may be made of.

    Raises
    ------
    UserError
        When it would be made of fewer.
    """
    xp = array_namespace(dual)
    if not problem.loss.has_margin:
        return LocalSolution((_part(problem, dual, 0.0),), problem.count, steps, result)
    masses = problem.per_example(dual)
    active = int(xp.count_nonzero(masses > 0))
    if result != "infeasible" and 0 < active < min_active:
        raise UserError(
            f"a reply would be made of {active} of {problem.count} examples, fewer than "
            f"min-active = {min_active}"
        )
    dealt = deal(dual, masses, active, groups)
    return LocalSolution(
        tuple(_part(problem, share, float(xp.sum(share))) for share in dealt), active, steps, result
    )


def groups_of(active: int, cuts: int, min_active: int = 1) -> int:
    """Return how many parts some active examples make: never one of a single example where there are two."""
    return min(cuts, max(1, active // max(2, min_active)))


def deal(dual: Array, masses: Array, active: int, groups: int) -> list[Array]:
    """Deal a dual's active examples to groups in turn, largest mass first; the groups sum to the dual."""
    if groups == 1:
        return [dual]
    xp = array_namespace(dual)
    order = xp.argsort(masses, descending=True)
    dealt = []
    for group in range(groups):
        mine = order[group:active:groups]
        dealt.append(xp.zeros_like(dual))
        dealt[-1][mine] = dual[mine]
    return dealt


def _part(problem: Problem, dual: Array, mass: float) -> Part:
    return Part(np.ascontiguousarray(to_numpy(problem.adjoint(dual))), mass)
