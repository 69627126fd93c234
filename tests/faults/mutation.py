"""Bytes and values as nobody would write them; `make faults` draws ten thousand of each kind."""

from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.faults.effort import FUZZED

fuzz = settings(
    derandomize=True,  # the same cases on every machine
    database=None,
    max_examples=FUZZED,
    suppress_health_check=list(HealthCheck),
)
"""For a test that is one case among its kind."""


def fuzz_share(parts: int) -> settings:
    """For a test that shares the cases of its kind with others."""
    return settings(fuzz, max_examples=max(FUZZED // parts, 25))


@st.composite
def mutated(draw: st.DrawFn, base: bytes) -> bytes:
    """Draw bytes that some others become by being cut, overwritten, lengthened and shuffled in places."""
    data = bytearray(base)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(("set", "set", "flip", "insert", "cut", "drop", "repeat", "zero"))):
            case "set" if data:
                data[at] = draw(st.integers(0, 255))
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[at:at] = draw(st.binary(max_size=12))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 64))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case "zero":
                data[at : at + 8] = bytes(len(data[at : at + 8]))
    return bytes(data)


NUMBERS = st.one_of(
    st.floats(),
    st.sampled_from((np.nan, np.inf, -np.inf, -0.0, 5e-324, 1e308, -1e308, 1e400, 2.0**53 + 1)),
    st.integers(-(2**70), 2**70),
)
"""Numbers, finite or not."""

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(("", " ", "nan", "inf", "-1", "1e999", "0x10", "1_0", "١", "\0", '"', "a\nb", "label")),
)

DTYPES = (
    "f8",
    "f4",
    "f2",
    "longdouble",
    "i8",
    "u1",
    "?",
    "c16",
    "S3",
    "U3",
    "M8[s]",
    "m8[D]",
    "O",
    "f8,i4",
    "V8",
)


@st.composite
def arrays(draw: st.DrawFn, shapes: tuple[tuple[int, ...], ...]) -> np.ndarray[Any, Any]:
    """Draw an array of any type with one of some shapes."""
    shape = draw(st.sampled_from(shapes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    array: np.ndarray[Any, Any]
    if dtype.kind in "fiubc":
        with np.errstate(all="ignore"):
            array = np.asarray(rng.standard_normal(shape) * 10).astype(dtype)
            if dtype.kind in "fc" and array.size and draw(st.booleans()):
                array.flat[draw(st.integers(0, array.size - 1))] = np.asarray(float(draw(NUMBERS)), dtype)
    elif dtype.kind == "O":
        array = np.full(shape, None, object)
    else:
        array = np.frombuffer(rng.bytes(dtype.itemsize * int(np.prod(shape))), dtype).reshape(shape)
    return np.asfortranarray(array) if draw(st.booleans()) else array
