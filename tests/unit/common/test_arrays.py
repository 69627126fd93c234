"""Arrays travel as Flower's own do, byte for byte, and are read where they lie."""

import numpy as np
import pytest
from flwr.app import Array

from common.arrays import FORMAT, pack_array, unpack_array

SHAPES = [(3,), (2, 5), (0,), (0, 3), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bytes_are_those_of_flower(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape)
    assert pack_array(values) == Array(values)
    assert np.array_equal(unpack_array(Array(values)), values)
    assert np.array_equal(pack_array(values).numpy(), values)


@pytest.mark.parametrize("values", [np.arange(6.0)[::2], np.arange(6.0).reshape(2, 3).T])
def test_an_array_with_gaps_is_packed_without(values: np.ndarray) -> None:
    assert np.array_equal(unpack_array(pack_array(values)), values)


def test_a_received_array_is_a_view_that_cannot_be_written_to() -> None:
    packed = pack_array(np.arange(3.0))
    received = unpack_array(packed)
    assert not received.flags.owndata
    assert not received.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        received[0] = 1.0


@pytest.mark.parametrize(
    "values", [np.arange(3), np.arange(3, dtype=np.float32), np.asfortranarray(np.eye(3, 2))]
)
def test_another_kind_of_array_is_read_by_flower(values: np.ndarray) -> None:
    assert np.array_equal(unpack_array(Array(values)), values)
    assert unpack_array(Array(values)).dtype == values.dtype


def test_bytes_that_do_not_fit_their_shape_are_refused() -> None:
    data = pack_array(np.arange(3.0)).data
    for wrong in (data[:-8], b"", b"\x93NUMPY", data[:10]):
        with pytest.raises(ValueError, match=r"."):
            unpack_array(Array("float64", (3,), FORMAT, wrong))
    # as Flower's own reader has it, the bytes say the shape
    assert unpack_array(Array("float64", (4,), FORMAT, data)).shape == (3,)
    with pytest.raises(TypeError):
        unpack_array(Array("float64", (3,), "elsewhere", data))
