"""Consensus max-margin: the exact centralized model in constant memory, by the method of multipliers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.federation import Federation
from common.solution import Answer, SolverSettings
from strategies.base import LocalSolveStrategy

Vector = NDArray[np.float64]
PROJECTION = SolverSettings(solver="projection")

RELAXATION = 1.6
"""``θ``: local models count this much, the consensus ``1 − θ``."""

UNBALANCED, STEP = 10.0, 2.0
"""The penalty changes by ``STEP`` when one residual is ``UNBALANCED`` times the other."""


@dataclass(frozen=True)
class ConsensusState:
    """The consensus ``z`` (d,), each client's scaled multiplier ``uᵢ`` (d,), and the penalty ``ρ``."""

    weights: Vector
    multipliers: Mapping[str, Vector] = field(default_factory=dict)
    penalty: float = 1.0


class Consensus(LocalSolveStrategy[ConsensusState]):
    """Scaled consensus ADMM for ``min ½‖w‖²  s.t.  Zᵢ w ≥ 1`` (Boyd et al. 2011, ch. 7), over-relaxed.

    A client projects ``z − uᵢ``; the server averages and moves the multipliers, which live with it, so
    clients stay without state.  The penalty follows the balance of the residuals (ibid. §3.4.1).
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

    def combine(self, state: ConsensusState, answers: Sequence[Answer]) -> ConsensusState:
        """Average the relaxed local models, move the multipliers, balance the penalty."""
        before, zero = state.weights, np.zeros_like(state.weights)
        multipliers = {answer.client: state.multipliers.get(answer.client, zero) for answer in answers}
        local = {a.client: before - multipliers[a.client] + a.solutions[0].displacement for a in answers}
        relaxed = {name: RELAXATION * w + (1 - RELAXATION) * before for name, w in local.items()}
        total = sum((relaxed[name] + multipliers[name] for name in local), zero)
        weights = total / (len(local) + 1 / state.penalty)
        multipliers = {name: multipliers[name] + relaxed[name] - weights for name in local}
        primal = np.sqrt(sum(np.sum((w - weights) ** 2) for w in local.values()))
        dual = state.penalty * np.sqrt(len(local)) * np.linalg.norm(weights - before)
        change = STEP if primal > UNBALANCED * dual else 1 / STEP if dual > UNBALANCED * primal else 1.0
        multipliers = {name: u / change for name, u in multipliers.items()}
        return ConsensusState(weights, multipliers, state.penalty * change)

    def weights(self, state: ConsensusState) -> Vector:
        """Return the consensus."""
        return state.weights
