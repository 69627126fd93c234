import itertools

import numpy as np
import pytest

from common.errors import UserError
from common.labels import encoded, ordered, signed, signs, targets


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("10", "9", "-1"), ("-1", "9", "10")),  # by value, not by the alphabet
        (("2.5", "1e1", "3"), ("2.5", "3", "1e1")),
        (("b", "a", "B"), ("B", "a", "b")),
        (("10", "9", "x"), ("10", "9", "x")),  # one word makes all of them words
        (("1.0", "1", "0"), ("0", "1", "1.0")),  # two spellings are two classes
        (("nan", "2", "10"), ("10", "2", "nan")),  # not a number, though it reads as one
    ],
)
def test_the_order_of_classes(classes: tuple[str, ...], expected: tuple[str, ...]) -> None:
    for given in itertools.permutations(classes):
        assert ordered(given) == expected
        assert ordered(given * 2) == expected


def test_numbers_of_classes() -> None:
    y = np.array(["b", "c", "a", "b"])
    found = encoded(y, ("a", "b", "c"))
    np.testing.assert_array_equal(found, [1, 2, 0, 1])
    assert found.dtype.kind == "i"
    assert encoded(np.array([], np.str_), ("a", "b")).shape == (0,)


def test_the_second_class_is_positive() -> None:
    y, rows = np.array(["b", "a", "b"]), np.array([[1.0, 2.0], [3.0, -4.0], [5.0, 0.0]])
    np.testing.assert_array_equal(signs(y, ("a", "b")), [1, -1, 1])
    np.testing.assert_array_equal(signs(y, ("b", "a")), [-1, 1, -1])
    np.testing.assert_array_equal(signed(rows, y, ("a", "b")), [[1, 2], [-3, 4], [5, 0]])


def test_signed_sparse_rows_stay_sparse() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    rows = np.array([[0.0, 2.0], [3.0, 0.0]])
    found = signed(sparse.csr_array(rows), np.array(["a", "b"]), ("a", "b"))
    assert sparse.issparse(found)
    np.testing.assert_array_equal(found.toarray(), [[0, -2], [3, 0]])


def test_targets_are_the_numbers_that_labels_are() -> None:
    found = targets(np.array(["1.5", "-2e-3", "7"]))
    np.testing.assert_array_equal(found, [1.5, -2e-3, 7.0])
    assert found.dtype == np.float64


@pytest.mark.parametrize("bad", ["", "cat", "nan", "inf", "-inf", "1,5", "1e999"])
def test_a_bad_target_is_named_by_its_row(bad: str) -> None:
    with pytest.raises(UserError) as caught:
        targets(np.array(["1", "2", bad, "also bad"]), "test = 'x.csv': ")
    assert str(caught.value) == (
        f"test = 'x.csv': row 3: the label '{bad}' is not a finite number, as loss = 'squared' needs"
    )
