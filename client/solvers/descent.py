"""Gradient steps on the local loss, with or without a proximal term, kept in dual form."""

from typing import Any

import numpy as np
from array_api_compat import device

from client.problem import Problem
from client.solvers.batches import Batches
from client.solvers.loops import primal_steps, span_steps
from client.solvers.reply import solution
from common.losses import Logistic
from common.namespace import array_namespace
from common.solution import LocalSolution
from common.sparse import is_sparse

Array = Any


def descend(
    problem: Problem,
    centre: Array,
    steps: int,
    rate: float,
    decay: float,
    batches: Batches | None = None,
    min_active: int = 1,
) -> LocalSolution:
    """Take exactly ``steps`` gradient steps on ``f(w) + (decay/2) ‖w − centre‖²`` from the centre.

    The iterate is ``w = centre + Zᵀa``; a step multiplies the dual ``a`` by ``1 − rate·decay`` and
    adds ``(rate/n)·(−ℓ'(Z w))``.  So ``a ≥ 0`` as long as ``rate·decay ≤ 1``, and the displacement is
    formed once, at the end.  ``decay = 0`` is the ``gradient`` solver (Local-GD), ``decay > 0`` the
    ``proximal`` one (Modified Local-GD).

    Parameters
    ----------
    problem
        The client's rows and loss.
    centre
        Where to start, in the model's shape.
    steps, rate, decay
        ``K``, ``η`` and ``λ``; a step on an adaptive loss is shorter than ``η`` where it has to be.
    batches
        The examples that each step sees (Local-SGD); None for all.
    min_active
        The fewest examples that the reply may be made of.
    """
    if batches is None:
        dual = descent_dual(problem, problem.forward(centre), steps, rate, decay)
    else:
        dual = _stochastic_dual(problem, centre, steps, rate, decay, batches)
    return solution(problem, dual, steps, min_active=min_active)


def descent_dual(problem: Problem, start: Array, steps: int, rate: float, decay: float = 0.0) -> Array:
    """Return the dual of full-batch gradient steps from a centre whose margins are ``start``."""
    loss, adaptive = problem.loss, problem.loss.adaptive
    span = span_is_cheaper(problem.count, problem.size, steps)
    if type(loss) is Logistic and isinstance(start, np.ndarray) and (span or not is_sparse(problem.rows)):
        loop, matrix = (span_steps, problem.gram) if span else (primal_steps, problem.rows)
        return loop(matrix, start, steps, 1.0 - rate * decay, rate / problem.count)
    dual = array_namespace(start).zeros_like(start)
    margins, eta = start, rate
    for step in range(steps):
        if adaptive:
            eta = 1 / max(1 / rate, problem.steepness(margins) + decay)
        dual = (1.0 - eta * decay) * dual + (eta / problem.count) * loss.pull(margins)
        if step + 1 < steps:
            margins = start + (problem.images(dual) if span else problem.linear(problem.adjoint(dual)))
    return dual


def _stochastic_dual(
    problem: Problem, centre: Array, steps: int, rate: float, decay: float, batches: Batches
) -> Array:
    """Return the dual of mini-batch steps: ``1/|B|`` takes the place of ``1/n``."""
    dual = array_namespace(centre).zeros_like(problem.forward(centre))
    weights, eta = centre, rate
    for _ in range(steps):
        chosen = array_namespace(dual).asarray(next(batches), device=device(dual))
        batch = problem.part(chosen)
        margins = batch.forward(weights)
        if problem.loss.adaptive:
            eta = 1 / max(1 / rate, batch.steepness(margins) + decay)
        pull = (eta / batch.count) * problem.loss.pull(margins)
        keep = 1.0 - eta * decay
        weights = centre + keep * (weights - centre) + batch.adjoint(pull)
        dual = keep * dual
        dual[chosen] = dual[chosen] + pull
    return dual


def span_is_cheaper(count: int, size: int, steps: int) -> bool:
    """Tell whether steps on the margins, through the Gram matrix, beat steps on the weights.

    Both give the same iterates to rounding.  With ``size`` values in the rows (``n d`` unless they are
    sparse), span costs ``K n² + 2 size`` multiply-adds, primal ``2 K size``.  The Gram matrix itself is
    computed once per run.
    """
    return steps * count**2 + 2 * size < 2 * steps * size
