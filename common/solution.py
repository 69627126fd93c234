"""What a local solve is asked for and what it gives back: the words both sides share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class SolverSettings:
    """How every client solves in a round.

    Attributes
    ----------
    solver, loss, engine, device
        As in the configuration.
    local_steps
        ``K``, the gradient steps of a local solve.
    learning_rate
        ``"auto"``, ``"1/beta"`` or the step size itself; see `rates`.
    regularization
        ``λ/β`` of the ``proximal`` solver.
    batch_size
        Examples in a mini-batch of a gradient step; 0 for all.
    seed
        What the mini-batches are drawn from.
    cuts
        Into how many parts a projection's reply is dealt.
    min_active
        The fewest examples that a reply may be made of.
    beta
        The federation's smoothness ``β = max βᵢ``; 0 when nobody measured it, then each client uses its own.
    norm
        The federation's largest row norm, by which clients divide their rows.
    preparation
        The fingerprint of the preparation a client must have made its rows with; empty for rows as they are.
    """

    solver: str = "gradient"
    loss: str = "logistic"
    local_steps: int = 100
    learning_rate: str | float = "auto"
    regularization: float = 1e-4
    engine: str = "auto"
    device: str = "cpu"
    batch_size: int = 0
    seed: int = 0
    cuts: int = 1
    min_active: int = 1
    beta: float = 0.0
    norm: float = 1.0
    preparation: str = ""

    def rates(self, beta: float) -> tuple[float, float]:
        """Return the step size ``η`` and the weight ``λ`` of the proximal term.

        The automatic step is ``1/(βK)`` for ``gradient``, the one of the convergence theorem, and
        ``1/(β + λ)``, whatever ``K``, for ``proximal``.  ``β`` is the federation's where known,
        else the client's own, given here.

        Raises
        ------
        UserError
            For a step so long that a proximal one would leave ``a ≥ 0``.
        """
        beta = self.beta or beta
        decay = self.regularization * beta if self.solver == "proximal" else 0.0
        if self.learning_rate == "auto":
            return 1 / (beta + decay if self.solver == "proximal" else beta * self.local_steps), decay
        rate = 1 / beta if self.learning_rate == "1/beta" else float(self.learning_rate)
        if rate * decay > 1:
            raise UserError(
                f"learning-rate = {rate:g} is too long for solver = 'proximal' with λ = {decay:.3g}; "
                f"allowed: <= {1 / decay:.3g}"
            )
        return rate, decay


DEFAULTS = SolverSettings()


@dataclass(frozen=True)
class Question:
    """What one client is asked in round ``number``: to measure the weights and solve from the centres."""

    number: int
    weights: Vector
    centres: tuple[Vector, ...]
    settings: SolverSettings


@dataclass(frozen=True)
class Part:
    """A non-negative combination of a client's signed examples: ``Zᵀa`` and its mass ``1ᵀa``.

    Every ``w`` with ``Z w ≥ 1`` satisfies ``displacement · w ≥ dual_mass``: a part is a cut.
    """

    displacement: Vector
    dual_mass: float


@dataclass(frozen=True)
class LocalSolution:
    """The result of one local solve from one centre ``c``.

    Attributes
    ----------
    parts
        What ``w − c = Zᵀa`` is made of, formed in float64 from the final dual ``a ≥ 0``, in the shape of
        the model.  One part, unless a strategy asks for more.
    active
        How many examples have ``a > 0``.
    steps
        Gradient steps, or changes of the active set, that were made.
    result
        ``"solved"``, ``"inexact"`` (tolerance not reached) or ``"infeasible"`` (the client's own
        data are not separable; the displacement is then the Farkas vector's ``Zᵀa ≈ 0``).
    """

    parts: tuple[Part, ...]
    active: int
    steps: int
    result: str = "solved"

    @property
    def displacement(self) -> Vector:
        """``w − c``, the sum of the parts."""
        first, *rest = (part.displacement for part in self.parts)
        return sum(rest, first)

    @property
    def dual_mass(self) -> float:
        """``1ᵀa``, the sum of the parts' masses."""
        return sum(part.dual_mass for part in self.parts)


@dataclass(frozen=True)
class Measures:
    """What a client measured of the model it received: mean loss, smallest margin, errors, examples."""

    loss: float
    margin: float
    errors: int
    count: int


@dataclass(frozen=True)
class Answer:
    """One client's reply in one round.

    Attributes
    ----------
    client
        Its name.
    solutions
        One for each centre; none where only the model was to be measured.
    measures
        Of the model that came with the question.
    number
        The round of the question.
    centres
        What the solutions started from.
    centre_mass
        The dual mass of the model then, where it is known as a combination of examples, else 0.
    stale
        Whether it is an earlier answer that counts again, since the client is missing: its solutions are of
        their own centres, its measures of an earlier model.
    """

    client: str
    solutions: tuple[LocalSolution, ...]
    measures: Measures
    number: int = 0
    centres: tuple[Vector, ...] = ()
    centre_mass: float = 0.0
    stale: bool = False
