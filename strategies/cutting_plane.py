"""Cutting planes: the exact centralized max-margin model, from the clients' projections."""

import math
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from common.active_set import least_distance_of_rows
from common.errors import NotSeparable
from common.federation import Federation
from common.solution import Answer, SolverSettings
from strategies.base import LocalSolveStrategy
from strategies.cuts import Cut, gathered, joined, weighed

Vector = NDArray[np.float64]
PROJECTION = SolverSettings(solver="projection", cuts=4)

MOST_OWNERS = 500
"""With more clients than this, the cuts of several are summed into one, unless the strategy is told."""

INWARD = 0.5
"""How far from the model to the best feasible point the third centre lies."""

RELEASED = 0.25
"""Which part of the client's own share the third centre leaves out."""


@dataclass(frozen=True)
class CutState:
    """The model, the cuts, the shortest model known to be feasible, and the clients in order of the deal."""

    weights: Vector
    cuts: tuple[Cut, ...] = ()
    feasible: Vector | None = None
    clients: tuple[str, ...] = ()

    @cached_property
    def places(self) -> dict[str, int]:
        """A client's place in the deal."""
        return {client: place for place, client in enumerate(self.clients)}

    @cached_property
    def shares(self) -> dict[int, Vector]:
        """What each owner's cuts contribute to the model, of those that contribute."""
        shares: dict[int, Vector] = {}
        for cut in self.cuts:
            if cut.weight > 0:
                shares[cut.owner] = shares.get(cut.owner, 0.0) + cut.weight * cut.normal
        return shares


class CuttingPlane(LocalSolveStrategy[CutState]):
    """``w = argmin ½‖w‖²  s.t.  p·w ≥ 1`` for all cuts ``p`` that the clients' projections gave so far.

    A projection ``w − c = Zᵀa`` is a cut ``p = Zᵀa / 1ᵀa`` that every model with margins of at least 1
    satisfies, the max-margin model too (Kelley 1960).  Each client projects three centres: the model;
    the model less the client's own cuts' share, which gives the exact step given everybody else; and a
    point on the way to the best feasible point, with some of that share left out.  The model is its own
    certificate: ``γ* ≤ ‖w‖ / Σ weights``.

    Parameters
    ----------
    groups
        Into how many groups the clients are dealt, in turn in the order of their names; the cuts of a group
        are summed.  It bounds the server's problem where clients are very many, and costs rounds.  None for
        one group per client, up to `MOST_OWNERS`.
    """

    def __init__(
        self,
        settings: SolverSettings = PROJECTION,
        federation: Federation | None = None,
        groups: int | None = None,
    ) -> None:
        super().__init__(settings, federation)
        self.groups = groups

    def init(self, weights: Vector) -> CutState:
        """Start without cuts; the initial model is only the first centre."""
        return CutState(np.asarray(weights, np.float64))

    def centres(self, state: CutState, client: str) -> tuple[Vector, ...]:
        """The model; the model without the client's share; some way to the best feasible point."""
        centres = [state.weights]
        share = state.shares.get(self.owner(state, client)) if client in state.places else None
        if share is not None:
            centres.append(state.weights - share)
        if state.feasible is not None:
            inward = state.weights + INWARD * (state.feasible - state.weights)
            centres.append(inward if share is None else inward - RELEASED * share)
        return tuple(centres)

    def owner(self, state: CutState, client: str) -> int:
        """Return to which owner of cuts a client belongs."""
        return state.places[client] % (self.groups or MOST_OWNERS)

    def combine(self, state: CutState, answers: Iterable[Answer]) -> CutState:
        """Take in the new cuts, solve, and drop what has long been idle.

        Raises
        ------
        NotSeparable
            When the cuts contradict each other.
        """
        answers = [answer for answer in answers if not answer.stale]  # of those the cuts are here already
        answered = {answer.client for answer in answers}
        new = sorted(answered - state.places.keys())
        state = replace(state, clients=(*state.clients, *new), feasible=None if new else state.feasible)
        if answers and answered >= self.everybody(state):
            known = scaled_to_feasible(state.weights, answers)
            state = replace(state, feasible=shorter(state.feasible, known))
        fresh = gathered(answers, lambda client: self.owner(state, client))
        if not fresh:  # without any cut the shortest model is zero, not an initial one that all accept
            return state if state.cuts else replace(state, weights=np.zeros_like(state.weights))
        return resolved(state, joined(state.cuts, fresh))

    def everybody(self, state: CutState) -> Set[str]:
        """Return who has to answer before a model may count as feasible: all that are known of."""
        return set(self.federation.names) if self.federation else state.places.keys()

    def forget(self, state: CutState, client: str) -> CutState:
        """Drop the cuts that a client, whose data have changed, had a part in."""
        if client not in state.places:
            return replace(state, feasible=None)
        owner = self.owner(state, client)
        kept = [cut for cut in state.cuts if cut.owner != owner]
        state = replace(state, cuts=(), feasible=None)
        return resolved(state, kept) if kept else replace(state, weights=np.zeros_like(state.weights))

    def weights(self, state: CutState) -> Vector:
        """Return the model."""
        return state.weights

    def dual_mass(self, state: CutState) -> float:
        """The model is the cuts' combination, and a cut has mass 1."""
        return math.fsum(cut.weight for cut in state.cuts)


def resolved(state: CutState, cuts: Sequence[Cut]) -> CutState:
    """Return the state with the shortest model that satisfies all of some cuts, and without the long idle.

    Raises
    ------
    NotSeparable
        When the cuts contradict each other.
    """
    normals = np.stack([cut.normal.reshape(-1) for cut in cuts])
    carrying = [k for k, cut in enumerate(cuts) if cut.weight > 0]
    found = least_distance_of_rows(normals, np.ones(len(cuts)), carrying)
    weights = found.values @ normals
    if found.result == "infeasible":
        bound = float(np.linalg.norm(weights)) / math.fsum(found.values)
        raise NotSeparable(
            f"the clients' data together are not linearly separable (no margin above {bound:.1g}), so "
            "there is no max-margin model; strategy = 'local-gd' or 'modified-local-gd' goes on without"
        )
    return replace(state, weights=weights.reshape(state.weights.shape), cuts=weighed(cuts, found.values))


def scaled_to_feasible(weights: Vector, answers: Sequence[Answer]) -> Vector | None:
    """Return the multiple of a model whose smallest margin is 1, where it has a positive one."""
    margin = min(answer.measures.margin for answer in answers)
    return weights / margin if margin > 0 else None


def shorter(first: Vector | None, second: Vector | None) -> Vector | None:
    """Return the shorter of two vectors."""
    if first is None or second is None:
        return second if first is None else first
    return first if np.linalg.norm(first) <= np.linalg.norm(second) else second
