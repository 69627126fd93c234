"""Files that are on disk whole or not at all, whatever happens to the process that writes them."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".tmp"


@contextlib.contextmanager
def whole(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a file that takes its name, and the place of what has it now, when the block ends well.

    It is on the disk itself by then, its name too.  Of a block that fails nothing is left; of a process that
    is killed in it, at most a hidden file that `remove_leftovers` knows.
    """
    handle, temporary = tempfile.mkstemp(SUFFIX, f".{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_names(path.parent)


def sync_names(folder: Path) -> None:
    """Put the names in a folder on the disk itself."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed has left half-written."""
    for path in folder.glob(f".*{SUFFIX}"):
        path.unlink(missing_ok=True)
