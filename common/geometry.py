"""Angles, margins, and the certificate that bounds the distance to the centralized model without its data."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
ARCCOS_SLACK = 2e-6
"""Degrees that cover the rounding of ``arccos`` next to 1, where an error of one ulp costs 1.2e-6°."""


BLOCK = 2**16
"""So much of two vectors is looked at at a time: large ones are not copied whole."""

LEAST_MASS = 1e-280
"""A combination of less mass proves nothing: its terms may be so small that digits are lost near 1e-308."""

SHORTEST, LONGEST = 1e-150, 1e150
"""Between these lengths of a model no square vanishes or overflows."""


def angle(u: Vector, v: Vector) -> float:
    """Return the angle between two flat vectors, in degrees.

    Kahan's formula ``2 atan2(‖u−v‖, ‖u+v‖)`` of the unit vectors: accurate for nearly parallel
    vectors, where the arccos of a dot product is not.  180.0 when either vector is zero.
    """
    length_u, length_v = float(np.linalg.norm(u)), float(np.linalg.norm(v))
    if length_u == 0 or length_v == 0:
        return 180.0
    apart = together = 0.0
    for k in range(0, u.size, BLOCK):
        a, b = u[k : k + BLOCK] / length_u, v[k : k + BLOCK] / length_v
        apart += float(np.dot(a - b, a - b))
        together += float(np.dot(a + b, a + b))
    return math.degrees(2 * math.atan2(math.sqrt(apart), math.sqrt(together)))


def certified_angle(margin: float, bound: float, floor: float = -math.inf, tilt: float = math.inf) -> float:
    """Return an angle, in degrees, that the centralized direction cannot be farther away than.

    With ``ŵ`` the shortest model of margins 1, ``w`` the model at hand scaled to margins of at least 1 and
    ``v`` a proof of the bound (a mean of signed examples of length at most ``U``), three things are known:
    ``⟨ŵ, w − ŵ⟩ ≥ 0`` as ``ŵ`` is the shortest; ``⟨v, ŵ⟩ ≥ 1`` as every margin of ``ŵ`` is at least 1; and
    ``‖ŵ‖ ≤ 1/floor``.  For the angle ``φ`` between ``w`` and ``ŵ`` they imply each of

    - ``cos φ ≥ m/U``, whatever the proof;
    - ``φ ≤ ½ (θ + arccos(2m/U − cos θ))``, with ``θ`` the angle between ``w`` and ``v``: the first puts ``ŵ``
      in the ball with diameter ``[0, w]``, so ``‖ŵ‖ ≤ cos φ / m``, and the second then needs
      ``cos φ cos(φ − θ) ≥ m/U``; with ``θ = 0``, a model that is its own proof, it is ``arccos √(m/U)``;
    - ``φ ≤ θ + arccos(floor/U)``, which holds for a model without a positive margin too.

    Parameters
    ----------
    margin
        A lower bound ``m`` on the model's normalised margin over all clients.
    bound
        An upper bound ``U`` on the best margin ``γ*``.
    floor
        A lower bound on ``γ*``: the best margin of any model so far.
    tilt
        At least the angle ``θ`` between the model and the proof, in radians.
    """
    if not math.isfinite(bound):
        return 180.0
    angles = [math.pi]
    if margin > 0:
        ratio = min(1.0, margin / bound)
        angles.append(math.acos(ratio))
        if tilt < angles[-1]:  # from there on a larger tilt would allow less than a smaller one
            angles.append((tilt + math.acos(max(-1.0, min(1.0, 2 * ratio - math.cos(tilt))))) / 2)
    if floor > 0:
        angles.append(tilt + math.acos(min(1.0, floor / bound)))
    return min(180.0, math.degrees(min(angles)) + ARCCOS_SLACK)


class Combination:
    """The sum of non-negative combinations of signed examples, as it grows: one vector, however many.

    Attributes
    ----------
    total
        ``Σ Zᵢᵀaᵢ``, flat.
    mass, lengths, terms
        ``Σ 1ᵀaᵢ``, ``Σ ‖Zᵢᵀaᵢ‖`` and how many they are.
    """

    def __init__(self, dimension: int) -> None:
        self.total: Vector = np.zeros(dimension)
        self.mass, self.lengths, self.terms = 0.0, 0.0, 0

    def add(self, displacement: Vector, mass: float) -> None:
        """Add one, in any shape."""
        flat = displacement.reshape(-1)
        self.total += flat
        self.mass += mass
        self.lengths += float(np.linalg.norm(flat))
        self.terms += 1


@dataclass(frozen=True)
class Certificate:
    """The best bounds seen so far on the best margin ``γ*`` of the federation's pooled data.

    Both are rounded outwards, so they hold for the exact margin of the float64 rows that the
    clients work with.  Immutable: `add` and `take` return the next one.

    Attributes
    ----------
    count, dimension, clients
        Examples in the largest client, length of a weight vector, number of clients.
    max_norm
        The largest row norm of the federation.
    bound
        The smallest upper bound on ``γ*`` so far, infinite at first.
    floor
        The largest lower bound on ``γ*`` so far: the best margin of any model.
    proof
        The mean of signed examples whose length is the bound, or a multiple of it, flat.
    slack
        How far rounding may have moved the proof.
    """

    count: int
    dimension: int
    clients: int
    max_norm: float
    bound: float = math.inf
    floor: float = -math.inf
    proof: Vector | None = None
    slack: float = 0.0

    def add(self, displacements: Iterable[Vector], masses: Iterable[float], summed: int = 0) -> "Certificate":
        """Take in the local solutions of one round, see `take`."""
        total = Combination(self.dimension)
        for displacement, mass in zip(displacements, masses, strict=True):
            total.add(displacement, mass)
        return self.take(total, summed)

    def take(self, found: "Combination", summed: int = 0) -> "Certificate":
        """Take in, for good, the sum of local solutions: ``γ* ≤ ‖Σ Zᵢᵀaᵢ‖ / Σ 1ᵀaᵢ`` by weak duality.

        Any subset of the clients will do.  A sum without dual mass, or with next to none, changes nothing.

        The terms of the rounding slack: a client forms ``Zᵀa`` with an error of at most
        ``n ε max‖z‖ 1ᵀa``, however much the sum cancels; the server's sum over clients, its norm and
        the sums of masses add a relative error.

        Parameters
        ----------
        summed
            From how many combinations the server itself has summed each displacement, if it has: they may
            cancel as a client's examples do.
        """
        if not found.mass > LEAST_MASS:
            return self
        terms = self.clients + found.terms
        relative = (self.dimension + self.count + terms + 8) * found.lengths / found.mass
        slack = EPS * ((self.count + summed + 2) * self.max_norm + relative)
        proof = found.total
        proof /= found.mass  # it is ours by now
        bound = float(np.linalg.norm(proof)) + slack
        return replace(self, bound=bound, proof=proof, slack=slack) if bound < self.bound else self

    def reached(self, margin: float) -> "Certificate":
        """Take in a margin that a model has reached, as `margin` returned it."""
        return replace(self, floor=max(self.floor, margin))

    def angle(self, weights: Vector, margin: float) -> float:
        """Return the certified angle of a model, in degrees, see `certified_angle`.

        Parameters
        ----------
        weights
            The model, in any shape.
        margin
            A lower bound on its normalised margin, from `margin`.
        """
        tilt = math.inf
        sound = SHORTEST < float(np.linalg.norm(weights)) < LONGEST
        if self.proof is not None and self.bound > 2 * self.slack and sound:
            moved = math.asin(self.slack / (self.bound - self.slack))
            tilt = math.radians(angle(weights.reshape(-1), self.proof)) + moved
        return certified_angle(margin, self.bound, self.floor, tilt)

    def margin(self, smallest: float, norm: float) -> float:
        """Return a lower bound on a model's normalised margin; ``-inf`` for zero or a length out of range.

        Parameters
        ----------
        smallest
            The smallest ``z·w`` over all clients, as they computed it.
        norm
            ``‖w‖`` as the server computed it.
        """
        if not SHORTEST < norm < LONGEST:
            return -math.inf
        return smallest / norm - (2 * self.dimension + 8) * EPS * self.max_norm
