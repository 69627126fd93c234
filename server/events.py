"""What a run tells while it goes on: lines of Flower's log, which carry what they say as an object too.

A handler of the log that knows these events can show a run as it likes; for any other they are lines.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from logging import INFO, LogRecord
from pathlib import Path
from typing import Any

from flwr.common.logger import log


@dataclass(frozen=True)
class Began:
    """A run is about to do its rounds ``done + 1`` to ``rounds``, or fewer if it may stop at an angle."""

    rounds: int
    done: int
    clients: int
    may_stop: bool


@dataclass(frozen=True)
class Measured:
    """A round's row is complete."""

    row: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """A run has ended as it should, and left its results in a directory."""

    path: Path


Event = Began | Measured | Ended


def tell(text: str, event: Event | None = None) -> None:
    """Write a line to Flower's log, and an event with it."""
    log(INFO, "%s", text, extra={"event": event})


def event_of(record: LogRecord) -> Event | None:
    """Return the event that a line of the log carries, if any."""
    event = getattr(record, "event", None)
    return event if isinstance(event, Event) else None
