"""Losses of a signed margin ``u = y x·w``, safe against overflow, over any array namespace."""

from dataclasses import dataclass
from typing import Any, Protocol

from array_api_compat import array_namespace

Array = Any
"""An array of the namespace in use: ``numpy.ndarray`` or ``torch.Tensor``."""


class Loss(Protocol):
    """A decreasing, convex loss of the margin."""

    def value(self, margins: Array) -> Array:
        """Return the loss of each margin."""

    def mass(self, margins: Array) -> Array:
        """Return minus the derivative at each margin: how strongly an example still pulls, >= 0."""

    def smoothness(self, sigma: float, count: int) -> float:
        """Bound the curvature of the mean loss of ``count`` rows with largest singular value ``sigma``."""


@dataclass(frozen=True)
class Logistic:
    """The logistic loss ``ln(1 + exp(-u))``."""

    def value(self, margins: Array) -> Array:
        """Return ``ln(1 + exp(-u))``; exact to rounding for margins of any size."""
        xp = array_namespace(margins)
        return xp.where(margins < 0, -margins, 0 * margins) + xp.log1p(xp.exp(-xp.abs(margins)))

    def mass(self, margins: Array) -> Array:
        """Return ``1 / (1 + exp(u))`` with full relative precision, also for large margins."""
        xp = array_namespace(margins)
        tail = xp.exp(-xp.abs(margins))
        return xp.where(margins > 0, tail, 0 * tail + 1) / (1 + tail)

    def smoothness(self, sigma: float, count: int) -> float:
        """Return ``σ² / (4 n)``."""
        return sigma**2 / (4 * count)


LOSSES: dict[str, Loss] = {"logistic": Logistic()}
"""The losses by their configuration name."""
