"""How a run shows on the console: live on a terminal, else as lines; or its last line only; or as JSON."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from flwr.common.logger import FLOWER_LOGGER
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from common.errors import UserError
from server.events import Began, Ended, Measured, event_of
from server.lines import line

REFRESHES = 4
"""A second.  Between them a round costs the display nothing but a look at its event."""

SHOWN_ROUNDS = (1, 2, 5)
"""Times powers of ten: the rounds whose lines stay above the live display."""


@contextmanager
def shown(quiet: bool = False, as_json: bool = False, console: Console | None = None) -> Iterator[None]:
    """Show on stdout what the runs in this block write to Flower's log.

    On a terminal a display that is kept up to date, below the lines of a few rounds; else every line.
    With ``quiet`` the last line alone, with ``as_json`` one JSON object a round; both put warnings on stderr.

    Raises
    ------
    UserError
        For both at once.
    """
    if quiet and as_json:
        raise UserError("--quiet and --json cannot both be: choose one")
    console = console or Console()
    if quiet or as_json:
        with handled_by(Selected(sys.stdout, sys.stderr, rows=as_json)):
            yield
    elif console.is_terminal and not console.is_dumb_terminal:
        with Display(console) as display, handled_by(display):
            yield
    else:
        with handled_by(Lines(sys.stdout)):
            yield


@contextmanager
def handled_by(handler: logging.Handler) -> Iterator[None]:
    """Give Flower's log to one handler, instead of to where it goes otherwise."""
    handlers, propagate = list(FLOWER_LOGGER.handlers), FLOWER_LOGGER.propagate
    handler.setLevel(logging.INFO)
    FLOWER_LOGGER.handlers[:], FLOWER_LOGGER.propagate = [handler], False
    try:
        yield
    finally:
        FLOWER_LOGGER.handlers[:], FLOWER_LOGGER.propagate = handlers, propagate


class Lines(logging.StreamHandler[TextIO]):
    """Print every line; a reader that has gone, such as `head`, does not end the run."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Print to nowhere from now on, if nobody reads."""
        if isinstance(sys.exception(), BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        else:
            super().handleError(record)


class Selected(Lines):
    """Print rows as JSON, or the last line alone; warnings go to stderr."""

    def __init__(self, out: TextIO, err: TextIO, rows: bool) -> None:
        super().__init__(out)
        self.err, self.rows = err, rows

    def emit(self, record: logging.LogRecord) -> None:
        """Print what was chosen."""
        event = event_of(record)
        if record.levelno >= logging.WARNING:
            print(record.getMessage(), file=self.err, flush=True)
        elif isinstance(event, Measured if self.rows else Ended):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return a round as JSON."""
        event = event_of(record)
        return json.dumps(event.row) if isinstance(event, Measured) else super().format(record)


class Display(logging.Handler):
    """Show the newest round above a bar; lines that are no round's, and those of a few, stay above them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.began: Began | None = None
        self.row: Mapping[str, Any] | None = None
        self.since = time.monotonic()
        self.live = Live(
            console=console, get_renderable=self.render, refresh_per_second=REFRESHES, transient=True
        )

    def __enter__(self) -> "Display":
        """Start to show."""
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the lines, take the display away."""
        self.live.stop()

    def emit(self, record: logging.LogRecord) -> None:
        """Take in an event; print what is to stay."""
        event = event_of(record)
        if isinstance(event, Began):
            self.began, self.row, self.since = event, None, time.monotonic()
        elif isinstance(event, Measured):
            self.row = event.row
            if not self._stays(event.row["round"]):
                return
        elif isinstance(event, Ended):
            self.began = None
        self.console.print(Text(record.getMessage()), soft_wrap=True)

    def render(self) -> Group:
        """Return the display as it is now."""
        if self.began is None or self.row is None:
            return Group()
        number = self.row["round"]
        left = self._left(number - self.began.done)
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            Text(f"round {number} of {self.began.rounds}", style="bold"),
            ProgressBar(total=self.began.rounds, completed=number, width=30),
            f"{left} left or less" if self.began.may_stop else f"{left} left",
            f"{self.row['clients']} of {self.began.clients} clients",
        )
        style = "yellow" if self.row["missing"] else "cyan"
        return Group(Text(line(self.row), style=style), bar)

    def _left(self, done: int) -> str:
        """Say how long the rest takes at the pace so far."""
        assert self.began is not None
        seconds = (
            (time.monotonic() - self.since) / max(done, 1) * (self.began.rounds - self.began.done - done)
        )
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

    def _stays(self, number: int) -> bool:
        assert self.began is not None
        leading, power = int(str(number)[0]), 10 ** (len(str(number)) - 1)
        return number == self.began.rounds or (leading in SHOWN_ROUNDS and number % power == 0)
