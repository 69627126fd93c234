"""Vectors in Flower's records without its copies: what `np.save` writes, joined and read in place."""

import contextlib
import math
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO

import numpy as np
from flwr.app import Array
from numpy.typing import NDArray

from common.errors import UserError
from common.records import array_of

Vector = NDArray[np.float64]

FORMAT = "numpy.ndarray"
"""What Flower calls the format that `np.save` writes."""


def pack_array(vector: Vector) -> Array:
    """Return what `Array(vector)` returns for a float64 array: the same bytes, copied once."""
    vector = np.ascontiguousarray(vector, np.float64)
    header = _header(vector.shape)
    data = b"".join((header, vector.data.cast("B"))) if vector.size else header
    return array_of("float64", vector.shape, FORMAT, data)


def unpack_array(array: Array) -> Vector:
    """Return what ``array.numpy()`` returns; a float64 array as a view of the bytes, so read-only.

    Raises
    ------
    ValueError, TypeError
        If the bytes are no array.
    """
    if array.dtype == "float64" and array.stype == FORMAT:
        header = _header(tuple(array.shape))
        if len(array.data) == len(header) + 8 * math.prod(array.shape) and array.data.startswith(header):
            return np.frombuffer(array.data, np.float64, offset=len(header)).reshape(array.shape)
    try:
        return array.numpy()
    except EOFError as error:
        raise ValueError(f"its bytes are no array: {error}") from None


def finite(array: Array, shape: tuple[int, ...], what: str) -> Vector:
    """Read float64 numbers of this shape; what they say of it is looked at before their bytes are.

    Raises
    ------
    ValueError
        When they are of another shape or type, or not all finite; says which, of ``what``.
    """
    if tuple(array.shape) != shape:
        raise ValueError(f"{what} has shape {tuple(array.shape)}, not {shape}")
    vector = unpack_array(array)
    if vector.shape != shape or vector.dtype != np.float64:
        raise ValueError(f"{what} is {vector.dtype} of shape {vector.shape}, not float64 of shape {shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{what} is not finite")
    return vector


def natural(value: object, what: str) -> int:
    """Read a whole number that is not negative and has 64 bits.

    Raises
    ------
    ValueError
        When it is none; says which, of ``what``.
    """
    if not (isinstance(value, int) and 0 <= value < 2**63):
        raise ValueError(f"{what} is {value!r}, not a whole number >= 0")
    return value


@contextlib.contextmanager
def unpacking(what: str) -> Iterator[None]:
    """Turn whatever a stranger's records and bytes can raise into a `ValueError`, except a `UserError`."""
    try:
        yield
    except (ValueError, UserError):
        raise
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from None
    except Exception as error:
        raise ValueError(f"it is no {what}: {error}") from None


@lru_cache(maxsize=32)
def _header(shape: tuple[int, ...]) -> bytes:
    """Return the bytes before the numbers of a C-contiguous float64 array of this shape."""
    buffer = BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float64))}
    np.lib.format.write_array_header_1_0(buffer, {**description, "fortran_order": False, "shape": shape})
    return buffer.getvalue()
