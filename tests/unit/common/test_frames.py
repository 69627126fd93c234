"""Messages cut into frames and put together again, and frames that are none."""

import random
import struct

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecords

from common.frames import LONGEST, SHORTEST, SMALL, Content, Incoming, Outgoing, TooLarge

PREFIX = bytes(8)  # of a message without blocks


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


def test_a_small_message_is_one_frame_of_what_flower_makes_of_it() -> None:
    message = Message(records(5, 7), 3, "train", group_id="7")
    for one in (message, Message(RecordDict(), 3, "train"), Message(Error(2, "why"), reply_to=message)):
        [frame] = Outgoing.of(one).frames()
        assert frame == PREFIX + message_to_proto(one).SerializeToString()
        assert Incoming(frame).size == len(frame) == Outgoing.of(one).size
    received = arrived(Outgoing.of(message)).message()
    assert received.content == message_from_proto(message_to_proto(message)).content == message.content
    assert received.metadata == message.metadata
    for key, record in received.content.items():
        assert [*map(type, record.values())] == [*map(type, message.content[key].values())]


def test_records_and_values_of_no_kind_are_refused() -> None:
    bare, holed = ProtoRecords(), ProtoRecords()
    bare.items.add(key="x")
    holed.items.add(key="x").config_record.items.add(key="y")
    for content, text in ((bare, "record 'x' is of no kind"), (holed, "a value is missing")):
        incoming = Incoming(PREFIX + ProtoMessage(content=content).SerializeToString())
        with pytest.raises(ValueError, match=text):
            incoming.message()


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
    claimed = Incoming(struct.pack(">IIQ", 1, 0, 2**62))
    assert claimed.missing == 2**62  # nothing is reserved for what has not come


@pytest.mark.parametrize(
    "frame", [b"", b"\xff\xff", b"\xff" * 4, PREFIX + b"\xff\xff", struct.pack(">I", 3) + bytes(27)]
)
def test_bytes_that_are_no_first_frame_are_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Incoming(frame)


@pytest.mark.parametrize("size", [0, 1, SHORTEST - 1, 3 * SHORTEST + 1])
def test_a_frame_that_is_too_short_or_goes_beyond_its_array_is_refused(size: int) -> None:
    incoming = Incoming(struct.pack(">IIQ", 1, 0, 3 * SHORTEST))
    with pytest.raises(ValueError, match=f"a frame of {size} bytes, where {3 * SHORTEST} are left"):
        incoming.add(bytes(size))


def test_blocks_without_arrays_and_messages_without_anything_are_refused() -> None:
    for first in (struct.pack(">IIQ", 1, 0, 4), PREFIX):
        incoming = Incoming(first)
        if incoming.missing:
            incoming.add(bytes(4))
        with pytest.raises(ValueError, match=r"."):
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
