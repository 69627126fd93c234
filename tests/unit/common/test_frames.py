"""Messages cut into frames and put together again, and frames that are none."""

import json
import math
import random
import struct
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto

from common.frames import LONGEST, SHORTEST, SMALL, Content, Incoming, Outgoing, TooLarge

METADATA = [1, "id", 2, 3, "asked", "7", 0.5, 10, "train", None, None]


def frame(
    content: Any, *data: bytes, lengths: tuple[int, ...] | None = None, metadata: Any = METADATA
) -> bytes:
    """A first frame of whatever is given."""
    lengths = tuple(map(len, data)) if lengths is None else lengths
    texts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in (metadata, content)]
    sizes = struct.pack(f">IIII{len(lengths)}Q", len(lengths), 0, *map(len, texts), *lengths)
    return b"".join((sizes, *texts, *data))


def records(*sizes: int) -> RecordDict:
    """Arrays of so many numbers in two records, and other records between them."""
    rng = np.random.default_rng(0)
    return RecordDict(
        {
            "weights": ArrayRecord([rng.standard_normal(size) for size in sizes]),
            "none": ArrayRecord(),
            "config": ConfigRecord({"a": 1, "b": [1.5], "c": "ü", "d": b"x", "e": True}),
            "more": ArrayRecord([np.arange(6.0).reshape(2, 3), np.ones(1, np.float32), np.zeros((0, 2))]),
            "metrics": MetricRecord({"loss": 0.5, "n": [1, 2]}),
            "rare": MetricRecord({"large": 2**64 - 1, "n": [1, 2**63], "low": -(2**63), "nothing": []}),
            "others": ConfigRecord({"a": [True, False], "b": [b"x"], "c": ["", "ü"], "d": [], "e": False}),
        }
    )


def arrived(outgoing: Outgoing, longest: int = LONGEST) -> Incoming:
    frames = outgoing.frames(lambda: longest)
    incoming = Incoming(next(frames))
    for frame in frames:
        assert incoming.missing
        incoming.add(frame)
    assert incoming.missing == 0
    return incoming


def test_a_small_message_is_one_frame_and_arrives_as_over_flowers_own_transport() -> None:
    message = Message(records(5, 7), 3, "train", ttl=60, group_id="7")
    reply = Message(Error(2, "why"), reply_to=message)
    for one in (message, Message(RecordDict(), 3, "train"), reply, Message(Error(2), reply_to=message)):
        [first] = Outgoing.of(one).frames()
        incoming = Incoming(first)
        assert incoming.size == len(first) == Outgoing.of(one).size
        received, flowers = incoming.message(), message_from_proto(message_to_proto(one))
        assert vars(received).keys() == vars(flowers).keys()
        assert vars(received.metadata) == vars(flowers.metadata)
        assert received.has_error() == one.has_error()
    assert (incoming.message().error.code, incoming.message().error.reason) == (2, None)
    received = arrived(Outgoing.of(message)).message()
    assert received.content == message.content
    for key, record in received.content.items():
        assert [*map(type, record.values())] == [*map(type, message.content[key].values())]


def test_numbers_and_texts_arrive_bit_by_bit() -> None:
    numbers = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, 1e16, 3.0]
    texts = ["", "ü", '\n\0"\\u', "\U0001f600", "\x7f"]
    content = RecordDict({"m": MetricRecord({"n": numbers, "one": 2.0}), "c": ConfigRecord({"t": texts})})
    received = arrived(Outgoing.of(Message(content, 1, "train"))).message().content
    assert received == content
    assert [*map(repr, received["m"]["n"])] == [*map(repr, numbers)]  # type: ignore[arg-type]
    nothing = RecordDict({"m": MetricRecord({"n": math.nan})})
    loss = arrived(Outgoing.of(Message(nothing, 1, "train"))).message().content["m"]["n"]
    assert isinstance(loss, float)
    assert math.isnan(loss)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"x": ["cards", {}]}, "KeyError: 'cards'"),
        ({"x": ["config"]}, "not enough values"),
        ({"x": ["config", {"y": None}]}, "a record cannot hold None"),
        ({"x": ["config", {"y": [1, 2.0]}]}, r"a record cannot hold \[1, 2.0\]"),
        ({"x": ["config", {"y": [[1]]}]}, "a record cannot hold"),
        ({"x": ["config", {"y": {"a": 1}}]}, "KeyError: 'base64'"),
        ({"x": ["config", {"y": {"base64": "?"}}]}, r"."),
        ({"x": ["metrics", {"y": "1"}]}, "a record cannot hold '1'"),
        ({"x": ["metrics", {"y": True}]}, "a record cannot hold True"),
        ({"x": ["metrics", [1]]}, "AttributeError"),
        ({"x": ["config", {"y": "\ud800"}]}, "surrogates not allowed"),
        ({"x": ["arrays", {"y": ["float64", [True], ""]}]}, r"no array is 'float64' of shape \[True\]"),
        ({"x": ["arrays", {"y": ["float64", [3], ""]}]}, "argument 2 is shorter"),
        ([1], "not enough values"),
        (["1", "why"], "is no error"),
        ([1, 2], "is no error"),
        (3, "AttributeError"),
        (b"", "Expecting value"),
        (b"{", r"."),
        (b"\xff", "can't decode"),
        (b"[" * 10**5, "lists in lists without end"),
        (b"1" * 5000, "integer string conversion"),
    ],
)
def test_records_of_no_kind_are_refused(content: Any, text: str) -> None:
    incoming = Incoming(frame(content))
    with pytest.raises(ValueError, match=text):
        incoming.message()


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        3,
        METADATA[:-1],
        [*METADATA, 1],
        ["1", *METADATA[1:]],
        [*METADATA[:-1], 0.5],
        b"",
        b"[" * 10**5,
        b"\xff",
        ["\ud800" if one == "id" else one for one in METADATA],
    ],
)
def test_metadata_of_no_message_are_refused(metadata: Any) -> None:
    Incoming(frame({}))
    with pytest.raises(ValueError, match=r"."):
        Incoming(frame({}, metadata=metadata))


