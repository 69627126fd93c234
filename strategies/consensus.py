"""Consensus max-margin: the exact centralized model in constant memory, by the method of multipliers."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from common.federation import Federation
from common.solution import Answer, SolverSettings
from strategies.base import LocalSolveStrategy

Vector = NDArray[np.float64]
PROJECTION = SolverSettings(solver="projection")

RELAXATION, PENALTY = 1.8, 1.2
"""``θ``: local models count this much, the consensus ``1 − θ``; and ``ρ`` at first, for margins of 1."""

UNBALANCED, STEP = 10.0, 2.0
"""The penalty changes by ``STEP`` when one residual is ``UNBALANCED`` times the other."""


@dataclass(frozen=True)
class ConsensusState:
    """The consensus ``z`` (d,), each client's scaled multiplier ``uᵢ`` (d,), and the penalty ``ρ``."""

    weights: Vector
    multipliers: Mapping[str, Vector] = field(default_factory=dict)
    penalty: float = PENALTY


class Consensus(LocalSolveStrategy[ConsensusState]):
    """Scaled consensus ADMM for ``min ½‖w‖²  s.t.  Zᵢ w ≥ 1`` (Boyd et al. 2011, ch. 7), over-relaxed.

    A client projects ``z − uᵢ``; the server averages and moves the multipliers, which live with it, so
    clients stay without state.  The penalty follows the balance of the residuals (ibid. §3.4.1).

    A client that is missing counts as one that agrees with the consensus, so ``uᵢ + z`` is what stays of it.
    The method is then Douglas and Rachford's in some of its coordinates, which has the same limit whoever
    takes part, if only everybody keeps coming back (Iutzeler et al. 2013): a missing client delays the end,
    and does not move it.
    """

    def __init__(self, settings: SolverSettings = PROJECTION, federation: Federation | None = None) -> None:
        super().__init__(settings, federation)

    def init(self, weights: Vector) -> ConsensusState:
        """Start at the initial model, with multipliers of zero."""
        return ConsensusState(np.asarray(weights, np.float64))

    def centres(self, state: ConsensusState, client: str) -> tuple[Vector, ...]:
        """The consensus less the client's multiplier."""
        if client not in state.multipliers:
            return (state.weights,)
        return (state.weights - state.multipliers[client],)

    def combine(self, state: ConsensusState, answers: Iterable[Answer]) -> ConsensusState:
        """Average the relaxed local models, move the multipliers, balance the penalty."""
        answers = [answer for answer in answers if not answer.stale]
        before, zero = state.weights, np.zeros_like(state.weights)
        names = {*state.multipliers, *self.names, *(answer.client for answer in answers)}
        multipliers = {name: state.multipliers.get(name, zero) for name in sorted(names)}
        local = {a.client: before - multipliers[a.client] + a.solutions[0].displacement for a in answers}
        relaxed = {
            name: RELAXATION * local.get(name, before) + (1 - RELAXATION) * before for name in multipliers
        }
        total = sum((relaxed[name] + u for name, u in multipliers.items()), zero)
        weights = total / (len(multipliers) + 1 / state.penalty)
        multipliers = {name: u + relaxed[name] - weights for name, u in multipliers.items()}
        primal = np.sqrt(sum(np.sum((w - weights) ** 2) for w in local.values()))
        dual = state.penalty * np.sqrt(len(local)) * np.linalg.norm(weights - before)
        change = STEP if primal > UNBALANCED * dual else 1 / STEP if dual > UNBALANCED * primal else 1.0
        multipliers = {name: u / change for name, u in multipliers.items()}
        return ConsensusState(weights, multipliers, state.penalty * change)

    def forget(self, state: ConsensusState, client: str) -> ConsensusState:
        """Start a client whose data have changed from a multiplier of zero."""
        kept = {name: u for name, u in state.multipliers.items() if name != client}
        return replace(state, multipliers=kept)

    @property
    def names(self) -> Collection[str]:
        """The federation's clients, as far as they are known."""
        return self.federation.names if self.federation else ()

    def weights(self, state: ConsensusState) -> Vector:
        """Return the consensus."""
        return state.weights
