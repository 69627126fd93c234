"""Replies as no honest client sends them: refused with a `ValueError`, or finite and of the model's shape."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from client.app import app as client_app
from client.stream import _Desk
from common.errors import UserError
from common.frames import Incoming, Outgoing
from common.handshake import (
    Description,
    pack_description,
    pack_prepared,
    unpack_description,
    unpack_prepared,
)
from common.messages import DESCRIBE, TRAIN, pack_answer, pack_question, unpack_answer
from common.scaling import ColumnStatistics
from common.solution import Answer, LocalSolution, Measures, Part, SolverSettings
from tests.faults.mutation import NUMBERS, TEXTS, arrays, fuzz_share, mutated

SHAPE = (3,)
VECTOR = np.array([1.0, -2.0, 0.5])
SOLUTION = LocalSolution((Part(VECTOR, 1.5), Part(2 * VECTOR, 0.5)), active=2, steps=3)
ANSWER = Answer("clinic", (SOLUTION, SOLUTION), Measures(0.5, -0.1, 1, 3))
DESCRIPTION = Description("clinic", 3, 3, ("0", "1"), "f00d", "none", ColumnStatistics(3, VECTOR, VECTOR**2))
PARTS = 4

Unpack = Callable[[RecordDict], object]


def frame(content: RecordDict, kind: str = TRAIN) -> bytes:
    """What travels over the stream, all of it in one frame; the same bytes at any time."""
    message = Message(content, 1, kind, ttl=60.0)
    message.metadata.created_at = 0.5
    outgoing = Outgoing.of(message)
    assert not outgoing.blocks
    return outgoing.first


def received(data: bytes) -> Message | None:
    """The message of a frame; None if it announces more frames than the receiver takes."""
    incoming = Incoming(data, max_bytes=2**20)
    return incoming.message() if incoming.missing == 0 else None


def taken(unpack: Unpack, content: RecordDict) -> bool:
    """Tell whether some records are taken for a reply: all its numbers are finite then."""
    with np.errstate(all="raise"):
        try:
            reply = unpack(content)
        except (ValueError, UserError):  # the latter of another version's client
            return False
    for number in numbers(reply):
        assert np.isfinite(number).all(), reply
    if isinstance(reply, Answer):
        for part in (part for solution in reply.solutions for part in solution.parts):
            assert part.displacement.shape == SHAPE
            assert part.displacement.dtype == np.float64
            assert part.dual_mass >= 0
    return True


def numbers(value: Any) -> list[Any]:
    """All numbers and arrays in a reply, however deep."""
    if dataclasses.is_dataclass(value):
        return [n for field in dataclasses.fields(value) for n in numbers(getattr(value, field.name))]
    if isinstance(value, tuple):
        return [n for one in value for n in numbers(one)]
    return [value] if isinstance(value, int | float | np.ndarray) else []


def answered(content: RecordDict) -> Answer:
    return unpack_answer(content, SHAPE)


REPLIES: dict[str, tuple[Unpack, RecordDict]] = {
    "answer": (answered, pack_answer(ANSWER)),
    "description": (unpack_description, pack_description(DESCRIPTION)),
    "prepared": (unpack_prepared, pack_prepared("clinic", 1.5, 0.25)),
}


def test_whole_replies_are_taken() -> None:
    for unpack, content in REPLIES.values():
        message = received(frame(content))
        assert message is not None
        assert taken(unpack, message.content)


@fuzz_share(PARTS)
@given(st.sampled_from(list(REPLIES)), st.data())
def test_frames_of_damaged_bytes(kind: str, data: st.DataObject) -> None:
    unpack, content = REPLIES[kind]
    damaged = data.draw(mutated(frame(content)))
    message = None
    with contextlib.suppress(ValueError):  # the server takes note of it, and hangs up
        message = received(damaged)
    if message is not None and message.has_content():
        taken(unpack, message.content)


SCALARS = st.one_of(NUMBERS.filter(lambda n: isinstance(n, float) or abs(n) < 2**63), st.booleans())
VALUES = st.one_of(
    SCALARS, TEXTS, st.binary(max_size=4), st.lists(SCALARS, max_size=3), st.lists(TEXTS, max_size=3)
)


@st.composite
def encoded(draw: st.DrawFn) -> Array:
    """An array of any type, or what says it is one."""
    array = draw(arrays(((3,), (), (2,), (3, 1), (0,))))
    if array.dtype.hasobject:
        return Array("float64", (3,), "numpy.ndarray", draw(st.binary(max_size=200)))
    whole = Array(array)
    if draw(st.booleans()):
        return whole
    shape = draw(st.sampled_from((tuple(array.shape), (3,), (-3,), (2**62, 2**62))))
    dtype, stype = (
        draw(st.sampled_from((whole.dtype, "float64", "O"))),
        draw(st.sampled_from((whole.stype, "x"))),
    )
    return Array(dtype, shape, stype, draw(mutated(whole.data)))


@st.composite
def altered(draw: st.DrawFn, content: RecordDict) -> RecordDict:
    """The records with some fields replaced, added or left out."""
    records = RecordDict()
    for key, record in content.items():
        kind, drop = type(record), draw(st.integers(0, 9)) == 0
        changed = kind(dict(record))  # type: ignore[arg-type]
        for name in [*record, "more"]:
            if (what := draw(st.integers(0, 9))) == 0:
                changed.pop(name, None)
            elif what == 1:
                value = draw(encoded()) if kind is ArrayRecord else draw(VALUES)
                with contextlib.suppress(
                    TypeError, ValueError
                ):  # what the record's type does not take at all
                    changed[name] = value  # type: ignore[assignment]
        if not drop:
            records[key] = changed
    if draw(st.integers(0, 19)) == 0:
        records["arrays"] = draw(st.sampled_from((MetricRecord, ConfigRecord, ArrayRecord)))()
    return records


@pytest.mark.parametrize("kind", REPLIES)
def test_records_of_any_values(kind: str) -> None:
    unpack, content = REPLIES[kind]

    @fuzz_share(PARTS)
    @given(altered(content))
    def run(records: RecordDict) -> None:
        taken(unpack, records)

    run()


@fuzz_share(PARTS)
@given(st.data())
def test_questions_of_damaged_bytes(data: st.DataObject) -> None:
    """A client refuses them or answers with an error, and stays."""
    weights = ArrayRecord({"weights": Array(VECTOR)})
    question = frame(pack_question(1, weights, (VECTOR, 2 * VECTOR), SolverSettings()), data.draw(KINDS))
    desk = _Desk(client_app, Context(0, 0, {"data": "nowhere.npz"}, RecordDict(), {}))
    with contextlib.suppress(ValueError):  # of which `join` makes a refusal
        incoming = Incoming(data.draw(mutated(question)))
        if incoming.missing == 0:
            assert desk.reply(incoming, 2**20).size


KINDS = st.sampled_from((TRAIN, DESCRIBE))


def test_what_is_not_finite_is_refused() -> None:
    """The fuzz tests above would find it, this one says it."""
    for bad in (math.nan, math.inf, -math.inf):
        solution = LocalSolution((Part(np.array([1.0, bad, 0.0]), 1.0),), 1, 1)
        massive = LocalSolution((Part(VECTOR, bad),), 1, 1)
        for answer in (
            Answer("clinic", (solution,), Measures(0.5, 0.1, 1, 3)),
            Answer("clinic", (massive,), Measures(0.5, 0.1, 1, 3)),
            Answer("clinic", (SOLUTION,), Measures(bad, 0.1, 1, 3)),
            Answer("clinic", (SOLUTION,), Measures(0.5, bad, 1, 3)),
        ):
            assert not taken(answered, pack_answer(answer))
        statistics = ColumnStatistics(3, np.array([1.0, bad, 0.0]), VECTOR**2)
        told = dataclasses.replace(DESCRIPTION, statistics=statistics)
        assert not taken(unpack_description, pack_description(told))
        assert not taken(unpack_prepared, pack_prepared("clinic", bad, 0.25))
        assert not taken(unpack_prepared, pack_prepared("clinic", 1.0, bad))
