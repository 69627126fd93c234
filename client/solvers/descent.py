"""Gradient steps on the local loss, with or without a proximal term, kept in dual form."""

from typing import Any

from array_api_compat import array_namespace

from client.engine import to_numpy
from client.problem import Problem
from common.solution import LocalSolution, Part

Array = Any


def descend(problem: Problem, centre: Array, steps: int, rate: float, decay: float) -> LocalSolution:
    """Take exactly ``steps`` gradient steps on ``f(w) + (decay/2) ‖w − centre‖²`` from the centre.

    The iterate is ``w = centre + Zᵀa``; a step multiplies the dual ``a`` by ``1 − rate·decay`` and
    adds ``(rate/n)·(−ℓ'(Z w))``.  So ``a ≥ 0`` as long as ``rate·decay ≤ 1``, and the displacement is
    formed once, at the end.  ``decay = 0`` is the ``gradient`` solver (Local-GD), ``decay > 0`` the
    ``proximal`` one (Modified Local-GD).

    Parameters
    ----------
    problem
        The client's rows ``Z`` (n, d) and loss.
    centre
        Where to start, shape (d,).
    steps, rate, decay
        ``K``, ``η`` and ``λ``.
    """
    Z, loss = problem.Z, problem.loss
    keep, gain = 1.0 - rate * decay, rate / problem.count
    start = Z @ centre
    span = span_is_cheaper(problem.count, problem.size, steps)
    dual = array_namespace(start).zeros_like(start)
    margins = start
    for step in range(steps):
        dual = keep * dual + gain * loss.mass(margins)
        if step + 1 < steps:
            margins = start + (problem.gram @ dual if span else Z @ (Z.T @ dual))
    return solution(problem, dual, steps)


def span_is_cheaper(count: int, size: int, steps: int) -> bool:
    """Tell whether steps on the margins, through the Gram matrix, beat steps on the weights.

    Both give the same iterates to rounding.  With ``size`` values in the rows (``n d`` unless they are
    sparse), span costs ``K n² + 2 size`` multiply-adds, primal ``2 K size``.  The Gram matrix itself is
    computed once per run.
    """
    return steps * count**2 + 2 * size < 2 * steps * size


def solution(
    problem: Problem, dual: Array, steps: int, result: str = "solved", cuts: int = 1
) -> LocalSolution:
    """Form the displacement ``Zᵀa`` and the mass ``1ᵀa`` of a final dual ``a ≥ 0``, shape (n,).

    With ``cuts > 1`` the active examples are dealt, largest multiplier first, to that many parts in
    turn; never a part of one example where there are two.
    """
    xp = array_namespace(dual)
    active = int(xp.count_nonzero(dual > 0))
    parts = tuple(
        Part(to_numpy(problem.Z.T @ dealt), float(xp.sum(dealt)))
        for dealt in deal(dual, active, min(cuts, max(1, active // 2)))
    )
    return LocalSolution(parts, active, steps, result)


def deal(dual: Array, active: int, groups: int) -> list[Array]:
    """Deal the active entries of a dual to groups in turn, largest first; the groups sum to the dual."""
    if groups == 1:
        return [dual]
    xp = array_namespace(dual)
    order = xp.argsort(dual, descending=True)
    dealt = []
    for group in range(groups):
        mine = order[group:active:groups]
        dealt.append(xp.zeros_like(dual))
        dealt[-1][mine] = dual[mine]
    return dealt
