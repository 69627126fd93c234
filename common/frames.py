"""How a message travels: a first frame with all but large arrays, then the bytes of the arrays.

A first frame is

- four numbers of 4 bytes: how many arrays there are, how long the frames of the answer may be (0 for any
  length), how long the next two texts are;
- the length in bytes of each array's data, 8 bytes each;
- the message's metadata in JSON, a list in the order of `METADATA`;
- its records in JSON, as `common.records.plain` tells of them, or its error, ``[code, reason]``.

Then come the data of the arrays, in their order: in the first frame, if they are `SMALL` together, else cut
into frames of their own, each block of data by itself. So a receiver knows what comes, and how large it is,
before it takes it; and messages to many clients share the blocks.
"""

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, Error, Message, Metadata, RecordDict

from common.records import as_json, message_of, plain, records

METADATA: dict[str, Any] = {
    "run_id": int,
    "message_id": str,
    "src_node_id": int,
    "dst_node_id": int,
    "reply_to_message_id": str,
    "group_id": str,
    "created_at": float,
    "ttl": int | float,
    "message_type": str,
    "src_task_id": int | None,
    "dst_task_id": int | None,
}
"""What Flower's `Metadata` is made of."""

_HELD = [f"_{name}" for name in METADATA]

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

    text: bytes
    blocks: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, content: RecordDict) -> "Content":
        """Serialise all but the arrays' data, whose bytes are shared with the content."""
        arrays = [record for record in content.values() if isinstance(record, ArrayRecord)]
        return cls(_text(plain(content)), tuple(array.data for record in arrays for array in record.values()))


@dataclass(frozen=True)
class Outgoing:
    """A message on its way."""

    first: bytes
    blocks: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, message: Message, content: Content | None = None, answer_frames: int = 0) -> "Outgoing":
        """Serialise a message; give its `content` if that is serialised already."""
        if message.has_error():
            content = Content(_text([message.error.code, message.error.reason]))
        content = content or Content.of(message.content)
        metadata, lengths = vars(message.metadata), [*map(len, content.blocks)]
        texts = _text([metadata[name] for name in _HELD]), content.text
        sizes = len(lengths), answer_frames, *map(len, texts), *lengths
        start = struct.pack(f">IIII{len(lengths)}Q", *sizes), *texts
        if sum(lengths) > SMALL:
            return cls(b"".join(start), content.blocks)
        return cls(b"".join((*start, *content.blocks)))

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

    Attributes
    ----------
    size
        Bytes in all.
    missing
        Bytes that have not come yet.
    answer_frames
        How long the frames of the answer may be.
    message_id, reply_to
        The ids of the message, and of the one that it answers.
    """

    def __init__(self, first: bytes, max_bytes: int | None = None) -> None:
        self.size = len(first)
        if max_bytes is None or self.size <= max_bytes:
            answer_frames, self._lengths, metadata, self._text, self._frames = _taken_apart(first)
            self.missing = 0 if self._frames else sum(self._lengths)
            self.size += self.missing
        if max_bytes is not None and self.size > max_bytes:
            raise TooLarge(f"{self.size} bytes, at most {max_bytes} are allowed")
        self._metadata = _metadata(_parsed(metadata))
        self.message_id: str = self._metadata["message_id"]
        self.reply_to: str = self._metadata["reply_to_message_id"]
        self.answer_frames = min(max(answer_frames or LONGEST, SHORTEST), LONGEST)
        self._message: Message | None = None
        self._ends = _ends(self._lengths) if self.missing else []

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
            try:
                self._message = self._put_together()
            except Exception as error:  # whatever a stranger's lists and texts can raise
                raise ValueError(f"{type(error).__name__}: {error}") from None
        return self._message

    def _put_together(self) -> Message:
        metadata, told = Metadata(**self._metadata), _parsed(self._text)
        if type(told) is list:
            code, reason = told
            if not (type(code) is int and isinstance(reason, str | None)):
                raise TypeError(f"{told} is no error")
            return message_of(metadata, None, Error(code, reason))
        content, arrays = records(told)
        frames = iter(self._frames)
        for array, length in zip(arrays, self._lengths, strict=True):
            array.data = _joined(frames, length)
        self._frames.clear()
        return message_of(metadata, content)


def _metadata(told: Any) -> dict[str, Any]:
    if not (
        type(told) is list and len(told) == len(METADATA) and all(map(isinstance, told, METADATA.values()))
    ):
        raise ValueError(f"{told!r:.200} are not the metadata of a message")
    return dict(zip(METADATA, told, strict=True))


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=as_json).encode


def _text(value: object) -> bytes:
    return _encode(value).encode()


def _parsed(text: bytes) -> Any:
    try:
        value = json.loads(text.decode())
    except RecursionError:
        raise ValueError("lists in lists without end") from None
    if b"\\u" in text:
        _text(value)  # refuses halves of characters, which nothing could write down
    return value


def _taken_apart(first: bytes) -> tuple[int, tuple[int, ...], bytes, bytes, list[bytes]]:
    """The length of the answer's frames, those of the blocks, metadata, text, and blocks that are here."""
    count = int.from_bytes(first[:4], "big")
    end = 16 + 8 * count
    if len(first) < end:
        raise ValueError(f"{len(first)} bytes are no first frame")
    _, answer_frames, *sizes = struct.unpack_from(f">IIII{count}Q", first)
    here, lengths = sum(sizes[2:]) <= SMALL, tuple(sizes[2:])
    parts = []
    for size in sizes if here else sizes[:2]:
        parts.append(first[end : end + size])
        end += size
    if len(first) != end:
        raise ValueError(f"a first frame of {len(first)} bytes, where {end} were announced")
    metadata, text, *blocks = parts
    return answer_frames, lengths, metadata, text, blocks


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
