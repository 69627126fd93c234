import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.labels import signs
from common.scaling import ColumnStatistics, Scaling
from tests.problems import repeatable

SEEDS = st.integers(0, 2**32 - 1)
Matrix = NDArray[np.float64]


def columns(rng: np.random.Generator, n: int, d: int) -> Matrix:
    """Columns of very different sizes and offsets."""
    offset, size = 10.0 ** rng.uniform(-3, 6, d), 10.0 ** rng.uniform(-3, 6, d)
    return offset + size * rng.standard_normal((n, d))


@repeatable
@given(SEEDS, st.integers(2, 60), st.integers(1, 6), st.integers(1, 8))
def test_merged_statistics_are_those_of_all_rows(seed: int, n: int, d: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    X = columns(rng, n, d)
    cuts = np.sort(rng.choice(np.arange(1, n), min(parts, n) - 1, replace=False))
    pooled = ColumnStatistics.pool(ColumnStatistics.of(part) for part in np.split(X, cuts))
    assert pooled.count == n
    np.testing.assert_allclose(pooled.mean, X.mean(axis=0), rtol=1e-12, atol=1e-12 * np.abs(X).max())
    spread = np.abs(X - X.mean(axis=0)).max(axis=0)
    deviation = np.sqrt(pooled.m2 / n)
    slack = 1e-12 * (spread + np.abs(X).max(axis=0))
    assert (np.abs(deviation - X.std(axis=0)) <= slack).all()


def test_statistics_by_hand() -> None:
    first = ColumnStatistics.of(np.array([[1.0], [3.0]]))
    assert (first.count, first.mean[0], first.m2[0]) == (2, 2, 2)
    both = first.merge(ColumnStatistics.of(np.array([[8.0]])))
    assert (both.count, both.mean[0], both.m2[0]) == (3, 4, 26)  # 9 + 1 + 16
    scaling = Scaling.standard(both, intercept=False)
    assert scaling.scale[0] == pytest.approx(np.sqrt(26 / 3))  # the population's deviation, not the sample's


def test_one_part_is_itself() -> None:
    part = ColumnStatistics.of(np.ones((2, 2)))
    assert ColumnStatistics.pool([part]) is part


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9, 1 / 3])
def test_a_constant_column_keeps_its_scale(value: float) -> None:
    # pooling unequal parts leaves rounding in the mean and the deviation
    parts = [np.column_stack([np.full(n, value), np.arange(n)]) for n in (3, 7, 100)]
    pooled = ColumnStatistics.pool(map(ColumnStatistics.of, parts))
    scaling = Scaling.standard(pooled, intercept=False)
    assert scaling.scale[0] == 1
    assert scaling.scale[1] != 1
    assert np.abs(scaling.rows(parts[0])[:, 0]).max() <= 1e-14 * abs(value)


def test_a_column_that_hardly_varies_is_not_constant() -> None:
    X = 1.0 + 1e-9 * np.arange(4.0)[:, None]
    rows = Scaling.standard(ColumnStatistics.of(X), intercept=False).rows(X)
    assert rows.std() == pytest.approx(1, rel=1e-6)


@repeatable
@given(SEEDS, st.integers(2, 40), st.integers(1, 6))
def test_standard_rows_have_mean_zero_and_deviation_one(seed: int, n: int, d: int) -> None:
    X = np.random.default_rng(seed).standard_normal((n, d)) * 7 + 3
    scaling = Scaling.standard(ColumnStatistics.of(X), intercept=True)
    rows = scaling.rows(X)
    assert rows.shape == (n, d + 1) == (n, scaling.dimension)
    np.testing.assert_allclose(rows[:, :-1].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(rows[:, :-1].std(axis=0), 1, rtol=1e-12)
    assert (rows[:, -1] == 1).all()


def test_the_norm_divides_the_constant_too() -> None:
    scaling = Scaling(np.array([1.0, 2.0]), np.array([2.0, 4.0]), intercept=True, norm=4.0)
    np.testing.assert_array_equal(scaling.rows(np.array([[5.0, 2.0]])), [[0.5, 0.0, 0.25]])
    assert scaling.dimension == 3


def test_identity_leaves_rows_as_they_are() -> None:
    X = np.array([[1.5, -2.0], [0.0, 3.0]])
    scaling = Scaling.identity(2, intercept=False)
    np.testing.assert_array_equal(scaling.rows(X), X)
    assert scaling.dimension == 2
    np.testing.assert_array_equal(Scaling.identity(2, intercept=True).rows(X)[:, 2], [1, 1])


def test_signs() -> None:
    y = np.array(["cat", "dog", "cat"])
    np.testing.assert_array_equal(signs(y, ("cat", "dog")), [-1, 1, -1])
    np.testing.assert_array_equal(signs(y, ("dog", "cat")), [1, -1, 1])
