"""The inner loops of gradient steps on the logistic loss: ``K`` steps without an allocation.

Each exists twice: in place with numpy, and element by element for numba (extra ``fast``) to compile where it
is installed and a solve is long enough.  All give the same to rounding.
"""

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
"""From so many steps on compiling pays, and up to so many examples a plain span loop is as fast as BLAS."""


def span_steps(gram: Matrix, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    """Return the dual ``a`` (n,) after so many times ``a ← keep a + gain / (1 + exp(start + G a))``."""
    if (
        steps >= COMPILED_STEPS
        and len(start) <= COMPILED_COUNT
        and (loop := compiled(span_plain)) is not None
    ):
        return loop(gram, start, steps, keep, gain)
    return span_in_place(gram, start, steps, keep, gain)


def primal_steps(rows: Matrix, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    """Return the same with ``G a = Z (Zᵀa)``, without the Gram matrix: for more examples than weights."""
    if steps >= COMPILED_STEPS and (loop := compiled(primal_plain)) is not None:
        return loop(rows, start, steps, keep, gain)
    return primal_in_place(rows, start, steps, keep, gain)


def span_in_place(gram: Matrix, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    """Take the steps on the margins with numpy, each in buffers that are there already."""
    dual, margins, pull = np.zeros_like(start), start.copy(), np.empty_like(start)
    for step in range(steps):
        _add_pull(dual, margins, pull, keep, gain)
        if step + 1 < steps:
            np.dot(gram, dual, out=margins)
            np.add(margins, start, out=margins)
    return dual


def primal_in_place(rows: Matrix, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    """Take the steps on the weights with numpy, which are kept as the displacement ``Zᵀa``."""
    dual, margins, pull = np.zeros_like(start), start.copy(), np.empty_like(start)
    moved, change = np.zeros(rows.shape[1]), np.empty(rows.shape[1])
    for step in range(steps):
        _add_pull(dual, margins, pull, keep, gain)
        if step + 1 < steps:
            np.dot(pull, rows, out=change)
            if keep != 1.0:
                np.multiply(moved, keep, out=moved)
            np.add(moved, change, out=moved)
            np.dot(rows, moved, out=margins)
            np.add(margins, start, out=margins)
    return dual


def _add_pull(dual: Vector, margins: Vector, pull: Vector, keep: float, gain: float) -> None:
    """Let ``pull`` be that of the margins, and add it to the dual."""
    np.minimum(margins, LARGEST, out=pull)
    np.exp(pull, out=pull)
    np.add(pull, 1.0, out=pull)
    np.divide(gain, pull, out=pull)
    if keep != 1.0:
        np.multiply(dual, keep, out=dual)
    np.add(dual, pull, out=dual)


@cache
def compiled(loop: Loop) -> Loop | None:
    """Return a loop compiled by numba, or None where numba is not installed.

    A sum may be formed in any order, as BLAS does too; nothing else is left to the compiler.
    """
    try:
        import numba
    except ImportError:
        return None
    options: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz"}, "nogil": True}
    try:
        fast: Loop = numba.njit(cache=True, **options)(loop)
    except RuntimeError:  # no place to keep what was compiled, such as on a read-only file system
        fast = numba.njit(**options)(loop)
    return fast


def span_plain(gram: Matrix, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    """Take the steps on the margins element by element."""
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


def primal_plain(rows: Matrix, start: Vector, steps: int, keep: float, gain: float) -> Vector:
    """Take the steps on the weights element by element.

    A step reads every row once: while it is in the processor's first cache its margin is formed and its
    pull added to the next displacement.  Four rows at a time, so that the displacements are read less often.
    """
    count, dimension = rows.shape
    dual, moved, change = np.zeros(count), np.zeros(dimension), np.zeros(dimension)
    whole = count - count % 4
    for _ in range(steps):
        change[:] = 0.0
        for k in range(0, whole, 4):
            u, v, x, y = start[k], start[k + 1], start[k + 2], start[k + 3]
            for j in range(dimension):
                w = moved[j]
                u += rows[k, j] * w
                v += rows[k + 1, j] * w
                x += rows[k + 2, j] * w
                y += rows[k + 3, j] * w
            u = gain / (1.0 + math.exp(min(u, LARGEST)))
            v = gain / (1.0 + math.exp(min(v, LARGEST)))
            x = gain / (1.0 + math.exp(min(x, LARGEST)))
            y = gain / (1.0 + math.exp(min(y, LARGEST)))
            dual[k] = keep * dual[k] + u
            dual[k + 1] = keep * dual[k + 1] + v
            dual[k + 2] = keep * dual[k + 2] + x
            dual[k + 3] = keep * dual[k + 3] + y
            for j in range(dimension):
                change[j] += u * rows[k, j] + v * rows[k + 1, j] + x * rows[k + 2, j] + y * rows[k + 3, j]
        for k in range(whole, count):
            u = start[k]
            for j in range(dimension):
                u += rows[k, j] * moved[j]
            u = gain / (1.0 + math.exp(min(u, LARGEST)))
            dual[k] = keep * dual[k] + u
            for j in range(dimension):
                change[j] += u * rows[k, j]
        for j in range(dimension):
            moved[j] = keep * moved[j] + change[j]
    return dual
