"""Checkpoints as bytes: what goes in comes out, to the last bit, and nothing that was changed on the way."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from server.encoding import dump, load


@dataclass(frozen=True)
class Inner:
    weights: Any
    idle: int


@dataclass(frozen=True)
class Outer:
    parts: tuple[Inner, ...]
    named: dict[str, Any]


CLASSES = (Inner, Outer)


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, np.ndarray):
        return (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
    if isinstance(ours, Inner | Outer):
        return type(ours) is type(theirs) and same(vars(ours), vars(theirs))
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, tuple | list):
        return (
            type(ours) is type(theirs)
            and len(ours) == len(theirs)
            and all(same(a, b) for a, b in zip(ours, theirs, strict=True))
        )
    return type(ours) is type(theirs) and (ours == theirs or ours != ours) and repr(ours) == repr(theirs)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | arrays(np.float64, array_shapes(min_dims=0, max_dims=3, min_side=0))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.builds(Inner, inner, st.integers())
        | st.builds(Outer, st.lists(st.builds(Inner, inner, st.integers())).map(tuple), st.just({}))
    ),
    max_leaves=10,
)


@given(VALUES)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert same(value, load(dump(value, CLASSES), CLASSES))


SAMPLE = Outer((Inner(np.linspace(0, 1, 7), 3), Inner(np.array(math.inf), -1)), {"bound": math.inf})


@given(st.integers(0, len(dump(SAMPLE, CLASSES)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    data = bytearray(dump(SAMPLE, CLASSES))
    data[place] ^= change
    with pytest.raises(ValueError, match=r"no checkpoint of this version|its checksum is wrong"):
        load(bytes(data), CLASSES)


@given(st.integers(0, len(dump(SAMPLE, CLASSES)) - 1))
def test_a_truncated_file_is_noticed(length: int) -> None:
    with pytest.raises(ValueError, match=r"no checkpoint of this version|its checksum is wrong"):
        load(dump(SAMPLE, CLASSES)[:length], CLASSES)


def test_a_class_that_has_changed_is_another_version() -> None:
    with pytest.raises(ValueError, match="no checkpoint of this version: 'Outer'"):
        load(dump(SAMPLE, CLASSES), (Inner,))

    @dataclass(frozen=True)
    class Changed:
        weights: Any

    Changed.__name__ = "Inner"
    with pytest.raises(ValueError, match=r"no checkpoint of this version: .*'idle'"):
        load(dump(SAMPLE, CLASSES), (Changed, Outer))


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {1, 2}, np.arange(3), Inner(b"", 1), np.array([None]), 1j, SAMPLE.__class__]
)
def test_what_it_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="a checkpoint cannot hold"):
        dump(value, CLASSES)