@pytest.mark.parametrize("longest", [SHORTEST, LONGEST])
@pytest.mark.parametrize("sizes", [(SMALL,), (1, SHORTEST, 300_001), (SHORTEST // 8,) * 9])
def test_a_large_message_arrives_whole_in_frames_of_bounded_size(
    sizes: tuple[int, ...], longest: int
) -> None:
    message = Message(records(*sizes), 3, "train")
    reply = Message(message.content, reply_to=message)
    outgoing = Outgoing.of(reply)
    frames = list(outgoing.frames(lambda: longest))
    assert len(frames[0]) < 2000
    assert max(map(len, frames)) <= longest
    assert sum(map(len, frames)) == outgoing.size
    incoming = arrived(outgoing, longest)
    assert incoming.size == outgoing.size
    assert incoming.reply_to == reply.metadata.reply_to_message_id
    assert incoming.message().content == message.content


def test_frames_may_grow_within_an_array() -> None:
    message = Message(records(SHORTEST // 8 + 100), 3, "train")
    sizes = iter((SHORTEST, LONGEST))
    first, *rest = Outgoing.of(message).frames(lambda: next(sizes, LONGEST))
    incoming = Incoming(first)
    for frame in rest:
        incoming.add(frame)
    assert incoming.message().content == message.content


def test_a_message_says_how_long_the_frames_of_its_answer_may_be() -> None:
    message = Message(records(1), 3, "train")
    for said, taken in ((0, LONGEST), (1, SHORTEST), (SHORTEST + 1, SHORTEST + 1), (2**31, LONGEST)):
        assert Incoming(Outgoing.of(message, answer_frames=said).first).answer_frames == taken


def test_messages_to_many_share_the_bytes_of_their_arrays() -> None:
    content = records(SMALL)
    once = Content.of(content)
    messages = [Message(content, node, "train") for node in range(3)]
    outgoing = [Outgoing.of(message, once) for message in messages]
    data = [array.data for array in content.array_records["weights"].values()]
    assert all(one.blocks[0] is data[0] for one in outgoing)
    for message, one in zip(messages, outgoing, strict=True):
        assert one == Outgoing.of(message)


def test_the_size_is_known_and_bounded_from_the_first_frame_on() -> None:
    large = Outgoing.of(Message(records(10**6), 1, "train"))
    with pytest.raises(TooLarge, match=f"{large.size} bytes, at most {large.size - 1} are allowed"):
        Incoming(large.first, large.size - 1)
    assert Incoming(large.first, large.size).missing > 8 * 10**6
    with pytest.raises(TooLarge):
        Incoming(bytes(11), 10)
    claimed = Incoming(frame({}, lengths=(2**62,)))
    assert claimed.missing == 2**62  # nothing is reserved for what has not come


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"\xff\xff",
        b"\xff" * 16,
        struct.pack(">I", 3) + bytes(35),
        frame({})[:-1],
        frame({}) + b"x",
        frame({}, b"some")[:-1],
        frame({}, b"some") + b"x",
        frame({}, lengths=(2**62,)) + b"x",
    ],
)
def test_bytes_that_are_no_first_frame_are_refused(first: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Incoming(first)


@pytest.mark.parametrize("size", [0, 1, SHORTEST - 1, 3 * SHORTEST + 1])
def test_a_frame_that_is_too_short_or_goes_beyond_its_array_is_refused(size: int) -> None:
    incoming = Incoming(frame({}, lengths=(3 * SHORTEST,)))
    with pytest.raises(ValueError, match=f"a frame of {size} bytes, where {3 * SHORTEST} are left"):
        incoming.add(bytes(size))


def test_data_without_arrays_are_refused() -> None:
    incoming = Incoming(frame({"x": ["arrays", {}]}, b"some"))
    with pytest.raises(ValueError, match="argument 2 is longer"):
        incoming.message()


def test_whatever_the_bytes_are_they_are_a_message_or_refused() -> None:
    rng = random.Random(0)
    whole = Outgoing.of(Message(records(3), 1, "train")).first
    for _ in range(2000):
        garbled = bytearray(whole)
        for _ in range(rng.randrange(1, 5)):
            garbled[rng.randrange(len(garbled))] = rng.randrange(256)
        try:
            incoming = Incoming(bytes(garbled[: rng.randrange(len(garbled) + 1)]), 10**6)
            if incoming.missing == 0:
                incoming.message()
        except ValueError:
            pass
