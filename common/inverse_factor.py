"""The inverse factor of a Gram matrix whose rows come and go, updated instead of computed afresh."""

from typing import Any

from common.namespace import array_namespace

Array = Any

DRIFT = 1e-6
"""A solution whose relative residual is larger says that the factor has drifted or the rows are dependent."""

SOUND = 1e-12
"""A relative residual that is as small as this needs no second look."""

SINGULAR = ValueError, RuntimeError
"""What the namespaces' errors of linear algebra are: numpy's is the one, torch's the other."""

CAPACITY = 32

STRIPE = 64
"""Rows changed at a time, few enough to stay in the processor's cache."""


def solved(gram: Array, right: Array) -> Array:
    """Return ``G⁻¹ b``, or the shortest solution by least squares where rounding has left ``G`` singular."""
    xp = array_namespace(gram)
    try:
        return xp.linalg.solve(gram, right)
    except SINGULAR:
        return xp.linalg.pinv(gram) @ right


class InverseFactor:
    """``W`` (k, k) with ``W G Wᵀ = 1`` for the Gram matrix ``G`` (k, k) of a changing list of rows.

    So ``G⁻¹ = WᵀW``.  Nothing asks for a triangular ``W``, so dropping a row is one Householder reflection
    and each change costs ``O(k²)``.  The last row takes the place of a dropped one.

    Parameters
    ----------
    like
        An array in the namespace, and of the type and on the device, of the rows to come.
    """

    def __init__(self, like: Array) -> None:
        self._xp = array_namespace(like)
        self._like = like
        self.size = 0
        self.sound = True
        self._inverse = self._gram = self._room(CAPACITY)

    @property
    def gram(self) -> Array:
        """``G``, shape (k, k)."""
        return self._gram[: self.size, : self.size]

    def reset(self, gram: Array) -> bool:
        """Take on a whole Gram matrix (k, k); tell whether its rows are independent enough to be factored.

        If they are not, the factor is empty afterwards.
        """
        inverse = self._factored(gram)
        self.size = len(gram) if inverse is not None else 0
        capacity = max(CAPACITY, 2 * self.size)
        self._inverse, self._gram = self._room(capacity), self._room(capacity)
        if inverse is None:
            return False
        self._inverse[: self.size, : self.size] = inverse
        self._gram[: self.size, : self.size] = gram
        return True

    def append(self, column: Array, inward: Array, own: float, curvature: float) -> None:
        """Take in one more row, independent of the others.

        Parameters
        ----------
        column, own
            Its products with the others ``b`` (k,) and with itself.
        inward, curvature
            ``G⁻¹ b`` and ``own − b·G⁻¹b > 0``, which make this cheap.
        """
        k = self.size
        if k == len(self._gram):
            inverse, gram = self._inverse, self._gram
            self._inverse, self._gram = self._room(2 * k), self._room(2 * k)
            self._inverse[:k, :k], self._gram[:k, :k] = inverse, gram
        self._gram[:k, k] = self._gram[k, :k] = column
        self._gram[k, k] = own
        across = curvature**0.5
        self._inverse[k, :k] = -inward / across
        self._inverse[:k, k] = 0.0
        self._inverse[k, k] = 1 / across
        self.size += 1

    def drop(self, k: int) -> Array:
        """Forget row ``k``; the last row takes its place.

        Returns what the inverse loses: the ``z`` (k + 1,), in the order before, by which ``G⁻¹`` less
        ``z zᵀ`` is the new inverse, bordered by zeros in place ``k``.
        """
        last = self.size - 1
        W = self._inverse[: self.size, : self.size]
        # reflect W's rows so that only the last of them still knows row k; many know nothing of it
        mirror = self._xp.asarray(W[:, k], copy=True)
        length = float(self._xp.linalg.vector_norm(mirror))
        mirror[last] += length if float(mirror[last]) > 0 else -length
        first = int(self._xp.argmax(self._xp.astype(mirror != 0, mirror.dtype)))
        weight = 2 / float(self._xp.sum(mirror * mirror))
        taken = weight * (mirror[first:] @ W[first:, :])
        for start in range(first, last + 1, STRIPE):
            stripe = slice(start, min(start + STRIPE, last + 1))
            W[stripe, :] -= mirror[stripe][:, None] * taken[None, :]
        lost = self._xp.asarray(W[last, :], copy=True)
        W[:last, k] = W[:last, last]
        own = float(self._gram[last, last])
        self._gram[k, :last] = self._gram[last, :last]
        self._gram[:last, k] = self._gram[:last, last]
        self._gram[k, k] = own
        self.size = last
        return lost

    def times_inverse(self, right: Array) -> Array:
        """Return ``WᵀW b``."""
        W = self._inverse[: self.size, : self.size]
        return (W @ right) @ W

    def solve(self, right: Array) -> Array:
        """Return ``G⁻¹ b`` to the accuracy of a fresh solve, and mend the factor if it has drifted.

        ``sound`` says afterwards whether the factor alone was accurate enough.
        """
        found = self.times_inverse(right)
        residual = right - self.gram @ found
        size = self._size_of(residual)
        self.sound = size <= SOUND * self._size_of(right)
        if self.sound:
            return found
        if size <= DRIFT * self._size_of(right):
            return found + self.times_inverse(residual)
        inverse = self._factored(self.gram)
        if inverse is not None:
            self._inverse[: self.size, : self.size] = inverse
        return solved(self.gram, right)

    def _factored(self, gram: Array) -> Array | None:
        """Return ``L⁻¹`` of ``G = L Lᵀ``, or None where that is not positive definite."""
        try:
            return self._xp.linalg.inv(self._xp.linalg.cholesky(gram))
        except SINGULAR:
            return None

    def _size_of(self, vector: Array) -> float:
        return float(self._xp.max(self._xp.abs(vector))) if self.size else 0.0

    def _room(self, capacity: int) -> Array:
        xp, like = self._xp, self._like
        return xp.zeros((capacity, capacity), dtype=like.dtype, device=like.device)
