"""Losses of margins, safe against overflow, over any array namespace.

A loss sees the *margins* of the examples: ``z·w`` with signed rows for two classes, shape (n,); the
differences ``(W_y − W_c)·x`` to every rival class ``c`` for several, shape (n, C−1); the residuals
``x·w − t`` for a regression, shape (n,).
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from common.namespace import array_namespace

Array = Any
"""An array of the namespace in use: ``numpy.ndarray`` or ``torch.Tensor``."""

LARGEST = math.log(1e300)
"""Beyond this ``exp`` is held: near where it overflows, with room for sums over many examples."""


class Loss(Protocol):
    """A convex loss of the margins.

    Attributes
    ----------
    has_margin
        Whether it pulls along a max-margin direction: then ``pull`` is >= 0 and there is a certificate.
    labels
        What it predicts: ``"two"`` classes, ``"many"`` classes or ``"numbers"``.
    curvature
        The largest second derivative; where it has none globally, that at margins of zero.
    adaptive
        Whether the curvature grows with the loss itself, so that steps must follow the loss.
    """

    has_margin: bool
    labels: str
    curvature: float
    adaptive: bool

    def value(self, margins: Array) -> Array:
        """Return the loss of each example, shape (n,)."""

    def pull(self, margins: Array) -> Array:
        """Return minus the derivative at each margin, in the margins' shape."""


@dataclass(frozen=True)
class Logistic:
    """The logistic loss ``ln(1 + exp(−u))``."""

    has_margin = True
    labels = "two"
    curvature = 0.25
    adaptive = False

    def value(self, margins: Array) -> Array:
        """Return ``ln(1 + exp(−u))``; exact to rounding for margins of any size."""
        xp = array_namespace(margins)
        return xp.where(margins < 0, -margins, 0 * margins) + xp.log1p(xp.exp(-xp.abs(margins)))

    def pull(self, margins: Array) -> Array:
        """Return ``1 / (1 + exp(u))`` with full relative precision, also for large margins."""
        xp = array_namespace(margins)
        tail = xp.exp(-xp.abs(margins))
        return xp.where(margins > 0, tail, 0 * tail + 1) / (1 + tail)


@dataclass(frozen=True)
class Exponential:
    """The exponential loss ``exp(−u)``, whose curvature at a model is at most ``max‖z‖²`` times its value."""

    has_margin = True
    labels = "two"
    curvature = 1.0
    adaptive = True

    def value(self, margins: Array) -> Array:
        """Return ``exp(−u)``, or the largest number where that would overflow."""
        xp = array_namespace(margins)
        return xp.exp(xp.where(margins < -LARGEST, 0 * margins + LARGEST, -margins))

    def pull(self, margins: Array) -> Array:
        """Return ``exp(−u)``: the loss is its own pull."""
        return self.value(margins)


@dataclass(frozen=True)
class Softmax:
    """The cross-entropy of several classes, ``ln(1 + Σ_c exp(−u_c))`` over the margins to the rivals."""

    has_margin = True
    labels = "many"
    curvature = 0.5
    adaptive = False

    def value(self, margins: Array) -> Array:
        """Return the loss of each row of margins (n, C−1), shape (n,)."""
        xp = array_namespace(margins)
        least = xp.min(margins, axis=1)
        shift = xp.where(least < 0, -least, 0 * least)
        total = xp.exp(-shift) + xp.sum(xp.exp(-margins - shift[:, None]), axis=1)
        # with a shift of zero, log1p keeps the digits of a small loss
        small = xp.log1p(xp.sum(xp.exp(xp.where(margins < 0, 0 * margins, -margins)), axis=1))
        return xp.where(least < 0, shift + xp.log(total), small)

    def pull(self, margins: Array) -> Array:
        """Return the probability of each rival class, shape (n, C−1)."""
        xp = array_namespace(margins)
        least = xp.min(margins, axis=1)
        shift = xp.where(least < 0, -least, 0 * least)[:, None]
        rivals = xp.exp(-margins - shift)
        return rivals / (xp.exp(-shift) + xp.sum(rivals, axis=1)[:, None])


@dataclass(frozen=True)
class Squared:
    """Half the squared residual: linear regression."""

    has_margin = False
    labels = "numbers"
    curvature = 1.0
    adaptive = False

    def value(self, margins: Array) -> Array:
        """Return ``u² / 2`` of the residuals."""
        return margins**2 / 2

    def pull(self, margins: Array) -> Array:
        """Return ``−u``."""
        return -margins


LOSSES: dict[str, Loss] = {
    "logistic": Logistic(),
    "exponential": Exponential(),
    "softmax": Softmax(),
    "squared": Squared(),
}
"""The losses by their configuration name."""
