"""The inner loop of gradient steps on the logistic loss: ``K`` steps on the margins without an allocation."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Loop = Callable[[Matrix, Vector, int, float, float], Vector]

LARGEST = 709.0
"""``exp`` of more overflows; at such a margin the pull is below 1e-307 anyway."""

COMPILED_STEPS, COMPILED_COUNT = 500, 256
"""From so many steps on compiling pays, and up to so many examples a plain loop is as fast as BLAS."""


def logistic_steps(gram: Matrix, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    """Return the dual ``a`` (n,) after so many times ``a ← keep a + gain / (1 + exp(start + G a))``.

    With numba installed (extra ``fast``) small problems run compiled; both give the same to rounding.
    """
    if steps >= COMPILED_STEPS and len(start) <= COMPILED_COUNT and (loop := compiled()) is not None:
        return loop(gram, start, steps, keep, gain)
    return in_place(gram, start, steps, keep, gain)


def in_place(gram: Matrix, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    """Take the steps with numpy, each in buffers that are there already."""
    dual, margins, pull = np.zeros_like(start), start.copy(), np.empty_like(start)
    for step in range(steps):
        np.minimum(margins, LARGEST, out=pull)
        np.exp(pull, out=pull)
        np.add(pull, 1.0, out=pull)
        np.divide(gain, pull, out=pull)
        if keep != 1.0:
            np.multiply(dual, keep, out=dual)
        np.add(dual, pull, out=dual)
        if step + 1 < steps:
            np.dot(gram, dual, out=margins)
            np.add(margins, start, out=margins)
    return dual


@cache
def compiled() -> Loop | None:
    """Return the loop compiled by numba, or None where numba is not installed.

    A sum may be formed in any order, as BLAS does too; nothing else is left to the compiler.
    """
    try:
        import numba
    except ImportError:
        return None
    options: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz"}, "nogil": True}
    try:
        loop: Loop = numba.njit(cache=True, **options)(plain)
    except RuntimeError:  # no place to keep what was compiled, such as on a read-only file system
        loop = numba.njit(**options)(plain)
    return loop


def plain(gram: Matrix, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    """Take the steps element by element: what numba compiles."""
    count = start.shape[0]
    dual, margins = np.zeros(count), start.copy()
    for step in range(steps):
        for k in range(count):
            dual[k] = keep * dual[k] + gain / (1.0 + math.exp(min(margins[k], LARGEST)))
        if step + 1 < steps:
            for k in range(count):
                margin = start[k]
                for j in range(count):
                    margin += gram[k, j] * dual[j]
                margins[k] = margin
    return dual
