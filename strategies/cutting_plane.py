"""Cutting planes: the exact centralized max-margin model, from the clients' projections."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.active_set import least_distance
from common.errors import NotSeparable
from common.federation import Federation
from common.solution import Answer, SolverSettings
from strategies.base import LocalSolveStrategy

Vector = NDArray[np.float64]
PROJECTION = SolverSettings(solver="projection", cuts=4)

IDLE_ROUNDS = 8
"""A cut that has not carried any of the model for this many rounds is dropped."""


@dataclass(frozen=True)
class Cut:
    """``normal · w ≥ 1`` for every model with margins of at least 1 on the client's examples.

    ``weight`` is its multiplier in the model, ``idle`` for how many rounds that has been zero.
    """

    client: str
    normal: Vector
    weight: float = 0.0
    idle: int = 0


@dataclass(frozen=True)
class CutState:
    """The model (d,), the cuts and their Gram matrix, and the shortest model known to be feasible."""

    weights: Vector
    cuts: tuple[Cut, ...]
    gram: NDArray[np.float64]
    feasible: Vector | None


class CuttingPlane(LocalSolveStrategy[CutState]):
    """``w = argmin ½‖w‖²  s.t.  p·w ≥ 1`` for all cuts ``p`` that the clients' projections gave so far.

    A projection ``w − c = Zᵀa`` is a cut ``p = Zᵀa / 1ᵀa`` that every model with margins of at least 1
    satisfies, the max-margin model too (Kelley 1960).  Each client projects three centres: the model;
    the model less the client's own cuts' share, which gives the exact step given everybody else; and the
    midpoint between the model and the best feasible point.  The model is its own certificate:
    ``γ* ≤ ‖w‖ / Σ weights``.
    """

    def __init__(self, settings: SolverSettings = PROJECTION, federation: Federation | None = None) -> None:
        super().__init__(settings, federation)

    def init(self, weights: Vector) -> CutState:
        """Start without cuts; the initial model is only the first centre."""
        return CutState(np.asarray(weights, np.float64), (), np.zeros((0, 0)), None)

    def centres(self, state: CutState, client: str) -> tuple[Vector, ...]:
        """The model; the model without the client's share; halfway to the best feasible point."""
        centres = [state.weights]
        share = sum(
            (c.weight * c.normal for c in state.cuts if c.client == client), np.zeros_like(state.weights)
        )
        if share.any():
            centres.append(state.weights - share)
        if state.feasible is not None:
            centres.append((state.weights + state.feasible) / 2)
        return tuple(centres)

    def combine(self, state: CutState, answers: Sequence[Answer]) -> CutState:
        """Take in the new cuts, solve, and drop what has long been idle.

        Raises
        ------
        NotSeparable
            When the cuts contradict each other.
        """
        fresh = [
            Cut(answer.client, part.displacement / part.dual_mass)
            for answer in answers
            for solution in answer.solutions
            for part in solution.parts
            if part.dual_mass > 0
        ]
        feasible = shorter(state.feasible, scaled_to_feasible(state.weights, answers))
        if not fresh:  # without any cut the shortest model is zero, not an initial one that all accept
            weights = state.weights if state.cuts else np.zeros_like(state.weights)
            return replace(state, weights=weights, feasible=feasible)
        cuts = [*state.cuts, *fresh]
        gram = bordered(state.gram, [cut.normal for cut in state.cuts], [cut.normal for cut in fresh])
        carrying = [k for k, cut in enumerate(cuts) if cut.weight > 0]
        found = least_distance(gram, np.ones(len(cuts)), carrying)
        cuts = [
            replace(cut, weight=float(weight), idle=0 if weight > 0 else cut.idle + 1)
            for cut, weight in zip(cuts, found.values, strict=True)
        ]
        kept = [k for k, cut in enumerate(cuts) if cut.idle < IDLE_ROUNDS]
        weights = sum(
            (cut.weight * cut.normal for cut in cuts if cut.weight > 0), np.zeros_like(state.weights)
        )
        if found.result == "infeasible":
            bound = float(np.linalg.norm(weights)) / math.fsum(cut.weight for cut in cuts)
            raise NotSeparable(
                f"the clients' data together are not linearly separable (no margin above {bound:.1g}), so "
                "there is no max-margin model; strategy = 'local-gd' or 'modified-local-gd' goes on without"
            )
        return CutState(weights, tuple(cuts[k] for k in kept), gram[np.ix_(kept, kept)], feasible)

    def weights(self, state: CutState) -> Vector:
        """Return the model."""
        return state.weights

    def dual_mass(self, state: CutState) -> float:
        """The model is the cuts' combination, and a cut has mass 1."""
        return math.fsum(cut.weight for cut in state.cuts)


def scaled_to_feasible(weights: Vector, answers: Sequence[Answer]) -> Vector | None:
    """Return the multiple of a model whose smallest margin is 1, where it has a positive one."""
    margin = min(answer.measures.margin for answer in answers)
    return weights / margin if margin > 0 else None


def shorter(first: Vector | None, second: Vector | None) -> Vector | None:
    """Return the shorter of two vectors."""
    if first is None or second is None:
        return second if first is None else first
    return first if np.linalg.norm(first) <= np.linalg.norm(second) else second


def bordered(gram: NDArray[np.float64], old: list[Vector], new: list[Vector]) -> NDArray[np.float64]:
    """Return the Gram matrix of the old and the new vectors, from that of the old ones."""
    count = len(old)
    grown = np.empty((count + len(new), count + len(new)))
    fresh = np.array(new)
    grown[:count, :count] = gram
    grown[count:, count:] = fresh @ fresh.T
    if old:
        grown[count:, :count] = fresh @ np.array(old).T
        grown[:count, count:] = grown[count:, :count].T
    return grown
