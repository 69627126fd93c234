"""Ctrl-C and SIGTERM, heeded where nothing is half done.

Left to itself, Python raises ``KeyboardInterrupt`` between any two steps of the main thread: a lock that was
just taken is never given back, one that was just given back is given back again, and in a destructor the
exception is lost.  A run that is to end with a checkpoint, and to tell its clients, cannot have that.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

LOOK_SECONDS = 0.2
"""Whoever waits looks up so often."""

INSIST_SECONDS = 1.0
"""A signal so long after the first is no echo of it: somebody does not want to wait."""


class _Asked:
    """What has come so far."""

    number: signal.Signals | None = None
    since = 0.0


@contextmanager
def deferred() -> Iterator[None]:
    """Note the signals in this block and let `heed` raise; a second one ends the process on the spot.

    For the main thread.  Signals that the process ignores stay ignored.
    """
    before = {one: signal.getsignal(one) for one in SIGNALS}
    for one, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(one, _note)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        _Asked.number = None


def heed() -> None:
    """Say that the run can be left here.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        When SIGINT or SIGTERM has come.
    """
    if _Asked.number == signal.SIGINT:
        raise KeyboardInterrupt
    if _Asked.number is not None:
        raise SystemExit(128 + _Asked.number)


def wait_for(condition: threading.Condition, holds: Callable[[], object], timeout: float | None) -> bool:
    """Wait for what `threading.Condition.wait_for` waits for, and heed.

    Parameters
    ----------
    timeout
        Seconds, or None for as long as it takes.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        heed()
        left = LOOK_SECONDS if deadline is None else min(deadline - time.monotonic(), LOOK_SECONDS)
        if condition.wait_for(holds, max(left, 0.0)):
            return True
        if left < LOOK_SECONDS:
            return False


def pause(seconds: float) -> None:
    """Sleep for a moment, and heed."""
    time.sleep(seconds)
    heed()


def end_on_the_spot() -> None:
    """Let Ctrl-C end this process where it stands, from now on: it has nothing to write, nobody to tell."""

    def end(*_: object) -> None:
        os.write(sys.stderr.fileno(), b"localgd: interrupted\n")
        os._exit(128 + signal.SIGINT)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, end)


def _note(number: int, _: FrameType | None) -> None:
    if _Asked.number is None:
        _Asked.number, _Asked.since = signal.Signals(number), time.monotonic()
    elif time.monotonic() > _Asked.since + INSIST_SECONDS:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
