"""Rows ``A`` of constraints ``A w ≥ 1`` as an active-set method sees them: by their products."""

from typing import Any, Protocol

from common.namespace import array_namespace

Array = Any


class Constraints(Protocol):
    """What the method asks of the rows ``A``."""

    diagonal: Array

    def products(self, index: Array, values: Array) -> Array:
        """Return all rows' products with a combination of some, ``A A[index]ᵀ a``."""

    def block(self, which: Array, index: Array) -> Array:
        """Return ``A[which] A[index]ᵀ``, a copy."""


class OfGram:
    """Rows known by their Gram matrix ``A Aᵀ`` (n, n)."""

    def __init__(self, gram: Array) -> None:
        self.gram = gram
        self.xp = array_namespace(gram)
        self.diagonal = self.xp.linalg.diagonal(gram)

    def products(self, index: Array, values: Array) -> Array:
        return values @ self.gram[index, :]  # rows are read in one piece, and columns are the same

    def block(self, which: Array, index: Array) -> Array:
        return self.xp.take(self.xp.take(self.gram, which, axis=0), index, axis=1)


class OfRows:
    """The rows (n, d) themselves; their products are formed as they are asked for."""

    def __init__(self, rows: Array) -> None:
        self.rows = rows
        self.diagonal = array_namespace(rows).linalg.vecdot(rows, rows)

    def products(self, index: Array, values: Array) -> Array:
        return self.rows @ (values @ self.rows[index, :])

    def block(self, which: Array, index: Array) -> Array:
        return self.rows[which, :] @ self.rows[index, :].T
