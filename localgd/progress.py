"""A progress bar over several runs."""

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from server.report.reading import Row

PAUSE = 0.1
"""Seconds between two looks at a round: to look at each one would take a good part of a short one."""


class Bar:
    """A progress bar over the rounds of all runs; a run that stops early skips the rest of its own."""

    def __init__(self, rounds: int, console: Console) -> None:
        columns = (
            BarColumn(24),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.progress.add_task("", total=rounds)
        self.before, self.title, self.due = 0, "", 0.0

    def __enter__(self) -> "Bar":
        """Start to show; nothing where the console is no terminal."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self.progress.stop()

    def begin(self, title: str) -> None:
        """Name the run that begins."""
        self.title = title
        self.progress.update(self.task, description=escape(title))

    def measured(self, row: Row) -> None:
        """Move on by a round, if there is time to see it."""
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + PAUSE
        certified = row["certified_angle_deg"]
        said = "" if certified is None else f", certified {certified:.3g}°"
        self.progress.update(
            self.task,
            completed=self.before + row["round"],
            description=escape(f"{self.title}: round {row['round']}{said}"),
        )

    def end(self, rounds: int) -> None:
        """Count all rounds of a run as done."""
        self.before += rounds
        self.progress.update(self.task, completed=self.before)
