"""Pooled scaling: the federation's column statistics, and the rows that every solver works with."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.sparse import Features, dense, is_sparse, widened

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ColumnStatistics:
    """Count, mean (d,) and sum of squared deviations (d,) of some rows."""

    count: int
    mean: Vector
    m2: Vector

    @classmethod
    def of(cls, X: Features) -> "ColumnStatistics":
        """Measure the columns of ``X`` (n, d)."""
        count, mean = X.shape[0], np.asarray(X.mean(axis=0))
        if not is_sparse(X):
            return cls(count, mean, ((X - mean) ** 2).sum(axis=0))
        stored = np.bincount(X.indices, minlength=X.shape[1])
        m2 = np.bincount(X.indices, (X.data - mean[X.indices]) ** 2, minlength=X.shape[1])
        return cls(count, mean, m2 + (count - stored) * mean**2)

    def widened(self, dimension: int) -> "ColumnStatistics":
        """Append columns of zeros up to ``dimension``."""
        more = (0, dimension - len(self.mean))
        return ColumnStatistics(self.count, np.pad(self.mean, more), np.pad(self.m2, more))

    def merge(self, other: "ColumnStatistics") -> "ColumnStatistics":
        """Return the statistics of both sets of rows together (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta**2 * (self.count * other.count / count)
        return ColumnStatistics(count, mean, m2)

    @classmethod
    def pool(cls, parts: Iterable["ColumnStatistics"]) -> "ColumnStatistics":
        """Merge several, in the order given (the order decides the last bits)."""
        first, *rest = parts
        for part in rest:
            first = first.merge(part)
        return first


@dataclass(frozen=True)
class Scaling:
    """The map from raw features to the rows ``x`` that the model sees.

    ``x = [(features − mean) / scale, 1] / norm``; without an intercept the 1 is left out.
    """

    mean: Vector
    scale: Vector
    intercept: bool
    norm: float = 1.0

    @classmethod
    def identity(cls, dimension: int, intercept: bool) -> "Scaling":
        """Leave the ``dimension`` raw features as they are."""
        return cls(np.zeros(dimension), np.ones(dimension), intercept)

    @classmethod
    def standard(cls, statistics: ColumnStatistics, intercept: bool) -> "Scaling":
        """Subtract the mean, divide by the population standard deviation; a constant column keeps scale 1."""
        deviation = np.sqrt(statistics.m2 / statistics.count)
        # A constant column's deviation is rounding, not spread: dividing by it would make noise a feature.
        constant = deviation <= 1e-12 * np.abs(statistics.mean)
        return cls(statistics.mean, np.where(constant, 1.0, deviation), intercept)

    @property
    def dimension(self) -> int:
        """The length of a model's weight vector."""
        return len(self.mean) + int(self.intercept)

    def rows(self, X: Features) -> Features:
        """Return the rows ``x`` (n, dimension) of raw features ``X`` (n, d).

        Sparse features stay sparse unless a mean is subtracted; they may have fewer columns, the
        missing ones being zero.
        """
        X = widened(X, len(self.mean))
        if is_sparse(X):
            if not self.mean.any():
                return self._sparse_rows(X)
            X = dense(X)
        rows = np.empty((len(X), self.dimension))
        rows[:, : len(self.mean)] = (X - self.mean) / self.scale
        if self.intercept:
            rows[:, -1] = 1.0
        rows /= self.norm
        return rows

    def _sparse_rows(self, X: Features) -> Features:
        from scipy.sparse import csr_array, hstack

        rows = csr_array(X * (1 / self.scale))
        if self.intercept:
            rows = hstack([rows, np.ones((X.shape[0], 1))], format="csr")
        return csr_array(rows / self.norm)
