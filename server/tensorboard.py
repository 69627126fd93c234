"""The rows of a run as TensorBoard's event files, for those who watch their runs there."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError

FOLDER = "tensorboard"


class EventFile:
    """An event file in a run directory's ``tensorboard``; one that is not enabled does nothing.

    Parameters
    ----------
    path
        The run directory.
    done
        How many rounds there are rows of already: of earlier files TensorBoard forgets those after them.
    enabled
        As the key ``tensorboard`` says.
    """

    def __init__(self, path: Path, done: int, enabled: bool) -> None:
        self._writer: Any = None
        if not enabled:
            return
        check(enabled)
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(path / FOLDER))
        self._add(done + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row: every number in it, under its name."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers(row)]
        self._add(row["round"], summary=Summary(value=values))

    def close(self) -> None:
        """Write what is not yet on disk."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add(self, step: int, **content: object) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, **content))


def check(enabled: bool) -> None:
    """Refuse, before a run starts, to write event files without the package that does.

    Raises
    ------
    UserError
        When it is not installed.
    """
    if not enabled:
        return
    try:
        import tensorboard.summary.writer.event_file_writer  # noqa: F401
    except ImportError:
        raise UserError(
            "tensorboard = true needs the package tensorboard: pip install 'localgd[tensorboard]'"
        ) from None


def numbers(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a row under their names, with ``/`` before those within another."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{before}{name}/")
        elif isinstance(value, int | float) and name != "round":
            yield before + name, float(value)
    if not before:
        yield "missing", float(len(row["missing"]))
