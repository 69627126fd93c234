"""How a message travels: a first frame with all but large arrays, then the bytes of the arrays.

The first frame is the number of blocks that follow (4 bytes), how long the frames of the answer may be
(4 bytes, 0 for any length), the lengths of the blocks (8 bytes each) and a serialised Flower `Message`. A
message with few bytes in its arrays has no blocks and is this one frame. In a larger one the arrays are
empty, and each block is the data of one array, in their order, cut into frames. So a receiver knows what
comes, and how large it is, before it takes it; and messages to many clients share the blocks.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.common.serde_utils import metadata_from_proto, metadata_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from common.records import fill, records

SMALL = 2**15
"""Up to so many bytes, arrays travel in the first frame."""

SHORTEST, LONGEST = 2**16, 2**20
"""Bytes of a frame of a block; its last may be shorter."""

LARGEST_FIRST = 2**24
"""Bytes of a first frame: what is not in arrays, so metrics and configuration."""


class TooLarge(ValueError):
    """A message has more bytes than the receiver takes."""


@dataclass(frozen=True)
class Content:
    """A serialised record dict; made once for all messages that carry it."""

    blocks: tuple[bytes, ...]
    rest: bytes

    @classmethod
    def of(cls, content: RecordDict) -> "Content":
        """Serialise all but large arrays, whose bytes are shared with the content."""
        data = tuple(array.data for array in _arrays(content))
        blocks = data if sum(map(len, data)) > SMALL else ()
        proto = ProtoMessage()
        fill(proto.content, content, with_data=not blocks)
        return cls(blocks, proto.SerializeToString())


@dataclass(frozen=True)
class Outgoing:
    """A message on its way."""

    first: bytes
    blocks: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, message: Message, content: Content | None = None, answer_frames: int = 0) -> "Outgoing":
        """Serialise a message; give its `content` if that is serialised already."""
        if not message.has_content():
            return cls(_prefix((), answer_frames) + message_to_proto(message).SerializeToString())
        content = content or Content.of(message.content)
        own = ProtoMessage(metadata=metadata_to_proto(message.metadata)).SerializeToString()
        return cls(_prefix(content.blocks, answer_frames) + own + content.rest, content.blocks)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.first) + sum(map(len, self.blocks))

    def frames(self, longest: Callable[[], int] = lambda: LONGEST) -> Iterator[bytes]:
        """Cut into frames, of which those after the first have `longest()` bytes at most."""
        yield self.first
        for block in self.blocks:
            view, done = memoryview(block), 0
            while done < len(block):
                count = longest()
                yield block if len(block) <= count and not done else bytes(view[done : done + count])
                done += count


class Incoming:
    """A message that arrives frame by frame.

    Parameters
    ----------
    first
        Its first frame.
    max_bytes
        What the whole message may have.

    Raises
    ------
    TooLarge
        If it has more.
    ValueError
        If the frame is none.
    """

    def __init__(self, first: bytes, max_bytes: int | None = None) -> None:
        self.size = len(first)
        if max_bytes is None or self.size <= max_bytes:
            answer_frames, self._lengths, rest = _taken_apart(first)
            self.size += sum(self._lengths)
        if max_bytes is not None and self.size > max_bytes:
            raise TooLarge(f"{self.size} bytes, at most {max_bytes} are allowed")
        try:
            self._proto = ProtoMessage.FromString(rest)
        except Exception as error:
            raise ValueError(str(error)) from None
        self.answer_frames = min(max(answer_frames or LONGEST, SHORTEST), LONGEST)
        self.missing = sum(self._lengths)
        self._frames: list[bytes] = []
        self._message: Message | None = None
        self._ends = _ends(self._lengths)

    @property
    def message_id(self) -> str:
        """The id of the message."""
        return str(self._proto.metadata.message_id)

    @property
    def reply_to(self) -> str:
        """The id of the message that it answers."""
        return str(self._proto.metadata.reply_to_message_id)

    def add(self, frame: bytes, keep: bool = True) -> None:
        """Take the next frame; it is checked, but not kept, if nobody wants the message."""
        left = self.missing - self._ends[-1] if self._ends else 0
        if not (len(frame) == left or SHORTEST <= len(frame) < left):
            raise ValueError(f"a frame of {len(frame)} bytes, where {left} are left of an array")
        self.missing -= len(frame)
        if len(frame) == left:
            self._ends.pop()
        if keep:
            self._frames.append(frame)

    def message(self) -> Message:
        """The whole message; the same object each time.

        Raises
        ------
        ValueError
            If it is none.
        """
        if self._message is None:
            self._message = self._put_together()
        return self._message

    def _put_together(self) -> Message:
        try:
            if self._proto.HasField("content") and not self._proto.HasField("error"):
                content = records(self._proto.content)
                metadata = metadata_from_proto(self._proto.metadata)
                message: Message = Message(metadata=metadata, content=content)  # type: ignore[call-overload]
            else:
                message = message_from_proto(self._proto)
        except Exception as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        if self._lengths:
            arrays = _arrays(message.content) if message.has_content() else []
            if len(arrays) != len(self._lengths):
                raise ValueError(f"{len(arrays)} arrays, but the bytes of {len(self._lengths)}")
            frames = iter(self._frames)
            for array, length in zip(arrays, self._lengths, strict=True):
                array.data = _joined(frames, length)
            self._frames.clear()
        return message


def _arrays(content: RecordDict) -> list[Array]:
    return [a for record in content.values() if isinstance(record, ArrayRecord) for a in record.values()]


def _prefix(blocks: tuple[bytes, ...], answer_frames: int) -> bytes:
    return struct.pack(f">II{len(blocks)}Q", len(blocks), answer_frames, *map(len, blocks))


def _taken_apart(first: bytes) -> tuple[int, tuple[int, ...], bytes]:
    """The length of the answer's frames, the lengths of the blocks, and the serialised message."""
    count = int.from_bytes(first[:4], "big")
    end = 8 + 8 * count
    if len(first) < end:
        raise ValueError(f"{len(first)} bytes are no first frame")
    _, answer_frames, *lengths = struct.unpack_from(f">II{count}Q", first)
    return answer_frames, tuple(lengths), first[end:]


def _ends(lengths: tuple[int, ...]) -> list[int]:
    """How many bytes are still missing at the end of each block that has any, the first block's last."""
    ends, missing = [], 0
    for length in reversed(lengths):
        if length:
            ends.append(missing)
        missing += length
    return ends


def _joined(frames: Iterator[bytes], length: int) -> bytes:
    parts, count = [], 0
    while count < length:
        parts.append(next(frames))
        count += len(parts[-1])
    return parts[0] if len(parts) == 1 else b"".join(parts)
